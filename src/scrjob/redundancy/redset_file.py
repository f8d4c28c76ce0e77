# SPDX-License-Identifier: BSD-3-Clause
"""A typed redundancy file as a whole: the header, and the payload right behind it.

Source: docs/formats/redundancy-header.md.
"""

from __future__ import annotations

import contextlib
import os

from scrjob.formats import kvtree, redset_header
from scrjob.redundancy.logical import (
    WRITEBACK_BYTES,
    create_new,
    open_regular,
    read_exactly,
    write_exactly,
)


class RedsetReader:
    """A redundancy file, open for reading.

    Attributes: ``path``; ``header``; ``payload_bytes``, how many there are behind the header.

    Raises:
        FormatError and children: the header is damaged, or it is no regular file.
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = open_regular(path)
        try:
            with open(self._fd, "rb", closefd=False) as file:
                tree, self._start = kvtree.read_image(file, path)
            self.header = redset_header.decode(tree, path)
            self.payload_bytes = os.fstat(self._fd).st_size - self._start
        except BaseException:
            self.close()
            raise

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


class RedsetWriter:
    """A new redundancy file under a temporary name; ``commit`` gives it its own.

    Args:
        path: the final name.
        header: what comes first.
        temporary: a name in the same directory; replaced if it exists.
    """

    def __init__(self, path: str, header: redset_header.Header, temporary: str) -> None:
        image = kvtree.encode(redset_header.encode(header))
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

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._fd)

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
