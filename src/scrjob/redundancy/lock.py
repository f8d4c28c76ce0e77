# SPDX-License-Identifier: BSD-3-Clause
"""One scavenge or build of one dataset at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Callable, Iterator

from scrjob._clock import wait_for
from scrjob.errors import ScavengeError

if TYPE_CHECKING:
    from scrjob.protocols import Clock

LOCK = "scrjob.scavenge.lock"
WAIT_S = 10.0  # for another that is about to end, or that was killed a moment ago
_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def one_at_a_time(
    directory: str,
    *,
    clock: Clock,
    who: str,
    say: Callable[[str], None],
    wait_s: float = WAIT_S,
    parent: str = "",
    shared: bool = False,
) -> Iterator[None]:
    """Hold ``flock(2)`` on a file in a dataset's directory; a file system without locks does without.

    The kernel lets go of it when the holder dies, however it dies; then the file stays. Whoever gets the
    lock of a file that was removed takes the one that has its name now, so that two never hold it.

    Args:
        directory: the dataset's in the prefix; it exists.
        clock: for the waiting.
        who: written into the file for others to read, one line.
        say: is told if somebody has to be waited for.
        wait_s: how long.
        parent: end of the line of a holder for whom we work, so that it need not be waited for.
        shared: others who hold it shared may be at work, too; for those who do one group each.

    Raises:
        ScavengeError: another one holds it, and goes on to.
        OSError: the file cannot be made.
    """
    path = os.path.join(directory, LOCK)
    lock = _Lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        if not lock.take():
            holder = lock.holder()
            if parent and holder.endswith(parent):
                yield
                return
            if wait_s:
                say(f"waiting for {holder}")
            if not wait_for(lock.take, clock=clock, limit_s=wait_s):
                raise ScavengeError(
                    f"{directory} is being written by {lock.holder()}: try again when that has ended"
                )
        lock.write(who)
        try:
            yield
        finally:
            lock.remove()
    finally:
        lock.close()


def process(host: str, pid: int) -> str:
    """Return how a holder names its process, at the end of its line."""
    return f"on {host}, process {pid}"


class _Lock:
    """The file, open. One that was removed meanwhile by its last holder is opened anew."""

    def __init__(self, path: str, how: int) -> None:
        self._path = path
        self._how = how
        self._fd = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def take(self) -> bool:
        """Tell whether it is ours now."""
        while True:
            try:
                fcntl.flock(self._fd, self._how | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno not in _HELD
            if self._is_named():
                return True
            old, self._fd = self._fd, self._open()
            os.close(old)

    def _is_named(self) -> bool:
        """Tell whether the open file is the one that others find by its name."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self._path))
        except OSError:  # removed; ESTALE from another host's NFS server
            return False

    def holder(self) -> str:
        """Return the line of the holder."""
        said = os.pread(self._fd, 200, 0).decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in said) or "another scavenge or build"

    def write(self, who: str) -> None:
        """Name the holder."""
        with contextlib.suppress(OSError):  # it only is for people
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, who.encode("utf-8", "replace"), 0)

    def remove(self) -> None:
        """Remove the file, unless another one holds it, too: then that one does."""
        self._how = fcntl.LOCK_EX
        with contextlib.suppress(OSError):
            if self.take():
                os.unlink(self._path)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)
