# SPDX-License-Identifier: BSD-3-Clause
"""A member's files seen as one: the logical file that redundancy is computed over.

The files follow each other in their recorded order with their recorded sizes. Reading beyond the end
gives zeros, writing beyond it is dropped: that is the padding to whole chunks.

Source: docs/formats/redundancy.md, "logical file".
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from itertools import accumulate
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from scrjob._crc import combine, crc32, rest_of
from scrjob.errors import FormatError
from scrjob.redundancy.openfiles import OpenFiles

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITEBACK_BYTES = 256 << 10  # pieces from this size on are sent to the disk at once
SHOWN = 9  # ranges in a message
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
    return open_and_look(path)[0]


def open_and_look(path: str) -> tuple[int, os.stat_result]:
    """Do as ``open_regular``; returns also what it found."""
    fd = os.open(path, READ_FLAGS)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FormatError("not a regular file", path=path)
    return fd, status


def file_crc(path: str) -> int:
    """Return the CRC32 of a regular file's bytes."""
    fd = open_regular(path)
    try:
        return rest_of(fd)
    finally:
        os.close(fd)


class _Concatenation:
    """What reading and writing share: which part of which file a range of bytes is."""

    def __init__(self, parts: Sequence[Part], files: Optional[OpenFiles] = None) -> None:
        self.parts = list(parts)
        self._ends = list(accumulate(part.size for part in self.parts))
        self.size = self._ends[-1] if self._ends else 0
        self._files = OpenFiles(1) if files is None else files
        self._owns_files = files is None

    def _pieces(self, offset: int, length: int) -> Iterator[Tuple[int, int, int]]:
        """Give (part index, offset in that part, bytes) for a range, as far as it is within the size."""
        length = min(length, self.size - offset)
        index = bisect_right(self._ends, offset)
        while length > 0:
            room = self._ends[index] - offset
            take = min(room, length)
            if take:
                yield index, offset - (self._ends[index] - self.parts[index].size), take
            offset += take
            length -= take
            index += 1

    def close(self) -> None:
        """Close what is open, unless others use it too; the object can be used again."""
        if self._owns_files:
            self._files.close()


class LogicalReader(_Concatenation):
    """Read a logical file anywhere, in any thread. ``size``: its bytes without padding.

    Args:
        parts: its files.
        files: keeps descriptors, for several readers together; by default one for this reader alone.
    """

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` (bytes, writable) from ``offset``; zeros beyond the end.

        Raises:
            FormatError: a file is shorter than recorded, or no regular file.
            OSError: a file cannot be read.
        """
        at = 0
        for index, start, length in self._pieces(offset, len(view)):
            path = self.parts[index].path
            fd = self._files.take(path, open_regular)
            try:
                read_exactly(fd, start, view[at : at + length], path)
            finally:
                self._files.give(path)
            at += length
        if at < len(view):
            view[at:] = bytes(len(view) - at)


class LogicalWriter(_Concatenation):
    """Write a logical file in any order, in any thread, into new files.

    What lies beyond the size is dropped. Every byte must be written once.

    Args:
        parts: its files.
        files: keeps descriptors, as for ``LogicalReader``.
    """

    def __init__(self, parts: Sequence[Part], files: Optional[OpenFiles] = None) -> None:
        super().__init__(parts, files)
        self._checksums = [_Checksum() for _ in self.parts]

    @property
    def crcs(self) -> list[int]:
        """Return the CRC32 of each part.

        Raises:
            ValueError: a part was not written once from its begin to its end.
        """
        return [one.of(part.size) for one, part in zip(self._checksums, self.parts)]

    def create(self) -> None:
        """Create all files, empty; an older file of the same name is removed first."""
        for part in self.parts:
            os.close(create_new(part.path))

    def write(self, offset: int, view: memoryview) -> None:
        """Write ``view`` at ``offset``.

        Raises:
            OSError: a file cannot be written.
        """
        at = 0
        for index, start, length in self._pieces(offset, len(view)):
            piece = view[at : at + length]
            path = self.parts[index].path
            fd = self._files.take(path, _open_to_write)
            try:
                write_exactly(fd, start, piece)
                if length >= WRITEBACK_BYTES:
                    # On its way to the disk now, not when fsync waits for it.
                    os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
            finally:
                self._files.give(path)
            self._checksums[index].add(start, piece)
            at += length


class _Run(NamedTuple):
    """Bytes of one file behind each other that were written: from where to where, and their CRC32."""

    start: int
    end: int
    crc: int


class _Checksum:
    """The CRC32 of a file that several threads write, each from front to back in its own range.

    There are about as many runs as threads: those that touch each other are joined.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_start: Dict[int, _Run] = {}
        self._by_end: Dict[int, _Run] = {}

    def add(self, start: int, piece: memoryview) -> None:
        """Take in a piece that was written."""
        with self._lock:
            run = self._take(self._by_end.get(start)) or _Run(start, start, 0)
        # Other threads go on meanwhile: nobody else knows this run now.
        run = _Run(run.start, start + len(piece), crc32(piece, run.crc))
        with self._lock:
            before = self._take(self._by_end.get(run.start))
            after = self._take(self._by_start.get(run.end))
            run = _join(before, run) if before else run
            run = _join(run, after) if after else run
            self._by_start[run.start] = self._by_end[run.end] = run

    def _take(self, run: Optional[_Run]) -> Optional[_Run]:
        if run is not None:
            del self._by_start[run.start], self._by_end[run.end]
        return run

    def of(self, size: int) -> int:
        """Return the checksum of the whole.

        Raises:
            ValueError: not every byte was written once.
        """
        runs = list(self._by_start.values()) or [_Run(0, 0, 0)]
        if len(runs) != 1 or runs[0][:2] != (0, size):
            ranges = [run[:2] for run in runs[:SHOWN]]
            raise ValueError(f"expected {size} bytes to be written once, got {ranges}")
        return runs[0].crc


def _join(first: _Run, second: _Run) -> _Run:
    crc = combine(first.crc, second.crc, second.end - second.start)
    return _Run(first.start, second.end, crc)


def _open_to_write(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


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
