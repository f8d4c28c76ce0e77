# SPDX-License-Identifier: BSD-3-Clause
"""One copy of a dataset at a time on a node: the newest one goes on, its predecessor is ended.

A supervisor that dies leaves its copies behind, and its successor starts them anew. The file
``scrjob.copy.<id>.<host>.lock`` in the control directory is locked (``flock``) by the copy at work, and names
it: process id, its start, and the process namespace in which the id means something.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from typing import IO, TYPE_CHECKING, Callable, Iterator, NamedTuple, Optional

from scrjob._clock import wait_for
from scrjob._fsio import read_bounded
from scrjob.errors import FormatError, ScrError

if TYPE_CHECKING:
    from scrjob.protocols import Clock

POLITE_S = 10.0  # from TERM to KILL
FORCED_S = 10.0  # from KILL to giving up: it may hang in the kernel
_START_FIELD = 22 - 3  # of /proc/<pid>/stat behind the name, in ticks since the boot (proc(5))


class BusyError(ScrError):
    """Another copy of the dataset is at work on this node and does not end."""


class _Holder(NamedTuple):
    pid: int
    start: int
    namespace: str


@contextlib.contextmanager
def only_copy(
    cntldir: str,
    name: str,
    clock: Clock,
    *,
    kill: Callable[[int, int], None] = os.kill,
) -> Iterator[None]:
    """Hold the lock, after ending a predecessor that holds it.

    Args:
        cntldir: control directory of this node.
        name: of the file in it.
        clock: for the waiting.
        kill: sends a signal to a process.

    Raises:
        BusyError: the predecessor does not end, or is none of ours.
        OSError: the file cannot be had.
    """
    path = os.path.join(cntldir, name)
    with _take(path, clock, kill) as file:
        file.truncate(0)
        file.write(json.dumps(_describe(os.getpid())._asdict()).encode("ascii"))
        try:
            yield
        finally:
            # While it is locked: a successor that has it open sees that it is no longer the one in place.
            with contextlib.suppress(OSError):
                os.unlink(path)


def _take(path: str, clock: Clock, kill: Callable[[int, int], None]) -> IO[bytes]:
    file = _try(path)
    for number, limit_s in ((signal.SIGTERM, POLITE_S), (signal.SIGKILL, FORCED_S)):
        if file is not None:
            break
        holder = _holder(path)
        if holder is not None and _is_at_work(holder):
            with contextlib.suppress(ProcessLookupError):
                kill(holder.pid, number)
        file = wait_for(lambda: _try(path), clock=clock, limit_s=limit_s)
    if file is None:
        raise BusyError(f"another copy is at work and does not end; it has locked {path!r}")
    return file


def _try(path: str) -> Optional[IO[bytes]]:
    """Return the file, open and locked; None if somebody else has the lock."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _holder(path: str) -> Optional[_Holder]:
    with contextlib.suppress(OSError, FormatError, ValueError, TypeError, KeyError, RecursionError):
        content = json.loads(read_bounded(path, limit=4096))
        return _Holder(int(content["pid"]), int(content["start"]), str(content["namespace"]))
    return None


def _describe(pid: int) -> _Holder:
    """Return the identity of a process.

    Raises:
        OSError, ValueError, IndexError: it is gone, or not ours to ask.
    """
    process = f"/proc/{pid}"
    with open(f"{process}/stat", "rb") as file:
        # The name of the program, in brackets, may have anything in it.
        fields = file.read().rpartition(b")")[2].split()
    return _Holder(pid, int(fields[_START_FIELD]), os.readlink(f"{process}/ns/pid"))


def _is_at_work(holder: _Holder) -> bool:
    """Tell whether the process that was noted is there still, and one of ours."""
    try:
        return (
            holder.namespace == os.readlink("/proc/self/ns/pid")
            and holder == _describe(holder.pid)
            and os.stat(f"/proc/{holder.pid}").st_uid == os.geteuid()
        )
    except (OSError, ValueError, IndexError):
        return False
