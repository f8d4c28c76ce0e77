# SPDX-License-Identifier: BSD-3-Clause
"""Watches one running step until it has ended, by itself or because it must.

What it asks is a table of watchers, each at its own pace: signals to us, the end of the allocation,
a request to stop at once (``scr_halt --immediate`` leaves a file in the job's state directory), the
nodes (the manager, the launcher's messages, the heartbeat), and the watchdog. Whatever may take long
is asked beside the loop, so that none of them waits for another.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline
from scrjob.model import END_NO_LIMIT, END_UNKNOWN, ExitStatus, NodeDown
from scrjob.supervisor.errand import Errand, Every
from scrjob.supervisor.heartbeat import Heartbeat
from scrjob.supervisor.nodewatch import NodeWatcher
from scrjob.supervisor.terminal import Terminal
from scrjob.supervisor.verdict import INTERRUPTED as CANCELLED

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.supervisor.placement import Placement
    from scrjob.supervisor.settings import Settings
    from scrjob.supervisor.signals import SignalWatch
    from scrjob.watchdog import ProgressWatch

POLL_S = 0.1
STOP_POLL_S = 1.0
WATCHDOG_POLL_S = 0.5
END_TIME_POLL_S = 15.0
NOTICE_POLL_S = 0.5
SETTLE_S = 20.0  # for each question that is still out when the job is over
STOP_FILE = "stop-now"
INTERRUPTED = 128 + signal.SIGINT


class Seen(NamedTuple):
    """What ended a step, as far as the monitor saw it while it ran.

    ``down``: used nodes that were lost, with the evidence; ``hang``: what the watchdog saw;
    ``time_up``: we stopped it before the allocation's end; ``signal_name``: we stopped it because of a
    signal; ``stop_asked``: somebody asked to stop at once; ``forced``: it was killed by us.
    """

    status: Optional[ExitStatus]
    down: Sequence[NodeDown] = ()
    hang: str = ""
    time_up: bool = False
    signal_name: str = ""
    stop_asked: bool = False
    forced: bool = False


class Step(NamedTuple):
    """A launched step and what is to be known of it.

    ``proc``: what the launcher waits for; ``jobstep``: what it kills; ``placement``: where it runs;
    ``nodes``: all healthy nodes, used or spare; ``progress``: the hang detector, None for none;
    ``end_time``: when the allocation ends, as ``ResourceManager.end_time``, never fails;
    ``reserve``: gets the seconds left, and returns how many of them must be kept at the end.
    """

    proc: Any
    jobstep: Any
    placement: Placement
    nodes: Sequence[str]
    progress: Optional[ProgressWatch]
    end_time: Callable[[], int]
    reserve: Callable[[float], float]


class Monitor:
    """Watches the steps of one job.

    Args:
        jobenv: the job.
        settings: grace, watchdog and heartbeat.
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
        self.jobenv = jobenv
        self.settings = settings
        self.signals = signals
        self.halt = halt
        self.gather_stacks = gather_stacks
        self.say = say
        self.stop_path = stop_path
        self.terminal = Terminal()
        self.heartbeat = Heartbeat(jobenv, settings.heartbeat, say)
        self._last: Optional[_Vigil] = None

    def watch(self, step: Step) -> Seen:
        """Return what ended the step; when this returns it has ended, or could not be ended."""
        self._last = vigil = _Vigil(self, step)
        try:
            seen = vigil.keep()
        finally:
            lent = self.terminal.is_lent
            self.terminal.take_back()
        if lent and seen.status is not None and seen.status.code == INTERRUPTED:
            return seen._replace(signal_name="SIGINT")
        return seen

    def settle(self) -> None:
        """Wait for questions to nodes that are still under way: each has a deadline of its own."""
        if self._last is not None:
            self._last.settle()
            self.heartbeat.settle(SETTLE_S)


