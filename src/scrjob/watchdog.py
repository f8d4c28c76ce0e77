# SPDX-License-Identifier: BSD-3-Clause
"""Has the program stopped making progress? Watches a job step and ends it if it hangs.

Progress is a change in any of: the datasets, SCR's files in the prefix, the files named by
SCR_WATCHDOG_FILE, with SCR_WATCHDOG_OUTPUT the program's output, and, asked only before the program
would be taken to hang, the files in cache. Until its first dataset, or the first touch of a named
file, a program is starting up: reading input and a rebuild take their time, and what the library logs
of them is no sign that it is over. A program that shows nothing of all this is not judged.
"""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob.errors import ScrError
from scrjob.supervisor.growth import CacheGrowth
from scrjob.supervisor.progress import Datasets, Source, sources

if TYPE_CHECKING:
    from scrjob.protocols import Clock, JobEnvironment

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 3600.0  # as long as nothing is learned
LEARN_FACTOR = 5.0  # a pause of so many of the longest intervals seen is a hang ...
LEARN_MOST_S = 3600.0  # ... or one that is so much longer than that, if this is less
LEARN_FLOOR_S = 300.0  # no learned limit is shorter
LEARN_FROM = 3  # datasets to see, after the first, before what was learned is believed
LEARN_TIME_S = 3600.0  # without datasets: how long to watch before
ASK_SHARE = 0.5  # of the limit is over when the nodes are asked about their caches
POLL_S = 0.5


class Limits(NamedTuple):
    """How long a program may show no progress, in seconds.

    Attributes:
        timeout_s: at most so long; None: what is learned holds alone.
        pfs_s: holds while the program waits for a dataset to reach the prefix.
        startup_s: until the first sign of work of a run; None: the default, and only for programs
            of which a sign can be expected.
        expected_s: time between checkpoints that the program was told, 0 unknown.
        factor: for what is learned or a default.
    """

    timeout_s: Optional[float]
    pfs_s: float
    startup_s: Optional[float]
    expected_s: float = 0.0
    factor: float = 1.0

    def after(self, hangs: int) -> Limits:
        """Return the limits of a run when so many before it were ended for a hang.

        What was learned or a default may have been wrong: it is doubled each time, so that a program
        with one long pause gets through.
        """
        return self._replace(factor=2.0**hangs)

    @classmethod
    def from_param(cls, param: Any) -> Limits:
        """Read the SCR_WATCHDOG_* settings.

        Raises:
            ConfigError: a value is no number of seconds.
        """
        timeout = param.get_seconds("SCR_WATCHDOG_TIMEOUT", 0.0) or None
        pfs = param.get_seconds("SCR_WATCHDOG_TIMEOUT_PFS", 0.0)
        return cls(
            timeout,
            pfs or max(timeout or 0.0, DEFAULT_TIMEOUT_S),
            param.get_seconds("SCR_WATCHDOG_STARTUP", 0.0) or None,
            param.get_seconds("SCR_CHECKPOINT_SECONDS", 0.0),
        )


def patience(interval_s: float) -> float:
    """Return how long a pause is borne when the longest one so far took ``interval_s`` seconds."""
    return interval_s + min((LEARN_FACTOR - 1) * interval_s, LEARN_MOST_S)


class ProgressWatch:
    """Judges one run by the progress that it shows.

    Args:
        jobenv: whose files and nodes to look at.
        limits: how long no progress is borne.
        nodes: returns where the run's ranks are, as far as known; default: all nodes of the job.
    """

    def __init__(
        self,
        jobenv: JobEnvironment,
        limits: Limits,
        nodes: Optional[Callable[[], Sequence[str]]] = None,
    ) -> None:
        self._clock: Clock = jobenv.context.clock
        self._limits = limits
        self._datasets = Datasets(jobenv.dir_scr())
        self._sources: list[Source] = sources(jobenv, self._datasets)
        self._growth = CacheGrowth(jobenv, nodes or jobenv.job_nodes)
        self._intervals = _Intervals()
        self._began = self._last = self._clock.monotonic()
        self._started_after: Optional[float] = None  # None: it is starting up
        self._is_waiting = False  # for the prefix, when it was looked at last
        self._last_sign = ""
        self._told = False

    def hang(self) -> str:
        """Return what shows that the program hangs, "" as long as nothing does."""
        now = self._clock.monotonic()
        signs = [source for source in self._sources if source.changed()]
        waited, self._is_waiting = self._is_waiting, self._datasets.flushing
        if signs:
            self._note(signs, now, waited)
            return ""
        limit, why = self._limit()
        silent = now - self._last
        if silent < ASK_SHARE * limit:
            return ""
        if not self._is_expected():
            if silent >= limit:
                self._tell()
            return ""
        growth = self._growth.compare(at_end=silent >= limit)
        if growth is None:
            return ""
        if growth.grew:
            logger.info("no sign of progress for %.1f s, but %s", silent, growth.told)
            self._last, self._last_sign = now, growth.told
            return ""
        told = [
            f"no progress for {silent:.1f} s (limit {limit:.1f} s: {why})",
            f"the last sign was {self._last_sign}"
            if self._last_sign
            else "no sign since its start",
            growth.told,
        ]
        return "; ".join(filter(None, told))

    def _note(self, signs: Sequence[Source], now: float, waited: bool) -> None:
        """Take notice of progress, for which the program may have waited for the prefix."""
        silent = now - self._last
        if self._started_after is not None:
            # How long a flush takes tells nothing of the program.
            pause = 0.0 if waited else silent
            self._intervals.add(pause, now, is_dataset=self._datasets in signs)
        elif any(sign.is_work for sign in signs) or now - self._began >= self._startup():
            self._started_after = now - self._began
            self._intervals = _Intervals(now)
        self._last, self._last_sign = now, signs[0].name
        self._growth.forget()

    def _startup(self) -> float:
        limits = self._limits
        default = limits.factor * max(DEFAULT_TIMEOUT_S, patience(limits.expected_s))
        return limits.startup_s or max(limits.timeout_s or 0.0, default)

    def _limit(self) -> tuple[float, str]:
        """Return how long silence is borne now, and why so long."""
        if self._is_waiting:
            return self._limits.pfs_s, "a dataset is on its way to the prefix"
        if self._started_after is None:
            return self._startup(), "start-up"
        limits = self._limits
        learned = self._intervals.learned()
        if learned is not None and limits.factor * learned < (limits.timeout_s or math.inf):
            return limits.factor * learned, "learned from the intervals seen"
        if limits.timeout_s is not None:
            return limits.timeout_s, "SCR_WATCHDOG_TIMEOUT"
        slowest = max(self._started_after, limits.expected_s, self._intervals.longest)
        return limits.factor * max(DEFAULT_TIMEOUT_S, patience(slowest)), "default"

    def _is_expected(self) -> bool:
        """Tell whether silence means anything: whether there is ground to expect a sign."""
        return bool(
            self._limits.startup_s
            or self._last_sign
            or self._datasets.newest
            or any(source.is_promised for source in self._sources)
        )

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "the watchdog has seen no sign of progress that it knows, and does not judge this "
                "run; SCR_WATCHDOG_FILE, SCR_WATCHDOG_OUTPUT or SCR_WATCHDOG_STARTUP would help it"
            )


