# SPDX-License-Identifier: BSD-3-Clause
"""One scavenge of one dataset at a time."""

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
    directory: str, *, clock: Clock, who: str, say: Callable[[str], None], wait_s: float = WAIT_S
) -> Iterator[None]:
    """Hold ``flock(2)`` on a file in a dataset's directory; a file system without locks does without.

    The kernel lets go of it when the holder dies, however it dies. The file stays: removed, it
    could be locked by one who still has it open and by one who makes it anew.

    Args:
        directory: the dataset's in the prefix; it exists.
        clock: for the waiting.
        who: written into the file for others to read, one line.
        say: is told if somebody has to be waited for.
        wait_s: how long.

    Raises:
        ScavengeError: another one holds it, and goes on to.
        OSError: the file cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(os.path.join(directory, LOCK), flags, 0o666)
    try:
        if not _take(fd):
            say(f"scavenge: waiting for {_holder(fd)}")
            if not wait_for(lambda: _take(fd), clock=clock, limit_s=wait_s):
                raise ScavengeError(
                    f"{directory} is being written by {_holder(fd)}: try again when that has ended"
                )
        with contextlib.suppress(OSError):  # it only is for people
            os.ftruncate(fd, 0)
            os.pwrite(fd, who.encode("utf-8", "replace"), 0)
        yield
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _holder(fd: int) -> str:
    said = os.pread(fd, 200, 0).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in said) or "another scavenge"
