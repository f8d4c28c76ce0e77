# SPDX-License-Identifier: BSD-3-Clause
"""Has the program stopped making progress? Watches a job step and ends it if it hangs.

Progress is a change in any of: the flush file (datasets completed, flushes begun and ended), the
index, the SCR log, and the files named by SCR_WATCHDOG_FILE, which any program can touch. Until the
first dataset of a run, or the first touch of such a file, only the start-up grace counts: reading
input and a rebuild take their time, and what the library logs of them is no sign that it is over.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence

from scrjob.errors import FormatError, ScrError
from scrjob.formats import flush, kvtree
from scrjob.formats.index import Index

if TYPE_CHECKING:
    from scrjob.protocols import Clock, JobEnvironment

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 3600.0
DEFAULT_STARTUP_S = 1800.0
LEARN_FACTOR = 5.0  # a pause of so many of the longest intervals seen is a hang
LEARN_FLOOR_S = 60.0  # no learned timeout is shorter
LEARN_FROM = 3  # intervals to see before the learned timeout is believed
POLL_S = 0.5


class Limits(NamedTuple):
    """How long a program may show no progress, in seconds.

    ``timeout_s`` None: learned, at most DEFAULT_TIMEOUT_S. ``pfs_s`` holds while a dataset is on its
    way to the prefix; ``startup_s`` until the first progress of a run.
    """

    timeout_s: Optional[float]
    pfs_s: float
    startup_s: float

    @classmethod
    def from_param(cls, param: Any) -> Limits:
        """Read the SCR_WATCHDOG_* settings.

        Raises:
            ConfigError: a value is no number of seconds.
        """
        timeout = param.get_seconds("SCR_WATCHDOG_TIMEOUT", 0.0) or None
        pfs = param.get_seconds("SCR_WATCHDOG_TIMEOUT_PFS", 0.0)
        startup = param.get_seconds("SCR_WATCHDOG_STARTUP", 0.0)
        return cls(
            timeout,
            pfs or max(timeout or 0.0, DEFAULT_TIMEOUT_S),
            startup or max(timeout or DEFAULT_TIMEOUT_S, DEFAULT_STARTUP_S),
        )


class ProgressWatch:
    """Judges one run by what its files show.

    Args:
        jobenv: whose files to look at.
        limits: how long no progress is borne.
    """

    def __init__(self, jobenv: JobEnvironment, limits: Limits) -> None:
        self._clock: Clock = jobenv.context.clock
        self._limits = limits
        scr = jobenv.dir_scr()
        named = jobenv.param.get("SCR_WATCHDOG_FILE") or ""
        self._prefix = jobenv.dir_prefix()
        self._files = [os.path.join(scr, name) for name in ("flush.scr", "index.scr", "log")]
        self._touched = [os.path.join(self._prefix, name) for name in named.split(":") if name]
        self._seen = _look(self._files)
        self._touches = _look(self._touched)
        self._newest = self._newest_dataset()
        self._last = self._clock.monotonic()
        self._started = False
        self._longest = 0.0
        self._intervals = 0

    def hang(self) -> str:
        """Return what shows that the program hangs, "" as long as nothing does."""
        looks, touches = _look(self._files), _look(self._touched)
        now = self._clock.monotonic()
        silent = now - self._last
        if looks != self._seen or touches != self._touches:
            if self._started:
                self._longest = max(self._longest, silent)
                self._intervals += 1
            else:
                self._started = touches != self._touches or self._newest_dataset() != self._newest
            self._seen, self._touches, self._last = looks, touches, now
            return ""
        limit, why = self._limit()
        if silent < limit:
            return ""
        return f"no progress for {silent:.1f} s (limit {limit:.1f} s: {why})"

    def _newest_dataset(self) -> tuple[int, int]:
        """Return the largest ids in the flush file and in the index, 0 for none."""
        flush_file, index_file, _ = self._files
        flushed = indexed = 0
        with contextlib.suppress(OSError, FormatError):  # rewritten in place: look again next time
            flushed = flush.latest(kvtree.read(flush_file)) or 0
        with contextlib.suppress(OSError, FormatError):
            indexed = max(Index.read(index_file).ids(), default=0)
        return flushed, indexed

    def _limit(self) -> tuple[float, str]:
        if self._flushing():
            return self._limits.pfs_s, "a dataset is on its way to the prefix"
        if not self._started:
            return self._limits.startup_s, "start-up"
        most = self._limits.timeout_s or DEFAULT_TIMEOUT_S
        if self._intervals >= LEARN_FROM:
            learned = max(LEARN_FLOOR_S, LEARN_FACTOR * self._longest)
            if learned < most:
                return learned, f"{LEARN_FACTOR:g} times the longest interval seen"
        return most, "SCR_WATCHDOG_TIMEOUT" if self._limits.timeout_s else "default"

    def _flushing(self) -> bool:
        """Tell whether the newest dataset is on its way to the prefix."""
        with contextlib.suppress(OSError, FormatError):  # rewritten in place: look again next time
            tree = kvtree.read(self._files[0])
            return flush.location(tree, flush.latest(tree) or 0) in (
                flush.SYNC_FLUSHING,
                flush.FLUSHING,
            )
        return False


def _look(files: Sequence[str]) -> list[tuple[int, int]]:
    """Return time of change and size of each file, (0, -1) for one that is not there."""
    looks = []
    for path in files:
        try:
            status = os.stat(path)
            looks.append((status.st_mtime_ns, status.st_size))
        except OSError:
            looks.append((0, -1))
    return looks


class Watchdog:
    """Published name: waits for a job step and ends it if it hangs.

    Args:
        prefix: the prefix directory.
        jobenv: the job; its launcher is asked to wait and to kill.
    """

    def __init__(self, prefix: str, jobenv: JobEnvironment) -> None:
        self.prefix = prefix
        self.jobenv = jobenv
        self.hang = ""

    def watchfiles(self, proc: Any, jobstep: Any) -> int:
        """Wait for the step's end while its files show progress; 0 when it has ended.

        Returns:
            0: the step has ended, by itself or because it hung (then ``hang`` says what was seen).
        """
        watch = ProgressWatch(self.jobenv, Limits.from_param(self.jobenv.param))
        launcher = self.jobenv.launcher
        while True:
            finished, _ = launcher.wait_run(proc, timeout=POLL_S)
            if finished:
                return 0
            self.hang = watch.hang()
            if self.hang:
                logger.warning("the program hangs: %s; ending it", self.hang)
                launcher.kill_run(jobstep)
                return 0

    def watchproc(self, watched_process: Any = None, jobstep: Any = None) -> int:
        """Watch a launched step; 0: it has ended, by itself or killed; 1: it could not be watched."""
        try:
            return self.watchfiles(watched_process, jobstep)
        except ScrError as error:
            logger.warning("the watchdog cannot watch: %s", error)
            return 1
