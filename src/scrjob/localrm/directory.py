# SPDX-License-Identifier: BSD-3-Clause
"""Where an allocation keeps its sockets and records: one private directory, locked while it lives.

::

    BASE/lock                    held while a directory is made or stale ones are cleared away
    BASE/JOBID/lock              held by the allocation's processes; free means that they are gone
    BASE/JOBID/info.json         what does not change: see Info
    BASE/JOBID/manager           socket of the manager
    BASE/JOBID/ended.json        {"when", "why"}: written when the allocation ended out of order
    BASE/JOBID/agents.log        stderr of the nodes' agents
    BASE/JOBID/nodes/NAME.sock   socket of a node's agent
    BASE/JOBID/nodes/NAME/       storage of a plain node
    BASE/JOBID/steps/N/          one job step, see step.py
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence

from scrjob._fsio import atomic_write, check_private_dir, make_private_dirs, read_bounded
from scrjob.errors import ConfigError, NotInAllocationError, ScrError
from scrjob.localrm._proc import has_mark, process_table, send_signal

DIR_VARIABLE = "SCR_LOCAL_DIR"
JOBID_VARIABLE = "SCR_LOCAL_JOBID"
NODES_VARIABLE = "SCR_LOCAL_NODES"
NODE_VARIABLE = "SCR_LOCAL_NODE"
PRIVATE_VARIABLE = "SCR_LOCAL_PRIVATE"
BASE_VARIABLE = "SCR_LOCAL_BASE"

RECORD_LIMIT_BYTES = 16 << 20
DIRECTORY_MODE = 0o700


class Info(NamedTuple):
    """What is fixed for the life of an allocation; ``began`` is Unix seconds."""

    job_id: str
    host: str
    nodes: list[str]
    private: bool
    storage: list[str]
    shared: list[str]
    began: float
    python: str


def base_directory(environ: Mapping[str, str], uid: int) -> str:
    """Return the directory of all allocations of this user on this machine, made if need be.

    SCR_LOCAL_BASE, else ``scrjob`` in XDG_RUNTIME_DIR, else /var/tmp/scrjob-UID, else
    ~/.cache/scrjob: the first that can be made and lets programs be executed.

    Raises:
        ConfigError: none can be used; says why.
    """
    forced = environ.get(BASE_VARIABLE)
    candidates: list[tuple[str, tuple[str, ...]]] = [(forced, ("local",))] if forced else []
    if not forced:
        runtime = environ.get("XDG_RUNTIME_DIR")
        if runtime:
            candidates.append((runtime, ("scrjob", "local")))
        candidates.append(("/var/tmp", (f"scrjob-{uid}", "local")))  # noqa: S108 - checked level by level
        candidates.append((os.path.expanduser("~"), (".cache", "scrjob", "local")))
    problems = []
    for start, parts in candidates:
        try:
            path = make_private_dirs(os.path.realpath(start), *parts, uid=uid)
            if os.statvfs(path).f_flag & os.ST_NOEXEC:
                problems.append(f"{path}: programs may not be executed there")
                continue
        except (OSError, ScrError) as error:
            problems.append(str(error))
            continue
        return path
    raise ConfigError(
        f"no place for an allocation's directory: {'; '.join(problems)}; set {BASE_VARIABLE}"
    )


@contextlib.contextmanager
def _base_lock(base: str) -> Iterator[None]:
    fd = os.open(os.path.join(base, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def create(base: str, now: float) -> tuple[str, int]:
    """Make the directory of a new allocation after clearing away those of dead ones.

    Args:
        base: answer of ``base_directory``.
        now: Unix seconds.

    Returns:
        (path, descriptor): the last part of the path is the job id, unique in time as well, for
        checkpoints are kept by job id; the allocation lives as long as the descriptor, which
        holds the lock, is open in any process.
    """
    with _base_lock(base):
        for path in _entries(base):
            if not is_alive(path):
                _clear(path)
        number = int(now * 1000)
        while True:
            path = os.path.join(base, str(number))
            try:
                os.mkdir(path, DIRECTORY_MODE)
                break
            except FileExistsError:
                number += 1
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("nodes", "steps"):
            os.mkdir(os.path.join(path, name), DIRECTORY_MODE)
        return path, lock


def _entries(base: str) -> list[str]:
    return [os.path.join(base, name) for name in sorted(os.listdir(base)) if name.isdigit()]


def is_alive(path: str) -> bool:
    """Tell whether any process of the allocation itself lives."""
    try:
        fd = os.open(os.path.join(path, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return True
        raise
    finally:
        os.close(fd)
    return False


def _clear(path: str) -> None:
    """Remove what a dead allocation left: marked processes, then the directory."""
    mark = os.fsencode(f"{DIR_VARIABLE}={path}")
    table = process_table()
    ours = {os.getpid()}  # and those above us: a shell that was left over may be the user's own
    above = table.get(os.getppid())
    while above is not None and above.pid not in ours:
        ours.add(above.pid)
        above = table.get(above.ppid)
    for pid in table.keys() - ours:
        if has_mark(pid, mark):
            send_signal(pid, signal.SIGKILL)
    _remove_tree(path)


def _remove_tree(path: str) -> None:
    import shutil  # noqa: PLC0415 - costs 5 ms that most commands need not pay

    shutil.rmtree(path, ignore_errors=True)


def remove(path: str) -> None:
    """Remove the directory of an allocation that ended in order."""
    _remove_tree(path)


def known(base: str, uid: int) -> list[str]:
    """Return the directories of this user's allocations, oldest first, ended ones included."""
    check_private_dir(base, uid=uid)
    return _entries(base)


