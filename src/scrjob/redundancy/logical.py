# SPDX-License-Identifier: BSD-3-Clause
"""A member's files seen as one: the logical file that redundancy is computed over.

The files follow each other in their recorded order with their recorded sizes. Reading beyond the end
gives zeros, writing beyond it is dropped: that is the padding to whole chunks.

Source: docs/formats/redundancy.md, "logical file".
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from bisect import bisect_right
from itertools import accumulate
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

from scrjob._crc import crc32
from scrjob.errors import FormatError

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Part(NamedTuple):
    """One file of a logical file: where it lies and its recorded size in bytes."""

    path: str
    size: int


def open_regular(path: str) -> int:
    """Return a descriptor of a regular file for reading; links, FIFOs and devices are refused.

    Raises:
        FormatError: it is no regular file.
        OSError: it cannot be opened; ELOOP for a symbolic link.
    """
    fd = os.open(path, READ_FLAGS)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FormatError("not a regular file", path=path)
    return fd


class _Concatenation(ABC):
    """What reading and writing share: which part of which file a range of bytes is."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self._ends = list(accumulate(part.size for part in self.parts))
        self.size = self._ends[-1] if self._ends else 0
        self._fd = -1
        self._index = -1  # which part is open; one at a time keeps descriptors few

    def _pieces(self, offset: int, length: int) -> Iterator[Tuple[int, int, int]]:
        """Give (part index, offset in that part, bytes) for a range that ends within the size."""
        index = bisect_right(self._ends, offset)
        while length > 0:
            room = self._ends[index] - offset
            take = min(room, length)
            if take:
                yield index, offset - (self._ends[index] - self.parts[index].size), take
            offset += take
            length -= take
            index += 1

    @abstractmethod
    def _open(self, path: str) -> int: ...

    def _descriptor(self, index: int) -> int:
        if index != self._index:
            self.close()
            self._fd = self._open(self.parts[index].path)
            self._index = index
        return self._fd

    def close(self) -> None:
        """Close the file that is open, if any; the object can be used again."""
        if self._fd >= 0:
            fd, self._fd, self._index = self._fd, -1, -1
            os.close(fd)


class LogicalReader(_Concatenation):
    """Read a logical file anywhere. ``size``: its bytes without padding."""

    def _open(self, path: str) -> int:
        return open_regular(path)

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` (bytes, writable) from ``offset``; zeros beyond the end.

        Raises:
            FormatError: a file is shorter than recorded, or no regular file.
            OSError: a file cannot be read.
        """
        wanted = max(0, min(len(view), self.size - offset))
        at = 0
        for index, start, length in self._pieces(offset, wanted):
            read_exactly(
                self._descriptor(index), start, view[at : at + length], self.parts[index].path
            )
            at += length
        if wanted < len(view):
            view[wanted:] = bytes(len(view) - wanted)


class LogicalWriter(_Concatenation):
    """Write a logical file front to back into new files. What lies beyond the size is dropped.

    ``crcs``: the CRC32 of each part, right once all bytes were written.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        self.crcs = [0] * len(self.parts)
        self._position = 0

    def create(self) -> None:
        """Create all files, empty; an older file of the same name is removed first."""
        for part in self.parts:
            os.close(create_new(part.path))

    def _open(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, offset: int, view: memoryview) -> None:
        """Write ``view`` at ``offset``, which must be where the last call ended.

        Raises:
            ValueError: it is not.
            OSError: a file cannot be written.
        """
        if offset != self._position:
            raise ValueError(f"expected a write at {self._position}, got one at {offset}")
        self._position += len(view)
        wanted = max(0, min(len(view), self.size - offset))
        at = 0
        for index, start, length in self._pieces(offset, wanted):
            piece = view[at : at + length]
            write_exactly(self._descriptor(index), start, piece)
            self.crcs[index] = crc32(piece, self.crcs[index])
            at += length

    def close(self) -> None:
        """Make the open file durable and close it."""
        if self._fd >= 0:
            os.fsync(self._fd)
        super().close()


def read_exactly(fd: int, offset: int, view: memoryview, path: str) -> None:
    """Fill ``view`` from an open file at ``offset``.

    Raises:
        FormatError: the file ends before.
    """
    done = 0
    while done < len(view):
        got = os.preadv(fd, [view[done:]], offset + done)
        if got == 0:
            raise FormatError(
                f"ends too early: expected {len(view) - done} more bytes",
                path=path,
                offset=offset + done,
            )
        done += got


def write_exactly(fd: int, offset: int, view: memoryview) -> None:
    """Write all of ``view`` to an open file at ``offset``."""
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def create_new(path: str, mode: int = 0o600, *, dir_fd: Optional[int] = None) -> int:
    """Return a descriptor of a new, empty file for writing; what had this name is removed first."""
    try:
        return os.open(path, WRITE_FLAGS, mode, dir_fd=dir_fd)
    except FileExistsError:
        os.unlink(path, dir_fd=dir_fd)  # left by a process that was killed
        return os.open(path, WRITE_FLAGS, mode, dir_fd=dir_fd)
