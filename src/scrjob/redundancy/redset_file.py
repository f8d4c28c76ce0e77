# SPDX-License-Identifier: BSD-3-Clause
"""A typed redundancy file as a whole: the header, and the payload right behind it.

Source: docs/formats/redundancy-header.md.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Callable, Dict, NamedTuple, Optional

from scrjob.formats import header_image, kvtree, redset_header
from scrjob.redundancy.logical import (
    WRITEBACK_BYTES,
    create_new,
    open_regular,
    read_exactly,
    write_exactly,
)

if TYPE_CHECKING:
    from scrjob.redundancy.openfiles import OpenFiles

HELD_FILES = 200_000
"""Files in headers that are kept in memory, about 500 bytes each."""


class Head(NamedTuple):
    """What is in a redundancy file: its header, where the payload begins, and bytes of that."""

    header: redset_header.Header
    start: int
    payload_bytes: int


ReadHead = Callable[[str], Head]
"""Gives what is in a redundancy file; raises as ``RedsetReader`` does."""


def read_head(path: str) -> Head:
    """Return what is in a redundancy file; raises as ``RedsetReader`` does."""
    with contextlib.closing(RedsetReader(path)) as reader:
        return reader.head


class Heads:
    """``read_head`` that remembers, up to a limit: a header may name very many files.

    For files that nobody changes meanwhile.
    """

    def __init__(self, limit: int = HELD_FILES) -> None:
        self._room = limit
        self._known: Dict[str, Head] = {}

    def __call__(self, path: str) -> Head:
        """Return what is in a redundancy file."""
        known = self._known.get(path)
        if known is None:
            known = read_head(path)
            weight = sum(1 + len(member.files) for member in known.header.members.values())
            if weight <= self._room:
                self._room -= weight
                self._known[path] = known
        return known


class RedsetReader:
    """A redundancy file, open for reading.

    Attributes: ``path``; ``head``, with ``header`` and ``payload_bytes`` also by themselves.

    Args:
        path: where it is.
        head: what is in it, if that is known.

    Raises:
        FormatError and children: the header is damaged, or it is no regular file.
        OSError: it cannot be read.
    """

    def __init__(self, path: str, head: Optional[Head] = None) -> None:
        self.path = path
        self._fd = open_regular(path)
        try:
            self.head = self._read() if head is None else head
        except BaseException:
            self.close()
            raise
        self.header, self._start, self.payload_bytes = self.head

    def _read(self) -> Head:
        with open(self._fd, "rb", closefd=False) as file:
            image = kvtree.read_image_bytes(file, self.path)
        header = header_image.decode(image, self.path)
        return Head(header, len(image), os.fstat(self._fd).st_size - len(image))

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset`` in the payload; in any thread.

        Raises:
            FormatError: the file ends before.
        """
        read_exactly(self._fd, self._start + offset, view, self.path)

    def close(self) -> None:
        """Close the file; again is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Payload:
    """What follows the header of a redundancy file, read in any thread: of very many files, few are open.

    Args:
        path: where it is.
        head: what is in it.
        files: keeps descriptors.
    """

    def __init__(self, path: str, head: Head, files: OpenFiles) -> None:
        self._path = path
        self._start = head.start
        self._files = files

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``; raises as ``LogicalReader.readinto`` does."""
        fd = self._files.take(self._path, open_regular)
        try:
            read_exactly(fd, self._start + offset, view, self._path)
        finally:
            self._files.give(self._path)


class RedsetWriter:
    """A new redundancy file under a temporary name; ``commit`` gives it its own.

    Args:
        path: the final name.
        header: what comes first.
        temporary: a name in the same directory; replaced if it exists.
    """

    def __init__(self, path: str, header: redset_header.Header, temporary: str) -> None:
        image = header_image.encode(header)
        self._path = path
        self._temporary = temporary
        self._start = len(image)
        self._fd = create_new(temporary, 0o666)
        write_exactly(self._fd, 0, memoryview(image))

    def write(self, offset: int, view: memoryview) -> None:
        """Write ``view`` at ``offset`` in the payload; any order, any thread."""
        write_exactly(self._fd, self._start + offset, view)
        if len(view) >= WRITEBACK_BYTES:
            os.posix_fadvise(self._fd, self._start + offset, len(view), os.POSIX_FADV_DONTNEED)

    def sync(self) -> int:
        """Make what was written durable; returns when it was last changed, in nanoseconds."""
        os.fsync(self._fd)
        return os.fstat(self._fd).st_mtime_ns

    def commit(self) -> None:
        """Make the file durable and give it its name; what had the name is replaced."""
        self.sync()
        os.replace(self._temporary, self._path)
        self._temporary = ""
        self.close()

    def close(self) -> None:
        """Close the file, and remove it unless it was committed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = ""
