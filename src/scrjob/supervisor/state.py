# SPDX-License-Identifier: BSD-3-Clause
"""What a supervisor must not forget: the state file of one job, and the lock on it.

``<prefix>/.scr/scrjob.<jobid>/state.json`` is written whole and atomically at each step of the loop.
A supervisor that starts in the same allocation finds it and continues; one that starts in a requeued
job, which has the same id and another allocation, puts it aside. The lock is ``flock(2)`` on the file
``lock`` beside it: the kernel frees it when its holder dies. Schema: docs/state.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Optional

from scrjob._clock import wait_for
from scrjob._fsio import atomic_write, read_bounded
from scrjob.errors import ConfigError, FormatError, ScrError, SupervisorActiveError
from scrjob.model import NodeDown

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

SCHEMA = 1
LIMIT_BYTES = 64 << 20
START_FILE = "restart_count"
FORMER = "state.former.json"
FORMER_START_S = 180.0  # for the lock of a supervisor that died with its node
LOCK_POLL_S = 2.0

PRERUN = "prerun"
TESTING = "testing nodes"
LAUNCHING = "launching"
RUNNING = "running"
ENDED = "step ended"
SCAVENGE = "scavenge"
DONE = "done"


def state_dir(jobenv: JobEnvironment) -> str:
    """Return the directory of the job's state in the prefix."""
    return jobenv.dir_job()


def known_start(jobenv: JobEnvironment) -> Optional[int]:
    """Return the restart count that prerun has seen last in this job, None in a new job.

    A directory without the count is of a first start: 0.
    """
    directory = state_dir(jobenv)
    if not os.path.isdir(directory):
        return None
    try:
        text = read_bounded(os.path.join(directory, START_FILE), limit=LIMIT_BYTES)
        return int(text)
    except (FileNotFoundError, ValueError):
        return 0


def begin_start(jobenv: JobEnvironment, restarts: int) -> None:
    """Make this start of the job the one that ``known_start`` tells.

    Raises:
        ConfigError: the directory cannot be written.
    """
    directory = state_dir(jobenv)
    try:
        os.makedirs(directory, exist_ok=True)
        atomic_write(os.path.join(directory, START_FILE), b"%d\n" % restarts)
    except OSError as error:
        raise ConfigError(f"{directory!r} cannot be made: {error.strerror}") from error


def put_aside(jobenv: JobEnvironment) -> None:
    """Keep the state of the start before, in a job that was requeued, as ``state.former.json``."""
    directory = state_dir(jobenv)
    with contextlib.suppress(FileNotFoundError):
        os.replace(os.path.join(directory, "state.json"), os.path.join(directory, FORMER))


def refuse_other_supervisors(jobenv: JobEnvironment) -> None:
    """Return if no other job's supervisor is alive in the prefix: they share SCR's files there.

    Raises:
        SupervisorActiveError: names the other job's directory.
        ConfigError: the file system of the prefix has no locks.
    """
    mine = state_dir(jobenv)
    pattern = os.path.join(glob.escape(jobenv.dir_scr()), "scrjob.*", "lock")
    for path in glob.glob(pattern):
        if os.path.dirname(path) != mine and not _is_free(path):
            raise SupervisorActiveError(
                f"another job is supervised in this prefix, see {os.path.dirname(path)!r}; give each "
                "simulation its SCR_PREFIX"
            )


def await_former_start(jobenv: JobEnvironment) -> None:
    """Return when no supervisor of this job's start before is alive.

    It may be long dead with its node: a file server keeps the locks of a host that it does not hear of for
    a while (an NFSv4 lease: 90 s and up to as much again).

    Raises:
        SupervisorActiveError: it still holds the lock after FORMER_START_S.
        ConfigError: the file system of the prefix has no locks.
    """
    path = os.path.join(state_dir(jobenv), "lock")
    if _is_free(path):
        return
    logger.warning("waiting up to %.0f s for the lock of this job's start before", FORMER_START_S)
    clock = jobenv.context.clock
    if not wait_for(
        lambda: _is_free(path), clock=clock, limit_s=FORMER_START_S, poll_s=LOCK_POLL_S
    ):
        raise SupervisorActiveError(
            f"the supervisor of this job's start before still holds {path!r}; if its node is dead and "
            "the file server does not let go of the lock, remove that file and requeue the job"
        )


def _is_free(path: str) -> bool:
    """Tell whether nobody holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # gone, or somebody else's: none that we could disturb
    try:
        return _lock(fd, path, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _lock(fd: int, path: str, how: int) -> bool:
    """Lock an open file if nobody holds a lock against it, and tell whether that is so.

    Raises:
        ConfigError: the file system has no locks, which says nothing about anybody.
    """
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise ConfigError(
            f"{path!r} cannot be locked: {error.strerror}; have the file system mounted with locks, or "
            "set SCR_PREFIX to a directory on another one"
        ) from error
    return True


def write_json(path: str, value: dict[str, Any]) -> None:
    """Replace a file by the JSON text of ``value``; names that are no text keep their bytes."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    atomic_write(path, text.encode("utf-8", "surrogateescape"), mode=0o644)