def write_info(path: str, info: Info) -> None:
    """Record what does not change."""
    _write(os.path.join(path, "info.json"), info._asdict())


def read_info(path: str) -> Info:
    """Return what ``write_info`` recorded.

    Raises:
        NotInAllocationError: there is no such allocation, or no more.
    """
    record = _read(os.path.join(path, "info.json"))
    if record is None:
        raise NotInAllocationError(f"{path}: there is no allocation any more; it has ended")
    return Info(**record)


def write_ended(path: str, when: float, why: str) -> None:
    """Record that, and why, the allocation ended out of order; kept until the next one is made."""
    _write(os.path.join(path, "ended.json"), {"when": when, "why": why})


def clear_steps(path: str) -> None:
    """Remove what an allocation that ended out of order kept, except the word of its end."""
    for name in ("nodes", "steps"):
        _remove_tree(os.path.join(path, name))


def read_ended(path: str) -> Optional[str]:
    """Return why the allocation ended, None if nobody wrote it down."""
    record = _read(os.path.join(path, "ended.json"))
    return None if record is None else str(record["why"])


def _write(path: str, record: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(record).encode("ascii") + b"\n", mode=0o600)


def _read(path: str) -> Optional[dict[str, Any]]:
    try:
        record: dict[str, Any] = json.loads(read_bounded(path, limit=RECORD_LIMIT_BYTES))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise NotInAllocationError(f"{path}: damaged: {error}") from error
    return record


def socket_name(node: str) -> str:
    """Return the name of a node's socket, relative to the allocation's directory."""
    return f"nodes/{node}.sock"


def plain_storage(path: str, node: str) -> str:
    """Return the directory of a plain node's storage."""
    return os.path.join(path, "nodes", node)


def environment(path: str, info: Info) -> dict[str, str]:
    """Return what the allocation adds to the environment of the user's command."""
    return {
        DIR_VARIABLE: path,
        JOBID_VARIABLE: info.job_id,
        NODES_VARIABLE: ",".join(info.nodes),
        PRIVATE_VARIABLE: str(int(info.private)),
    }


def own_node_variables(path: str, node: str, *, private: bool) -> list[str]:
    """Return the NAME=value words that every program on a node gets."""
    words = [f"{NODE_VARIABLE}={node}", f"{DIR_VARIABLE}={path}"]
    if private:
        return [*words, f"HOSTNAME={node}"]
    storage = plain_storage(path, node)
    names = ("SCR_CNTL_BASE", "SCR_CACHE_BASE", "TMPDIR")
    return words + [f"{name}={storage}" for name in names]


def hidden_by(path: str, storage: Sequence[str], shared: Sequence[str]) -> Optional[str]:
    """Return the storage directory that hides ``path`` of the machine from the nodes, None if they see it."""
    for top in storage:
        inside = f"{path}/".startswith(top.rstrip("/") + "/")
        seen = any(
            f"{path}/".startswith(s.rstrip("/") + "/") and s.startswith(top.rstrip("/") + "/")
            for s in shared
        )
        if inside and not seen:
            return top
    return None