class _Intervals:
    """The pauses between the signs of one run after its start-up.

    Signs come in bursts: a checkpoint changes several files within a second, and then nothing for
    long. So the longest pause is believed only after some whole rounds, from dataset to dataset, or
    after a time in which a round should have been seen.
    """

    def __init__(self, began: float = 0.0) -> None:
        self.longest = 0.0
        self._began = began
        self._count = 0
        self._datasets = 0
        self._is_believed = False

    def add(self, seconds: float, now: float, *, is_dataset: bool) -> None:
        """Note a pause that ended now."""
        self.longest = max(self.longest, seconds)
        self._count += 1
        self._datasets += is_dataset
        watched_long = now - self._began >= LEARN_TIME_S and self._count >= LEARN_FROM
        self._is_believed = watched_long or self._datasets >= LEARN_FROM

    def learned(self) -> Optional[float]:
        """Return how long a pause may be by what was seen, None if that is not enough."""
        return max(LEARN_FLOOR_S, patience(self.longest)) if self._is_believed else None


class Watchdog:
    """Published name: waits for a job step and ends it if it hangs.

    Args:
        prefix: the prefix directory.
        jobenv: the job; its launcher is asked to wait and to kill.

    Attributes:
        hang: what showed that the step hung, "" if nothing did.
    """

    def __init__(self, prefix: str, jobenv: JobEnvironment) -> None:
        self.prefix = prefix
        self.jobenv = jobenv
        self.hang = ""

    def watchfiles(self, proc: Any, jobstep: Any) -> int:
        """Wait for the step's end while it shows progress; 0 when it has ended.

        Of a step that hangs the stacks are kept first, in ``<prefix>/.scr/stacks.<jobid>.txt``; those of
        Python ranks only if SCR_STACK_DIR was exported to them.

        Returns:
            0: the step has ended, by itself or because it hung (then ``hang`` says what was seen).
        """
        jobenv = self.jobenv
        launcher = jobenv.launcher

        def nodes() -> Sequence[str]:
            return launcher.step_nodes(jobstep) or jobenv.job_nodes()

        watch = ProgressWatch(jobenv, Limits.from_param(jobenv.param), nodes)
        while True:
            finished, _ = launcher.wait_run(proc, timeout=POLL_S)
            if finished:
                return 0
            self.hang = watch.hang()
            if self.hang:
                logger.warning("the program hangs: %s; ending it", self.hang)
                self._keep_stacks(jobstep)
                launcher.kill_run(jobstep)
                return 0

    def _keep_stacks(self, jobstep: Any) -> None:
        from scrjob.supervisor.stacks import gather_stacks  # noqa: PLC0415 - rarely needed

        jobenv = self.jobenv
        path = os.path.join(jobenv.dir_scr(), f"stacks.{jobenv.job_id()}.txt")
        stack_dir = jobenv.param.get("SCR_STACK_DIR") or jobenv.dir_scr()
        try:
            found = gather_stacks(jobenv, jobstep, path, stack_dir)
        except OSError as error:
            logger.warning("the stacks cannot be written: %s", error)
            return
        if found:
            logger.warning("stacks of the hung ranks: %s", found)

    def watchproc(self, watched_process: Any = None, jobstep: Any = None) -> int:
        """Watch a launched step; 0: it has ended, by itself or killed; 1: it could not be watched."""
        try:
            return self.watchfiles(watched_process, jobstep)
        except ScrError as error:
            logger.warning("the watchdog cannot watch: %s", error)
            return 1
