# SPDX-License-Identifier: BSD-3-Clause
"""Files: atomic replacement, locked update in place, bounded reading, private directories.

The one place that knows how scrjob keeps a half-written file from being seen.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import IO, TYPE_CHECKING, Iterator, Union

from scrjob.errors import FormatError, UnsafePathError

if TYPE_CHECKING:
    StrPath = Union[str, "os.PathLike[str]"]

METADATA_LIMIT_BYTES = 1 << 30  # the largest metadata file that is read into memory
MORE_BYTES = 1 << 16  # that are read at a time of a file that turns out to be longer
PRIVATE_MODE = 0o700


def fsync_dir(path: StrPath) -> None:
    """Make the entries of a directory durable; file systems that cannot are left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(fd)


_SYNC_TELLS_SINCE = (5, 8)
"""Linux whose syncfs(2) returns an error if writing failed since the descriptor was opened (its manual)."""

_SYNCED_WHOLE = frozenset(
    (
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # XFS
        0x9123683E,  # btrfs
        0x01021994,  # tmpfs: nothing to sync
    )
)
"""File systems of this machine whose syncfs does all that fsync of each file does (statfs(2)). Not overlays,
FUSE and network file systems: some of them do not write everything, or do not tell."""


def syncs_all_and_tells(fd: int) -> bool:
    """Tell whether ``sync_filesystem`` makes all files of this one's file system durable, or raises."""
    import ctypes  # noqa: PLC0415 - costs as much as all else; only callers with many files come here

    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < _SYNC_TELLS_SINCE:
        return False
    status = (ctypes.c_long * 64)()  # struct statfs begins with f_type; it has at most 120 bytes
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.fstatfs(fd, status) == 0 and status[0] in _SYNCED_WHOLE


def sync_filesystem(fd: int) -> None:
    """Make all that was written to a file system durable.

    Args:
        fd: opened before the writes that matter; of which ``syncs_all_and_tells`` is true.

    Raises:
        OSError: something that was written since could not be.
    """
    import ctypes  # noqa: PLC0415 - see above

    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def atomic_write(path: StrPath, data: bytes, *, mode: int = 0o666) -> None:
    """Replace or create a file so that a reader sees the old bytes or the new ones, never a mix.

    Args:
        path: target; a symbolic link at this place is replaced, not followed.
        data: the whole new content.
        mode: permission bits of the file before the umask.

    Raises:
        OSError: nothing was changed, no temporary file is left.
    """
    import tempfile  # noqa: PLC0415 - a third of the start-up of commands that only read

    directory = os.path.dirname(os.path.abspath(path))
    fd, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode & ~_umask())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(directory)


def _umask() -> int:
    """Return the process's umask; read from /proc because os.umask() would change it for a moment."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077


def read_bounded(path: StrPath, *, limit: int = METADATA_LIMIT_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        FormatError: it is larger than ``limit`` bytes, or no regular file.
        OSError: it cannot be opened or read (FileNotFoundError if absent).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError("not a regular file", path=os.fspath(path))
        # Memory is taken for all that is asked for.
        data = os.read(fd, min(limit, status.st_size) + 1)
        if len(data) != status.st_size:  # not all at once, or it grows, or a kernel's tells no size
            parts = [data]
            got = len(data)
            while got <= limit and parts[-1]:
                wanted = max(status.st_size - got, MORE_BYTES)
                parts.append(os.read(fd, min(wanted, limit + 1 - got)))
                got += len(parts[-1])
            data = b"".join(parts)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise FormatError(f"larger than the {limit} bytes expected at most", path=os.fspath(path))
    return data


@contextlib.contextmanager
def locked(path: StrPath, *, exclusive: bool, create: bool = False) -> Iterator[IO[bytes]]:
    """Open a file and hold ``flock(2)`` on it; blocks until the lock is free.

    SCR's own lock protocol for halt.scr: the data file itself is locked and changed in place
    (docs/formats/halt.md). Yields the open file, readable, and writable if ``exclusive``.
    """
    flags = (os.O_RDWR if exclusive else os.O_RDONLY) | os.O_CLOEXEC
    fd = os.open(path, flags | (os.O_CREAT if create else 0), 0o666)
    with os.fdopen(fd, "r+b" if exclusive else "rb", buffering=0) as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        try:
            yield file
        finally:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def overwrite(file: IO[bytes], data: bytes) -> None:
    """Replace the content of an open, unbuffered, locked file in place and make it durable."""
    file.seek(0)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    os.ftruncate(file.fileno(), len(data))
    os.fsync(file.fileno())


def check_private_dir(path: StrPath, *, uid: int) -> None:
    """Refuse a directory in a shared place that is a link or belongs to somebody else.

    Raises:
        UnsafePathError: it is a symbolic link, no directory, not owned by ``uid``, or others may write it.
        FileNotFoundError: it does not exist.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError(f"{path}: is a symbolic link; refusing to use it in a shared place")
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafePathError(f"{path}: is not a directory")
    if status.st_uid != uid:
        raise UnsafePathError(f"{path}: belongs to user {status.st_uid}, expected {uid}")
    if status.st_mode & stat.S_IWOTH:
        raise UnsafePathError(f"{path}: anybody may write it (mode {status.st_mode & 0o7777:o})")


def make_private_dirs(base: StrPath, *parts: str, uid: int) -> str:
    """Create ``base/parts...`` level by level, mode 0700, checking each level that exists; returns it.

    ``base`` itself (``/dev/shm``) must exist and is not checked.

    Raises:
        UnsafePathError: a level is a link or not ours.
        OSError: a level cannot be created.
    """
    path = os.fspath(base)
    for part in parts:
        if part in ("", ".", "..") or "\0" in part:
            raise UnsafePathError(f"{path}: {part!r} is no name for a directory")
        path = os.path.join(path, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, PRIVATE_MODE)
        check_private_dir(path, uid=uid)
    return path