class JobState:
    """The state of one job, in memory and on disk.

    Use as a context manager to hold the lock. ``data`` is the tree of docs/state.md.

    Args:
        jobenv: whose prefix and job id name the file.
    """

    def __init__(self, jobenv: JobEnvironment) -> None:
        self._clock = jobenv.context.clock
        self.directory = state_dir(jobenv)
        self.path = os.path.join(self.directory, "state.json")
        self._lock_fd: Optional[int] = None
        self._restarts = known_start(jobenv)
        self.known = False
        self._written = False
        self.data = self._fresh(jobenv)

    def _fresh(self, jobenv: JobEnvironment) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "job_id": jobenv.job_id(),
            "user": jobenv.user(),
            "prefix": jobenv.dir_prefix(),
            "host": jobenv.context.hostname,
            "pid": os.getpid(),
            "phase": PRERUN,
            "session": 0,
            "started": self._clock.now(),
            "updated": self._clock.now(),
            "runs": [],
            "bad_nodes": {},
            "own_reason": None,
            "without_progress": 0,
            "idle_starts": 0,
            "outcome": None,
            "saved": [],
        }

    def __enter__(self) -> JobState:
        try:
            os.makedirs(self.directory, exist_ok=True)
            lock = os.path.join(self.directory, "lock")
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        self._lock_fd = fd
        try:
            if not _lock(fd, lock, fcntl.LOCK_EX):
                raise SupervisorActiveError(
                    f"job {self.data['job_id']} is supervised already{self._holder()}; one scr_run for a "
                    "job and prefix (several simulations: give each its SCR_JOB_ID and SCR_PREFIX)"
                )
            self.load()
        except (ScrError, OSError):
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.directory!r} cannot be written: {error.strerror}; make room there, or set "
            "SCR_PREFIX to another directory"
        )

    def _holder(self) -> str:
        try:
            other = json.loads(read_bounded(self.path, limit=LIMIT_BYTES))
            return f" by process {other['pid']} on {other['host']}"
        except (OSError, ScrError, ValueError, KeyError, TypeError):
            return ""

    def load(self) -> None:
        """Take over what a predecessor in this allocation wrote; ``known`` tells whether one did.

        A damaged file counts as none, and is kept aside as ``state.json.damaged``.
        """
        try:
            found = json.loads(read_bounded(self.path, limit=LIMIT_BYTES))
        except FileNotFoundError:
            return
        except (ValueError, FormatError):
            found = None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            os.replace(self.path, f"{self.path}.damaged")
            return
        self.known = True
        mine = {key: self.data[key] for key in ("host", "pid", "prefix", "user")}
        self.data.update(found)
        self.data.update(mine)

    def former(self) -> Optional[dict[str, Any]]:
        """Return the state of the start before in a requeued job, None if there is none."""
        if not self._restarts:
            return None
        try:
            text = read_bounded(os.path.join(self.directory, FORMER), limit=LIMIT_BYTES)
            found = json.loads(text)
        except (OSError, ScrError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def former_start(self) -> str:
        """Return one line about the end of the start before in a requeued job, "" if there was none."""
        if self.known or not self._restarts:
            return ""
        said = f"job {self.data['job_id']} was requeued"
        former = self.former() or {}
        try:
            if former["phase"] != DONE:
                lost = f"its supervisor on {former['host']} was lost in phase {former['phase']!r}"
                return f"{said}: {lost}"
            return f"{said}: its start before ended with {former['outcome']['why']}"
        except (KeyError, TypeError):
            return said

    def save(self, phase: Optional[str] = None) -> None:
        """Write the state; with ``phase``, enter that phase first.

        The first write must succeed. Later ones may fail, on a full file system say: the job is more
        important than the memory of it, so that is told in the log and tried again at the next step.

        Raises:
            ConfigError: the first write failed.
        """
        if phase is not None:
            self.data["phase"] = phase
        self.data["updated"] = self._clock.now()
        try:
            write_json(self.path, self.data)
        except OSError as error:
            if not self._written:
                raise self._unusable(error) from error
            logger.warning("the state of the job cannot be written: %s", error)
        self._written = True

    def write_report(self, report: dict[str, Any]) -> None:
        """Write ``report.json`` beside the state; a failure is told in the log."""
        try:
            write_json(os.path.join(self.directory, "report.json"), report)
        except OSError as error:
            logger.warning("the report cannot be written: %s", error)

    @property
    def phase(self) -> str:
        """Return the phase that was entered last."""
        return str(self.data["phase"])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Return the records of all runs of this job, oldest first."""
        runs: list[dict[str, Any]] = self.data["runs"]
        return runs

    def bad_nodes(self) -> dict[str, NodeDown]:
        """Return the nodes that are not used again in this job, with the verdicts."""
        return {node: NodeDown(node, **parts) for node, parts in self.data["bad_nodes"].items()}

    def condemn(self, verdict: NodeDown) -> bool:
        """Keep a node out for the rest of the job; False if it was out already."""
        if verdict.node in self.data["bad_nodes"]:
            return False
        parts = verdict._asdict()
        del parts["node"]
        self.data["bad_nodes"][verdict.node] = parts
        return True
