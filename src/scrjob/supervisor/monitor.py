# SPDX-License-Identifier: BSD-3-Clause
"""Watches one running step until it has ended, by itself or because it must.

What it asks, each at its own pace: the launcher (has it ended?), signals to us, the end of the
allocation, the resource manager (is a used node down?), the watchdog (does it hang?), and a request
to stop at once (``scr_halt --immediate`` leaves a file in the job's state directory).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline
from scrjob.errors import ScrError
from scrjob.model import END_NO_LIMIT, END_UNKNOWN, ExitStatus, NodeDown
from scrjob.supervisor.terminal import Terminal

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.supervisor.settings import Settings
    from scrjob.supervisor.signals import SignalWatch
    from scrjob.watchdog import ProgressWatch

logger = logging.getLogger(__name__)

POLL_S = 0.1
STOP_POLL_S = 1.0
WATCHDOG_POLL_S = 0.5
END_TIME_POLL_S = 15.0
STOP_FILE = "stop-now"
INTERRUPTED = 128 + signal.SIGINT


class Seen(NamedTuple):
    """What ended a step, as far as the monitor saw it while it ran.

    ``down``: used nodes that the manager reported; ``hang``: what the watchdog saw; ``time_up``: we
    stopped it before the allocation's end; ``signal_name``: we stopped it because of a signal;
    ``stop_asked``: somebody asked to stop at once; ``forced``: it was killed by us.
    """

    status: Optional[ExitStatus]
    down: Sequence[NodeDown] = ()
    hang: str = ""
    time_up: bool = False
    signal_name: str = ""
    stop_asked: bool = False
    forced: bool = False


class _Every:
    """Tells when something is due again."""

    def __init__(
        self, jobenv: JobEnvironment, period_s: Optional[float], first: bool = False
    ) -> None:
        self._clock = jobenv.context.clock
        self._period_s = period_s
        self._next = self._clock.monotonic() + (0.0 if first else period_s or 0.0)

    def due(self) -> bool:
        if self._period_s is None or self._clock.monotonic() < self._next:
            return False
        self._next = self._clock.monotonic() + self._period_s
        return True


class Monitor:
    """Watches the steps of one job.

    Args:
        jobenv: the job.
        settings: grace and watchdog.
        signals: what was sent to us.
        halt: writes a halt condition with the given reason, so that the program stops by itself.
        gather_stacks: keeps the stacks of a step's ranks: of all, or of those on silent nodes.
        say: tells the user one line.
        stop_path: a file that means "stop the step at once".
    """

    def __init__(
        self,
        jobenv: JobEnvironment,
        settings: Settings,
        signals: SignalWatch,
        *,
        halt: Callable[[str], None],
        gather_stacks: Callable[[Any, Sequence[str]], None],
        say: Callable[[str], None],
        stop_path: str,
    ) -> None:
        self._jobenv = jobenv
        self._settings = settings
        self._signals = signals
        self._halt = halt
        self._gather_stacks = gather_stacks
        self._say = say
        self._stop_path = stop_path
        self._terminal = Terminal()

    def watch(
        self,
        proc: Any,
        jobstep: Any,
        *,
        used: Callable[[], Sequence[str]],
        progress: Optional[ProgressWatch],
        end_time: Callable[[], int],
        reserve: Callable[[float], float],
    ) -> Seen:
        """Return what ended the step; when this returns it has ended, or could not be ended.

        Args:
            proc: what the launcher waits for.
            jobstep: what the launcher kills.
            used: the nodes on which it runs, as far as known now.
            progress: the hang detector, None for none.
            end_time: when the allocation ends, as ``ResourceManager.end_time``; never fails.
            reserve: gets the seconds left, and returns how many of them must be kept at the end.
        """
        try:
            seen = self._watch(proc, jobstep, used, progress, end_time, reserve)
        finally:
            lent = self._terminal.is_lent
            self._terminal.take_back()
        if lent and seen.status is not None and seen.status.code == INTERRUPTED:
            return seen._replace(signal_name="SIGINT")
        return seen

    def _watch(
        self,
        proc: Any,
        jobstep: Any,
        used: Callable[[], Sequence[str]],
        progress: Optional[ProgressWatch],
        end_time: Callable[[], int],
        reserve: Callable[[float], float],
    ) -> Seen:
        launcher = self._jobenv.launcher
        nodes_due = _Every(self._jobenv, self._jobenv.resmgr.poll_seconds, first=True)
        stop_due = _Every(self._jobenv, STOP_POLL_S)
        hang_due = _Every(self._jobenv, WATCHDOG_POLL_S)
        time_due = _Every(self._jobenv, END_TIME_POLL_S, first=True)
        seen = Seen(None)
        grace: Optional[Deadline] = None
        end = END_UNKNOWN
        while True:
            finished, success = launcher.wait_run(proc, timeout=POLL_S)
            if finished:
                status = self._status(proc, success)
                if self._signals.first and not seen.signal_name and not status.success:
                    # Sent to the step as well, which was faster than we.
                    seen = seen._replace(signal_name=self._signals.first.name)
                return seen._replace(status=status)
            self._terminal.tend(proc)
            if self._signals.stop_now():
                self._say("second interrupt: ending the run now")
                return self._end(proc, jobstep, seen._replace(signal_name="SIGINT"))
            if self._signals.first and not seen.signal_name:
                name = self._signals.first.name
                patience = self._settings.halt_grace_s
                again = "; ^C again ends it now" if name == "SIGINT" else ""
                self._say(
                    f"{name} received: asking the program to stop, up to {patience:g} s{again}"
                )
                self._halt("SCRJOB_SIGNAL")
                seen = seen._replace(signal_name=name)
                grace = grace or Deadline(self._jobenv.context.clock, patience)
            if time_due.due():
                end = end_time()
            left = self._left(end)
            if left is not None and left <= reserve(left) and not seen.time_up:
                patience = min(self._settings.halt_grace_s, reserve(left) / 2)
                self._say(
                    f"the allocation ends in {left:.0f} s: "
                    f"asking the program to stop, up to {patience:.0f} s"
                )
                self._halt("SCRJOB_TIME_LIMIT")
                seen = seen._replace(time_up=True)
                grace = grace or Deadline(self._jobenv.context.clock, patience)
            if grace is not None and grace.passed():
                self._say("it did not stop in time: ending it")
                return self._end(proc, jobstep, seen)
            if stop_due.due() and os.path.exists(self._stop_path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._stop_path)
                self._say("asked to stop at once: ending the run")
                return self._end(proc, jobstep, seen._replace(stop_asked=True))
            if nodes_due.due():
                down = self._down(used())
                if down:
                    self._say("noticed: " + "; ".join(f"{bad.node}: {bad.reason}" for bad in down))
                    # Of a node that is only stopped the ranks are still there to be looked at.
                    self._gather_stacks(jobstep, [bad.node for bad in down])
                    return self._end(proc, jobstep, seen._replace(down=down))
            if progress is not None and hang_due.due():
                hang = progress.hang()
                if hang:
                    self._say(f"the program hangs: {hang}")
                    self._gather_stacks(jobstep, ())
                    return self._end(proc, jobstep, seen._replace(hang=hang))

    def _end(self, proc: Any, jobstep: Any, seen: Seen) -> Seen:
        """End the step as a whole and wait until its launcher is gone, with a limit."""
        launcher = self._jobenv.launcher
        launcher.kill_run(jobstep)
        finished, success = launcher.wait_run(proc, timeout=self._settings.settle_s)
        if not finished:
            self._say(f"the launcher is still there after {self._settings.settle_s:g} s")
        status = (
            self._status(proc, success) if finished else ExitStatus.from_returncode(-signal.SIGKILL)
        )
        return seen._replace(status=status, forced=True)

    def _status(self, proc: Any, success: Optional[bool]) -> ExitStatus:
        """Return how a step ended; of a launcher with ``wait_run`` alone only whether it succeeded."""
        status = self._jobenv.launcher.exit_status(proc)
        return status if status is not None else ExitStatus(0 if success else 1)

    def _left(self, end: int) -> Optional[float]:
        if end in (END_UNKNOWN, END_NO_LIMIT):
            return None
        return end - self._jobenv.context.clock.now()

    def _down(self, used: Sequence[str]) -> list[NodeDown]:
        clock = self._jobenv.context.clock
        try:
            down = self._jobenv.resmgr.down_nodes()
        except ScrError as error:
            # Unknown is not down: the step goes on, and the question is asked again.
            logger.warning("the resource manager could not be asked for down nodes: %s", error)
            return []
        return [
            NodeDown(node, down[node], "resource manager", clock.now(), 0.0, down[node])
            for node in used
            if node in down
        ]
