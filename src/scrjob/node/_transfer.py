# SPDX-License-Identifier: BSD-3-Clause
"""Copy one file so that its destination is the old one or the whole new one, never a part.

The bytes go to a temporary name in the destination's directory, their CRC32 is taken on the way, and
only a file that is complete, durable and has the right size and checksum gets its name.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob._crc import crc32
from scrjob.errors import FormatError
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.logical import create_new, open_regular

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileStat

PRIVATE = 0o600  # of a temporary file until its own mode is applied
PUBLIC = 0o666  # of files without a recorded mode, before the umask


class Copied(NamedTuple):
    """A finished copy: bytes, CRC32 (None if not computed), the attributes that could not be set."""

    size: int
    crc: Optional[int]
    mtime_ns: int
    complaints: tuple[str, ...]


def copy_file(
    source: str,
    destination: str,
    temporary: str,
    *,
    buffer: memoryview,
    attributes: FileStat,
    crc: Optional[int] = None,
    checksum: bool = True,
) -> Copied:
    """Copy a regular file.

    Args:
        source: must be a regular file itself, no link to one.
        destination: replaced if it exists.
        temporary: name in the same directory, replaced if it exists, gone afterwards.
        buffer: working space; its length is the memory used.
        attributes: applied to the copy; its size, if recorded, is checked.
        crc: CRC32 that is expected; None: any.
        checksum: compute the CRC32; without, the kernel may copy by itself.

    Raises:
        FormatError: not a regular file, or size or CRC32 differ; the destination is as it was.
        OSError: reading or writing failed; the destination is as it was.
    """
    source_fd = open_regular(source)
    try:
        mode = PUBLIC if attributes.mode is None else PRIVATE
        target_fd = create_new(temporary, mode)
        try:
            total, found = _pump(source_fd, target_fd, buffer, checksum=checksum or crc is not None)
            _check(source, "bytes", attributes.size_bytes, total, FormatError)
            # Some kernels end a copy between file systems early, and say nothing.
            _check(source, "bytes", os.fstat(source_fd).st_size, total, FormatError)
            _check(source, "CRC32", crc, found, CrcMismatchError)
            complaints = apply_attributes(target_fd, attributes)
            os.fsync(target_fd)
            mtime_ns = os.fstat(target_fd).st_mtime_ns
            os.replace(temporary, destination)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
    return Copied(total, found, mtime_ns, complaints)


class CrcMismatchError(FormatError):
    """The bytes are not those that were written: the recorded CRC32 differs."""


def _check(
    path: str, what: str, wanted: Optional[int], got: Optional[int], kind: type[FormatError]
) -> None:
    if wanted is not None and got != wanted:
        raise kind(f"{what}: expected {wanted}, got {got}", path=path)


def _pump(
    source_fd: int, target_fd: int, buffer: memoryview, *, checksum: bool
) -> tuple[int, Optional[int]]:
    if not checksum:
        total = _kernel_copy(source_fd, target_fd)
        if total is not None:
            return total, None
    crc = 0
    total = 0
    while True:
        got = os.readv(source_fd, [buffer])
        if got == 0:
            return total, crc if checksum else None
        piece = buffer[:got]
        if checksum:
            crc = crc32(piece, crc)
        while piece:
            piece = piece[os.write(target_fd, piece) :]
        total += got


def _kernel_copy(source_fd: int, target_fd: int) -> Optional[int]:
    """Copy inside the kernel; None if these file systems do not take part."""
    total = 0
    while True:
        try:
            got = os.copy_file_range(source_fd, target_fd, 1 << 30)
        except OSError:
            if total:
                raise
            return None
        if got == 0:
            return total
        total += got
