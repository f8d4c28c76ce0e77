# SPDX-License-Identifier: BSD-3-Clause
"""One file on its way, so that its destination is the old one or the whole new one, never a part.

The bytes go to a temporary name in the destination's directory, in parts and by several threads if there
are many; their CRC32 is taken on the way. Only a file that has the right size and checksum, and whose
source stayed as it was, may get its name; ``_batch`` gives it when the bytes are durable.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from scrjob._crc import combine, crc32
from scrjob.errors import FormatError, ScrError
from scrjob.redundancy.attributes import set_attributes
from scrjob.redundancy.logical import create_new, open_and_look

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileStat

PRIVATE = 0o600  # of a file that will belong to somebody else, until it does
PUBLIC = 0o666  # of files without a recorded mode, before the umask
TINY_BYTES = 64 << 10  # up to here a file is read at once; it stays in the processor's cache
PART_BYTES = 16 << 20  # what one thread copies of a file before it takes another part
SYNC_BYTES = 32 * PART_BYTES  # so much may wait for the disk: the last sync is no long silence


class CrcMismatchError(FormatError):
    """The bytes are not those that were written: the recorded CRC32 differs."""


class StoppedError(ScrError):
    """The copy was told to stop."""


class Source(NamedTuple):
    """A regular file in cache, open for reading, and its size and time when it was opened."""

    path: str
    fd: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def open(cls, path: str) -> Source:
        """Open it.

        Raises:
            FormatError: no regular file.
            OSError: it cannot be opened; ELOOP for a link.
        """
        fd, status = open_and_look(path)
        return cls(path, fd, status.st_size, status.st_mtime_ns)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


class Place:
    """A directory in the prefix, open, so that nobody can put a link in its way.

    Attributes:
        path: absolute, for messages.
        fd: descriptor; opened before anything is written, so that syncfs tells of all errors since.
        device: which file system.
        owner: to whom a file belongs that is created there: user and group.
    """

    __slots__ = ("_relative", "device", "fd", "owner", "path")

    def __init__(self, path: str, relative: str) -> None:
        self.path = path
        self._relative = "" if relative == "." else relative + "/"
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.fd).st_dev
        self.owner = os.geteuid(), os.getegid()

    def relative(self, name: str) -> str:
        """Return the path of a file in it as rank2file has it: relative to the prefix."""
        return self._relative + name

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


class Transfer:
    """One file: ``create``, then ``move`` for all its bytes, ``finish``, and at last ``settle``.

    Args:
        source: what to copy; closed by ``finish`` or ``discard``.
        place: directory of the destination.
        name: of the destination there; what has it is replaced.
        temporary: name until then, in the same directory.
        attributes: applied to the copy; its size, if recorded, is checked.
        crc: CRC32 that is expected; None: any.
        checksum: compute the CRC32; without, and with none expected, the kernel may copy by itself.
        is_counted: one of the files that the copy tells the number of.

    Attributes:
        error: why it failed; nothing of it is left then, and its destination is as it was.
        found: CRC32 of the copy, None if it was not computed.
        mtime_ns: of the copy.
        complaints: the attributes that could not be set, one line for each.
        durable: the bytes are.
        left: parts that are not done, for ``_crew``.
        size: bytes that the source had when it was opened.
    """

    __slots__ = (
        *("attributes", "checksum", "complaints", "crc", "durable", "error", "found", "is_counted"),
        *("left", "mtime_ns", "name", "place", "size", "source", "temporary"),
        *("_crcs", "_is_open", "_target"),
    )

    def __init__(
        self,
        source: Source,
        place: Place,
        name: str,
        temporary: str,
        *,
        attributes: FileStat,
        crc: Optional[int],
        checksum: bool,
        is_counted: bool,
    ) -> None:
        self.source = source
        self.size = source.size_bytes
        self.place = place
        self.name = name
        self.temporary = temporary
        self.attributes = attributes
        self.crc = crc
        self.checksum = checksum or crc is not None
        self.is_counted = is_counted
        self.error: Optional[Exception] = None
        self.found: Optional[int] = None
        self.mtime_ns = 0
        self.complaints: tuple[str, ...] = ()
        self.durable = False
        self.left = 0
        self._crcs: dict[int, tuple[int, int]] = {}
        self._is_open = True
        self._target = -1

    @property
    def target(self) -> str:
        """Return the path of the destination, for messages."""
        return os.path.join(self.place.path, self.name)

    def create(self) -> None:
        """Create the temporary file."""
        wanted = self.attributes
        mode = PRIVATE
        if wanted.mode is None:
            mode = PUBLIC
        elif (wanted.uid, wanted.gid) in (self.place.owner, (None, None)):
            mode |= wanted.mode & 0o777  # most often spares a chmod
        self._target = create_new(self.temporary, mode, dir_fd=self.place.fd)

    def move(
        self, start: int, end: int, buffer: memoryview, account: Callable[[int], None]
    ) -> None:
        """Copy a range of bytes.

        Args:
            start: first byte.
            end: the one behind the last.
            buffer: working space; no more is copied at once.
            account: called before each piece with its bytes; may wait, or raise StoppedError.

        Raises:
            FormatError: the source ends before.
            OSError: reading or writing failed.
        """
        position = start
        if not self.checksum:
            position = self._kernel_move(start, end, len(buffer), account)
        elif end - start == self.size <= TINY_BYTES and end <= len(buffer):  # it is all
            account(end)
            data = os.pread(self.source.fd, end, 0)
            self.found = crc32(data)
            if len(data) == end == os.pwrite(self._target, data, 0):
                return
        crc = 0
        while position < end:
            want = min(len(buffer), end - position)
            account(want)
            got = os.preadv(self.source.fd, [buffer[:want]], position)
            if got == 0:
                self._check_unchanged()
                raise FormatError(f"bytes: expected {end}, got {position}", path=self.source.path)
            piece = buffer[:got]
            if self.checksum:
                crc = crc32(piece, crc)
            while piece:
                done = os.pwrite(self._target, piece, position)
                piece = piece[done:]
                position += done
        self._crcs[start] = crc, end - start

    def _kernel_move(self, start: int, end: int, piece: int, account: Callable[[int], None]) -> int:
        """Copy inside the kernel; returns where it ended: at the start if it does not take part."""
        position = start
        while position < end:
            want = min(piece, end - position)
            account(want)
            try:
                got = os.copy_file_range(self.source.fd, self._target, want, position, position)
            except OSError:
                if position > start:
                    raise
                return start
            if got == 0:  # some kernels end a copy between file systems early, and say nothing
                raise FormatError(f"bytes: expected {end}, got {position}", path=self.source.path)
            position += got
        return position

    def start_writing(self, start: int, end: int) -> None:
        """Let the kernel write a range to disk, without waiting; now and then wait for it."""
        os.posix_fadvise(self._target, start, end - start, os.POSIX_FADV_DONTNEED)
        if end % SYNC_BYTES == 0:
            os.fdatasync(self._target)

    def finish(self, *, durable: bool) -> None:
        """Check what was copied, set its attributes, and close it.

        Args:
            durable: make the bytes durable, too.

        Raises:
            FormatError: size or CRC32 differ, or the source changed meanwhile.
            OSError: writing failed.
        """
        source = self.source
        if self.attributes.size_bytes not in (None, self.size):
            raise _other_size(source.path, self.attributes.size_bytes, self.size)
        if self.checksum and self._crcs:
            self.found = 0
            for start in sorted(self._crcs):
                self.found = combine(self.found, *self._crcs[start])
        self._check_unchanged()
        if self.crc is not None and self.crc != self.found:
            raise CrcMismatchError(
                f"CRC32: expected {self.crc}, got {self.found}", path=source.path
            )
        self.complaints, status = set_attributes(self._target, self.attributes)
        if durable:
            os.fsync(self._target)
            status = os.fstat(self._target)
        if status.st_size != self.size:
            raise _other_size(source.path, self.size, status.st_size)
        self.mtime_ns = status.st_mtime_ns
        self.durable = durable
        self._close()

    def _check_unchanged(self) -> None:
        source = self.source
        status = os.fstat(source.fd)
        if status.st_size != source.size_bytes or status.st_mtime_ns != source.mtime_ns:
            raise FormatError("was changed while it was copied", path=source.path)

    def make_durable(self) -> None:
        """Make a finished file durable after all, before it gets its name."""
        fd = os.open(
            self.temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.place.fd
        )
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.durable = True

    def settle(self) -> None:
        """Give it its name."""
        os.replace(self.temporary, self.name, src_dir_fd=self.place.fd, dst_dir_fd=self.place.fd)

    def discard(self, error: Exception) -> None:
        """Note why it failed, if that is not known yet, and leave nothing of it."""
        self.error = self.error or error
        was_created = self._target >= 0 or not self._is_open
        self._close()
        if was_created:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary, dir_fd=self.place.fd)

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        target, self._target = self._target, -1
        try:
            os.close(self.source.fd)
        finally:
            if target >= 0:
                os.close(target)


def _other_size(path: str, wanted: Optional[int], got: int) -> FormatError:
    return FormatError(f"bytes: expected {wanted}, got {got}", path=path)
