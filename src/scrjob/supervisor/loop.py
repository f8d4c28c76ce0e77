# SPDX-License-Identifier: BSD-3-Clause
"""The run loop: test nodes, decide, launch, watch, judge; again until it is over; then save the data.

Each step is written to the state file before it is done, so that a supervisor that is killed at any
line can be started again in the same allocation and continues.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob.errors import CommandError, NotInAllocationError, ScrError
from scrjob.have_restart import have_restart
from scrjob.list_down_nodes import examine_nodes
from scrjob.model import END_NO_LIMIT, END_UNKNOWN, Cause, ExitStatus, NodeDown
from scrjob.postrun import save_datasets
from scrjob.prerun import OWN_REASONS, drop_halt_reasons
from scrjob.scavenge.progress import Lines
from scrjob.should_exit import halt_reason
from scrjob.supervisor import evidence, state
from scrjob.supervisor.badnodes import note_bad_node
from scrjob.supervisor.inquest import TIME_REASONS, Ended, Inquest
from scrjob.supervisor.monitor import STOP_FILE, Monitor, Seen, Step
from scrjob.supervisor.placement import Placement
from scrjob.supervisor.settings import AT_ONCE_S, PROGRESS_ATTEMPTS, UNLIMITED
from scrjob.supervisor.stacks import gather_stacks, stacks_name
from scrjob.supervisor.verdict import Verdict
from scrjob.watchdog import ProgressWatch

if TYPE_CHECKING:
    from scrjob.jobenv import JobEnv
    from scrjob.model import StepMessage
    from scrjob.supervisor.command import RunCommand
    from scrjob.supervisor.settings import Settings
    from scrjob.supervisor.signals import SignalWatch
    from scrjob.supervisor.state import JobState

logger = logging.getLogger(__name__)

EXIT_SUCCESS = 0
EXIT_FEW_NODES = 69
EXIT_REQUEUE = 75
EXIT_NO_PROGRESS = 93
EXIT_INTERRUPTED = 130
FINAL_CODES = {
    Cause.TIME_LIMIT: EXIT_REQUEUE,
    Cause.PREEMPTED: EXIT_REQUEUE,
    Cause.CANCELLED: EXIT_INTERRUPTED,
    Cause.NODE_DOWN: EXIT_FEW_NODES,
}
"""When the allocation is taken away. A user who cancels it wants no requeue, as one who interrupts."""
JUST_TESTED_S = 5.0
NOT_ITS_DOING = tuple(
    cause.value for cause in (Cause.NODE_DOWN, Cause.CANCELLED, Cause.SUPERVISOR_LOST)
)


class Outcome(NamedTuple):
    """How the loop ended: the exit code of docs/exit-codes.md and one line why."""

    code: int
    why: str


class Loop:
    """Runs one job's command until it is over.

    Args:
        jobenv: the job; its launcher starts the steps.
        command: what to launch.
        settings: the user's.
        job_state: locked and loaded.
        signals: entered.
        log: an SCRLog.
        say: tells the user one line.
    """

    def __init__(
        self,
        jobenv: JobEnv,
        command: RunCommand,
        settings: Settings,
        job_state: JobState,
        signals: SignalWatch,
        log: Any,
        say: Callable[[str], None],
    ) -> None:
        self._jobenv = jobenv
        self._command = command
        self._settings = settings
        self._state = job_state
        self._signals = signals
        self._log = log
        self._say = say
        self._clock = jobenv.context.clock
        self._nodes = jobenv.job_nodes()
        self._end = END_UNKNOWN
        self._left_when_known = self._time_left()
        self._avoided: list[str] = []
        self._tested: Optional[float] = None
        self._stop_path = os.path.join(job_state.directory, STOP_FILE)
        self._monitor = Monitor(
            jobenv,
            settings,
            signals,
            halt=self._halt,
            gather_stacks=self._gather_stacks,
            say=say,
            stop_path=self._stop_path,
        )
        self._inquest = Inquest(jobenv, self._newly_bad)

    def run(self) -> Outcome:
        """Return when no further run is to be started. The data is not saved yet."""
        outcome = self._take_over()
        while outcome is None:
            outcome = self._before_launch() or self._one_run()
        return outcome

    # -- a predecessor's remains ------------------------------------------------------------

    def _take_over(self) -> Optional[Outcome]:
        """Continue what a supervisor that died in this allocation left, else begin a session."""
        data = self._state.data
        if not self._state.known or self._state.phase == state.DONE:
            data["session"] += 1
            data["without_progress"] = 0
            data["outcome"] = None
            self._state.save(state.TESTING)
            return None
        self._say(
            f"continuing job {data['job_id']}: a supervisor was lost in phase {self._state.phase!r}"
        )
        last = self._runs()[-1] if self._runs() else None
        if last is None:
            return None
        if last["cause"] is not None:
            return self._decide_again(last) if self._state.phase == state.ENDED else None
        if last["exit_code"] is not None:  # it ended before the eyes of the predecessor
            return self._judge(last, Seen(ExitStatus(last["exit_code"], last["signal"])))
        self._export()  # an unrecorded step is found by the job that it is of
        if self._jobenv.launcher.end_orphan(last["step"]):
            self._say(f"run {last['run']} was still there without its supervisor: ended it")
        self._close_run(
            last, Verdict(Cause.SUPERVISOR_LOST, ["scr_run died during this run"]), None
        )
        return None

    def _decide_again(self, run: dict[str, Any]) -> Optional[Outcome]:
        """Draw the conclusion from a judged run that the predecessor did not live to draw."""
        final = run.get("final")
        verdict = Verdict(Cause(run["cause"]), run["evidence"], Cause(final) if final else None)
        if verdict.cause is Cause.SUPERVISOR_LOST:
            return None
        name = verdict.evidence[0].split()[0] if verdict.cause is Cause.SIGNAL else ""
        return self._after(run, verdict, Seen(None, signal_name=name))

    # -- before a launch --------------------------------------------------------------------

    def _before_launch(self) -> Optional[Outcome]:
        """Find bad nodes; return an outcome if no further run is to be started."""
        self._state.save(state.TESTING)
        if self._signals.first:
            return self._signal_outcome(self._signals.first.name)
        held = self._halted()
        if held is not None:
            return held
        counted = [run for run in self._runs() if run["cause"] != Cause.SUPERVISOR_LOST.value]
        if self._settings.runs != UNLIMITED and len(counted) >= self._settings.runs:
            # Only after a lost supervisor: else the run's own verdict ended the loop.
            code = (counted[-1]["exit_code"] or 1) if counted else 1
            return Outcome(code, "no runs are left")
        first = not self._runs()
        try:
            if not self._just_tested():
                self._test_nodes(first)
        except NotInAllocationError as error:
            return Outcome(EXIT_FEW_NODES, str(error))
        left = self._time_left()
        if left is not None and left <= self._reserve(left):
            return Outcome(
                EXIT_REQUEUE, f"{left:.0f} s of the allocation are left, too few for a run"
            )
        good = self._good_nodes()
        needed = self._needed()
        if len(good) < needed:
            return Outcome(
                EXIT_FEW_NODES,
                f"healthy nodes: {len(good)}, needed: {needed} "
                "(by SCR_MIN_NODES, the last run, -N, or else all nodes)",
            )
        if self._signals.first:  # while the nodes were tested
            return self._signal_outcome(self._signals.first.name)
        return None

    def _halted(self) -> Optional[Outcome]:
        evidence.check_halt_file(self._jobenv)
        reason = halt_reason(self._jobenv)
        if reason is None:
            return None
        stored = evidence.stored_halt_reason(self._jobenv)
        if stored in TIME_REASONS:
            return Outcome(EXIT_REQUEUE, reason)
        if stored in OWN_REASONS:
            return Outcome(EXIT_REQUEUE, reason)
        again = f"to run again: scr_halt -r {shlex.quote(self._jobenv.dir_prefix())}"
        return Outcome(EXIT_SUCCESS, f"{reason} ({again})")

    def _test_nodes(self, first: bool) -> None:
        known = self._state.bad_nodes()
        left = [node for node in self._nodes if node not in known]
        self._jobenv.nodetests.tells = not first
        verdicts = examine_nodes(self._jobenv, left) if left else {}
        for verdict in verdicts.values():
            self._condemn_node(verdict)
        if first:
            evidence.refuse_broken_tests(self._jobenv.nodetests.broken)
        self._state.save()
        self._tested = self._clock.monotonic()

    def _just_tested(self) -> bool:
        """Tell whether the nodes were tested a moment ago, to find out why the run before had ended."""
        return self._tested is not None and self._clock.monotonic() - self._tested < JUST_TESTED_S

    def _condemn_node(self, verdict: Any) -> None:
        if self._state.condemn(verdict):
            self._say(f"node {verdict.node} is out: {verdict.reason} (by {verdict.test})")
            self._log.event("NODE_FAIL", note=f"{verdict.node}: {verdict.reason}", secs=0)
            session = self._state.data["session"]
            note_bad_node(self._jobenv, verdict, session=session, run=len(self._runs()))

    def _good_nodes(self) -> list[str]:
        bad = self._state.bad_nodes()
        return [node for node in self._nodes if node not in bad]

    def _needed(self) -> int:
        """Return how many nodes a run needs; the order of sources is told in docs/howto/run.md."""
        if self._settings.min_nodes:
            return self._settings.min_nodes
        launched = [run for run in self._runs() if run["launched"]]
        if launched and evidence.written_since(self._jobenv, "nodes.scr", launched[-1]["started"]):
            count = self._jobenv.runnode_count()
            if count:
                return count
        ran = [run for run in launched if run["nodes"]]
        if ran:
            return max(len(run["nodes"]) for run in ran)
        wanted = self._jobenv.launcher.nodes_wanted(self._command.words(None))
        return wanted or len(self._nodes)

    # -- one run ------------------------------------------------------------------------------

    def _one_run(self) -> Optional[Outcome]:
        if self._runs() and not self._jobenv.resmgr.private_storage():
            # Nodes without storage of their own: what is in cache would not be found again.
            save_datasets(
                self._jobenv,
                self._bad_names(),
                self._log,
                self._say,
                nodes=self._nodes,
                progress=Lines(self._say, self._jobenv.context.clock),
            )
        good = self._good_nodes()
        self._avoided = self._bad_names()
        run = self._open_run()
        words = self._command.words(self._restart_name(good))
        self._export()
        launcher = self._jobenv.launcher
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._stop_path)  # a request that came too late was about another run
        self._log.event("RUN_START", note=f"run={run['run']}")
        self._state.save(state.LAUNCHING)
        try:
            proc, jobstep = launcher.launch_run(words, nodes=good, down_nodes=self._avoided)
        except (CommandError, OSError) as error:
            return self._judge(run, Seen(None), launch_error=str(error))
        if proc is None:  # as runproc says it, with which launchers of sites start programs
            return self._judge(run, Seen(None), launch_error="the launcher could not be started")
        try:
            seen = self._attend(run, words, good, proc, jobstep)
        except Exception:
            # Whatever it was: no step outlives its supervisor, or the next would run beside it.
            with contextlib.suppress(ScrError, OSError):
                launcher.kill_run(jobstep)
            raise
        return self._judge(run, seen, messages=launcher.messages(jobstep))

    def _attend(
        self, run: dict[str, Any], words: list[str], good: list[str], proc: Any, jobstep: Any
    ) -> Seen:
        """Stay with a launched step until it has ended."""
        launcher = self._jobenv.launcher
        run["step"] = launcher.step_record(jobstep)
        run["launched"] = self._clock.now()
        self._state.save(state.RUNNING)
        wanted = launcher.nodes_wanted(words) or self._needed()
        chosen = [str(node) for node in launcher.chosen_nodes(jobstep) or good[:wanted]]
        self._say(f"run {run['run']}: launched on {evidence.fold(chosen)}" + self._avoiding())
        self._inquest.conditions.begin(chosen)

        def note(nodes: list[str]) -> None:
            run["nodes"] = nodes
            self._state.save()

        placement = Placement(chosen, self._avoided, launcher.name, note)
        limits = self._settings.watchdog
        hangs = sum(run["cause"] == Cause.HANG.value for run in self._runs())
        progress = (
            ProgressWatch(self._jobenv, limits.after(hangs), placement.used) if limits else None
        )
        step = Step(
            proc, jobstep, placement, good, progress, end_time=self._end_time, reserve=self._reserve
        )
        seen = self._monitor.watch(step)
        if not placement.is_known and not seen.down:
            placement.take(self._step_nodes(jobstep))
        return seen

    def _restart_name(self, good: list[str]) -> Optional[str]:
        """Return the checkpoint for the restart command; not asked for when there is none."""
        if not self._command.restart_cmd:
            return None
        return have_restart(self._jobenv, good)

    def _step_nodes(self, jobstep: Any) -> list[str]:
        """Return where a step that has ended ran, [] if the launcher cannot tell."""
        try:
            return [str(node) for node in self._jobenv.launcher.step_nodes(jobstep) or ()]
        except ScrError as error:
            logger.warning("the launcher could not be asked for the nodes of its step: %s", error)
            return []

    def _avoiding(self) -> str:
        return f", avoiding {evidence.fold(self._avoided)}" if self._avoided else ""

    def _bad_names(self) -> list[str]:
        return list(self._state.bad_nodes())

    def _runs(self) -> list[dict[str, Any]]:
        session = self._state.data["session"]
        return [run for run in self._state.runs if run["session"] == session]

    def _open_run(self) -> dict[str, Any]:
        run: dict[str, Any] = {
            "run": len(self._runs()) + 1,
            "session": self._state.data["session"],
            "started": self._clock.now(),
            "launched": None,
            "ended": None,
            "nodes": [],
            "avoided": self._avoided,
            "step": "",
            "cause": None,
            "evidence": [],
            "exit_code": None,
            "signal": None,
            "dataset_before": evidence.newest_dataset(self._jobenv),
            "dataset_after": None,
            "final": None,
            "lost_seconds": 0.0,
        }
        self._state.runs.append(run)
        return run

    # -- after a run --------------------------------------------------------------------------

    def _judge(
        self,
        run: dict[str, Any],
        seen: Seen,
        launch_error: str = "",
        messages: Sequence[StepMessage] = (),
    ) -> Optional[Outcome]:
        """Find out why the run ended, write it down, and return an outcome if it was the last."""
        if run["ended"] is None:
            run["ended"] = self._clock.now()
        if seen.status is not None:
            run["exit_code"], run["signal"] = seen.status
        self._state.save(state.ENDED)
        used = run["nodes"] or [node for node in self._nodes if node not in self._avoided]
        ended = Ended(seen, used, messages, launch_error, self._end)
        for bad in seen.down:
            self._condemn_node(bad)
        verdict = self._inquest.judge(ended)
        self._close_run(run, verdict, seen.status)
        return self._after(run, verdict, seen)

    def _newly_bad(self) -> list[NodeDown]:
        """Test the nodes after a run, and return those that were good before."""
        before = set(self._bad_names())
        try:
            self._test_nodes(first=False)
        except NotInAllocationError as error:
            # All of them, but not for the rest of the job, which may go on in another allocation.
            now = self._clock.now()
            return [NodeDown(node, str(error), "resource manager", now) for node in self._nodes]
        return [bad for name, bad in self._state.bad_nodes().items() if name not in before]

    def _close_run(
        self, run: dict[str, Any], verdict: Verdict, status: Optional[ExitStatus]
    ) -> None:
        run["ended"] = self._clock.now() if run["ended"] is None else run["ended"]
        run["cause"] = verdict.cause.value
        run["evidence"] = list(verdict.evidence)
        run["final"] = verdict.final.value if verdict.final else None
        run["exit_code"] = status.code if status else None
        run["signal"] = status.signal if status else None
        run["dataset_after"] = evidence.newest_dataset(self._jobenv)
        if verdict.cause is not Cause.SUCCESS:
            run["lost_seconds"] = evidence.lost_since_dataset(self._jobenv, run)
        secs = run["ended"] - run["started"]
        note = " ".join([f"run={run['run']}", f"cause={verdict.cause.name}", *verdict.evidence])
        self._log.event("RUN_END", note=note, secs=secs)
        self._say(f"run {run['run']} ended after {secs:.1f} s: {verdict}")
        self._state.save(state.ENDED)

    def _after(self, run: dict[str, Any], verdict: Verdict, seen: Seen) -> Optional[Outcome]:
        """Return the outcome if this run was the last, None to go on."""
        code = run["exit_code"]
        if verdict.cause is Cause.SUCCESS:
            return Outcome(EXIT_SUCCESS, "the program finished")
        if verdict.cause is Cause.HALT and verdict.evidence[0] in OWN_REASONS:
            # Asked for by a predecessor that was killed.
            return Outcome(EXIT_REQUEUE, verdict.short())
        if verdict.cause is Cause.HALT:
            forced = seen.stop_asked or code == 0
            return Outcome(EXIT_SUCCESS if forced else code or 1, verdict.short())
        if verdict.final in FINAL_CODES:
            return Outcome(FINAL_CODES[verdict.final], verdict.short())
        if verdict.cause is Cause.SIGNAL:
            return self._signal_outcome(seen.signal_name)
        if verdict.final is Cause.STORAGE_FULL:
            return Outcome(code or 1, f"{verdict.short()}; make room there before the next run")
        runs = [r for r in self._runs() if r["cause"] != Cause.SUPERVISOR_LOST.value]
        if self._settings.runs != UNLIMITED and len(runs) >= self._settings.runs:
            return Outcome(code or 1, f"{verdict.short()}; no runs are left")
        data = self._state.data
        data["without_progress"] = self._without_progress()
        self._state.save()
        if data["without_progress"] >= PROGRESS_ATTEMPTS:
            return Outcome(
                EXIT_NO_PROGRESS,
                f"{PROGRESS_ATTEMPTS} runs in a row brought no new dataset, last {verdict.short()}",
            )
        return None

    def _without_progress(self) -> int:
        """Return how many runs in a row, up to the last one, brought no new dataset."""
        count = 0
        for run in self._runs():
            if run["cause"] in NOT_ITS_DOING:
                continue  # not the program's doing: neither counted nor forgiven
            advanced = run["dataset_after"] > run["dataset_before"]
            makes_datasets = run["dataset_after"] > 0
            at_once = run["ended"] - run["started"] < AT_ONCE_S
            count = count + 1 if not advanced and (makes_datasets or at_once) else 0
        return count

    def _signal_outcome(self, name: str) -> Outcome:
        code = EXIT_INTERRUPTED if name == "SIGINT" else EXIT_REQUEUE
        return Outcome(code, f"{name} received")

    # -- helpers -----------------------------------------------------------------------------

    def _time_left(self) -> Optional[float]:
        """Return the seconds until the allocation ends, None if it has no end or none is known."""
        end = self._end_time()
        if end in (END_UNKNOWN, END_NO_LIMIT):
            return None
        return end - self._clock.now()

    def _end_time(self) -> int:
        """Return when the allocation ends, asked anew; without an answer what was known before."""
        try:
            self._end = int(self._jobenv.resmgr.end_time() or END_UNKNOWN)
        except ScrError as error:
            logger.warning("the end of the allocation could not be asked: %s", error)
        return self._end

    def _reserve(self, left_s: float) -> float:
        """Return the seconds to keep free at the end of the allocation, of which so many are left."""
        if self._left_when_known is None:
            self._left_when_known = left_s
        return self._settings.reserve(self._left_when_known)

    def _export(self) -> None:
        """Give the program what it needs to find the job: id, user, prefix, end of the allocation."""
        extra = {
            "SCR_JOB_ID": self._jobenv.job_id(),
            "SCR_USER_NAME": self._jobenv.user(),
            "SCR_PREFIX": self._jobenv.dir_prefix(),
            "SCR_END_TIME": str(self._end_time()),
            "SCR_STACK_DIR": self._state.directory,
        }
        self._jobenv.launcher.bind(self._jobenv.context.with_environ(extra))

    def _halt(self, reason: str) -> None:
        evidence.write_halt_reason(self._jobenv, reason)
        self._state.data["own_reason"] = reason
        self._state.save()

    def _gather_stacks(self, jobstep: Any, silent: Sequence[str]) -> None:
        path = stacks_name(self._state.directory, self._runs()[-1]["run"])
        try:
            found = gather_stacks(self._jobenv, jobstep, path, self._state.directory, silent)
        except OSError as error:
            logger.warning("the stacks cannot be written: %s", error)
            return
        if found:
            self._say(f"stacks of the hung ranks: {found}")

    def nodes_to_leave_alone(self) -> list[str]:
        """Return the nodes that a scavenge must not wait for."""
        bad = self._state.bad_nodes()
        try:
            down = self._jobenv.resmgr.down_nodes()
        except ScrError as error:
            logger.warning("the resource manager could not be asked for down nodes: %s", error)
            down = {}
        return [node for node in self._nodes if node in bad or node in down]

    def nodes(self) -> list[str]:
        """Return all nodes of the job, as they were at the start."""
        return list(self._nodes)

    def leave(self) -> None:
        """Take our own halt condition back: it was about this job only."""
        # Not only what the state knows: a killed predecessor may have written the one and not the other.
        try:
            drop_halt_reasons(self._jobenv, OWN_REASONS)
        except ScrError as error:
            logger.warning("%s", error)
        self._state.data["own_reason"] = None
        self._monitor.settle()
        self._inquest.conditions.settle()