class _Vigil:
    """One step under watch. A watcher that returns True wants the step to be ended now."""

    def __init__(self, monitor: Monitor, step: Step) -> None:
        self._monitor = monitor
        self._step = step
        self._jobenv = jobenv = monitor.jobenv
        self._clock = jobenv.context.clock
        self._seen = Seen(None)
        self._grace: Optional[Deadline] = None
        self._end = END_UNKNOWN
        self._end_due = Every(jobenv, END_TIME_POLL_S, first=True)
        self._noticed = False
        self._end_asked: Errand[int] = Errand(jobenv.context.runner, "end of the allocation")
        self._nodes = NodeWatcher(jobenv, monitor.heartbeat, step)
        table: tuple[tuple[float, Callable[[], bool]], ...] = (
            (0.0, self._second_interrupt),
            (0.0, self._first_signal),
            (NOTICE_POLL_S, self._notice),
            (0.0, self._time_left),
            (0.0, self._grace_over),
            (STOP_POLL_S, self._stop_file),
            (0.0, self._lost_nodes),
            (WATCHDOG_POLL_S, self._hang),
        )
        self._watchers = [(Every(jobenv, period_s), look) for period_s, look in table]

    def keep(self) -> Seen:
        """Watch until the step has ended."""
        launcher, monitor = self._jobenv.launcher, self._monitor
        while True:
            finished, success = launcher.wait_run(self._step.proc, timeout=POLL_S)
            if finished:
                return self._ended(self._status(success))
            monitor.terminal.tend(self._step.proc)
            for every, look in self._watchers:
                if every.due() and look():
                    return self._end_it()

    def settle(self) -> None:
        """Wait for the questions that are out."""
        self._end_asked.settle(SETTLE_S)
        self._nodes.settle(SETTLE_S)

    # -- watchers -----------------------------------------------------------------------------

    def _second_interrupt(self) -> bool:
        if not self._monitor.signals.stop_now():
            return False
        self._monitor.say("second interrupt: ending the run now")
        self._seen = self._seen._replace(signal_name="SIGINT")
        return True

    def _first_signal(self) -> bool:
        received = self._monitor.signals.first
        if received and not self._seen.signal_name:
            patience = self._monitor.settings.halt_grace_s
            again = "; ^C again ends it now" if received.name == "SIGINT" else ""
            self._ask_to_stop(
                f"{received.name} received: asking the program to stop, up to {patience:g} s{again}",
                "SCRJOB_SIGNAL",
                patience,
            )
            self._seen = self._seen._replace(signal_name=received.name)
        return False

    def _notice(self) -> bool:
        """Ask for the end anew when the launcher says that the step is cancelled: it may have moved.

        With a grace time pre-emption only signals the ranks at first, and us not at all.
        """
        launcher = self._jobenv.launcher
        if not self._noticed and any(
            message.said in CANCELLED for message in launcher.messages(self._step.jobstep)
        ):
            self._noticed = True
            self._end_due = Every(self._jobenv, END_TIME_POLL_S, first=True)
        return False

    def _time_left(self) -> bool:
        if not self._end_asked.is_out and self._end_due.due():
            self._end_asked.ask(self._step.end_time)
        end = self._end_asked.answer()
        self._end = self._end if end is None else end
        if self._end in (END_UNKNOWN, END_NO_LIMIT) or self._seen.time_up:
            return False
        left = self._end - self._clock.now()
        reserve = self._step.reserve(left)
        if left <= reserve:
            # The end may have been moved to shortly from now: half of the time is to save data.
            patience = min(self._monitor.settings.halt_grace_s, max(0.0, left) / 2)
            self._ask_to_stop(
                f"the allocation ends in {max(0.0, left):.0f} s: "
                f"asking the program to stop, up to {patience:.0f} s",
                "SCRJOB_TIME_LIMIT",
                patience,
            )
            self._seen = self._seen._replace(time_up=True)
        return False

    def _grace_over(self) -> bool:
        if self._grace is None or not self._grace.passed():
            return False
        self._monitor.say("it did not stop in time: ending it")
        return True

    def _stop_file(self) -> bool:
        if not os.path.exists(self._monitor.stop_path):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._monitor.stop_path)
        self._monitor.say("asked to stop at once: ending the run")
        self._seen = self._seen._replace(stop_asked=True)
        return True

    def _lost_nodes(self) -> bool:
        down = self._nodes.lost()
        if not down:
            return False
        self._monitor.say("noticed: " + "; ".join(f"{bad.node}: {bad.reason}" for bad in down))
        # Of a node that is only stopped the ranks are still there to be looked at.
        self._monitor.gather_stacks(self._step.jobstep, [bad.node for bad in down])
        self._seen = self._seen._replace(down=down)
        return True

    def _hang(self) -> bool:
        hang = self._step.progress.hang() if self._step.progress is not None else ""
        if not hang:
            return False
        self._monitor.say(f"the program hangs: {hang}")
        self._monitor.gather_stacks(self._step.jobstep, ())
        self._seen = self._seen._replace(hang=hang)
        return True

    # -- the end --------------------------------------------------------------------------------

    def _ask_to_stop(self, why: str, reason: str, patience_s: float) -> None:
        self._monitor.say(why)
        self._monitor.halt(reason)
        grace = Deadline(self._clock, patience_s)
        if self._grace is None or grace.left() < self._grace.left():
            self._grace = grace

    def _end_it(self) -> Seen:
        """End the step as a whole and wait until its launcher is gone, with a limit."""
        launcher, settle_s = self._jobenv.launcher, self._monitor.settings.settle_s
        ended = launcher.exit_status(self._step.proc)
        if ended is not None and ended.success:  # by itself, while its stacks were gathered say
            return self._seen._replace(status=ended, hang="")
        if self._seen.down:
            launcher.abandon_run(self._step.jobstep, [bad.node for bad in self._seen.down])
        else:
            launcher.kill_run(self._step.jobstep)
        finished, success = launcher.wait_run(self._step.proc, timeout=settle_s)
        if not finished:
            self._monitor.say(f"the launcher is still there after {settle_s:g} s")
        status = self._status(success) if finished else ExitStatus.from_returncode(-signal.SIGKILL)
        return self._seen._replace(status=status, forced=True)

    def _ended(self, status: ExitStatus) -> Seen:
        """Return what is known of a step that ended by itself."""
        received = self._monitor.signals.first
        if received and not self._seen.signal_name and not status.success:
            # Sent to the step as well, which was faster than we.
            self._seen = self._seen._replace(signal_name=received.name)
        return self._seen._replace(status=status)

    def _status(self, success: Optional[bool]) -> ExitStatus:
        """Return how it ended; of a launcher with ``wait_run`` alone only whether it succeeded."""
        status = self._jobenv.launcher.exit_status(self._step.proc)
        return status if status is not None else ExitStatus(0 if success else 1)
