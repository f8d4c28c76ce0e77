# SPDX-License-Identifier: BSD-3-Clause
"""Job steps of Slurm: ``scr_run srun [OPTIONS] PROGRAM [ARGUMENT...]`` inside an allocation.

What Slurm does, seen with 22.05 on a real cluster, and the answers here:

- A step takes any free nodes of the allocation: it is told all nodes to use, and all not to use.
- A dead node is noticed by nobody for SlurmdTimeout (300 s). Sending a step with a dead node a signal
  takes ``scancel`` 12 s; cancelling it takes some milliseconds, but its srun stays for KillWait + 2 s.
- Until Slurm gives the dead node up, a cancelled step is listed on, with the CPUs of all its nodes. A
  step that overlaps starts beside it at once.
- A step that is cancelled while its tasks are being started may miss it: srun says that it timed out, ends
  with code 0, and the tasks run on. It is cancelled until it is gone.
- A killed srun leaves its step running. srun without controller cannot end its tasks by TERM, but hands
  on two interrupts to them.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from scrjob._clock import wait_for
from scrjob._fsio import atomic_write
from scrjob._process import group_exists, kill_group, signal_group
from scrjob._slurm import fits, fold_nodes, tool_environ
from scrjob.errors import CommandError, NotInAllocationError, ScrError
from scrjob.hostlist import sort_hosts
from scrjob.launchers import _slurm_steps, _srun_options, _srun_placement
from scrjob.launchers._srun_messages import Transcript, task_status
from scrjob.launchers._stderr import StderrTee
from scrjob.launchers._typed import TypedInput
from scrjob.launchers.joblauncher import TERM_GRACE_S, JobLauncher
from scrjob.model import ExitStatus, NodeName, StepMessage

if TYPE_CHECKING:
    from scrjob.launchers._slurm_steps import ListedStep
    from scrjob.protocols import Process

logger = logging.getLogger(__name__)

ASK_LIMIT_S = 5.0  # for scontrol; a busy controller takes seconds
CANCEL_LIMIT_S = 1.5  # for scancel: milliseconds, or the controller does not answer
CANCELLED_S = 3.0  # for srun to end when its step was cancelled and no node is dead
ABANDONED_S = 0.3  # the same with a dead node: for the last words of the others
INTERRUPTED_S = 1.0  # for tasks that srun handed our interrupts on to
INTERRUPT_PAUSE_S = 0.2  # two interrupts within 1 s mean it
KILLED_S = 5.0
GAVE_UP = 1  # exit code of a srun that gave up its tasks and says 0
MISSED_S = 2.0  # for a cancelled step to be off the list
MISSED_POLL_S = 0.25
SIGNALS = 64
HELP_LIMIT_S = 10.0


class SrunStep:
    """A started srun and what is known of its step; both what is waited for and what is killed.

    Attributes:
        pid: of srun, which leads a process group.
        job: the job's id.
        chosen: the nodes that it was told to use.
        number: of its step, None until it was seen.
        nodes: where the step runs, None until it was seen.
        transcript: what srun has said.
    """

    def __init__(self, job: str, chosen: Sequence[str]) -> None:
        self.pid = 0
        self.job = job
        self.chosen = list(chosen)
        self.number: Optional[str] = None
        self.nodes: Optional[list[str]] = None
        self.transcript = Transcript()
        self.tee: Optional[StderrTee] = None
        self.typed: Optional[TypedInput] = None
        self._process: Any = None
        self._is_over = False

    def began(self, process: Process) -> None:
        """Take the started srun."""
        self._process = process
        self.pid = process.pid

    def poll(self) -> Optional[int]:
        """Return srun's exit code (-N for signal N), None while it runs."""
        code: Optional[int] = self._process.poll()
        return None if code is None else self._ended(code)

    def wait(self, timeout: Optional[float] = None) -> int:
        """Return srun's exit code; raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        return self._ended(self._process.wait(timeout))

    def _ended(self, code: int) -> int:
        if not self._is_over:
            self._is_over = True
            if self.typed is not None:
                self.typed.stop()
            if self.tee is not None:
                self.tee.finish()
        return GAVE_UP if self.transcript.has_given_up and code == 0 else code

    @property
    def name(self) -> str:
        """Return ``JOB.STEP``, "" if the step has not been seen."""
        return f"{self.job}.{self.number}" if self.number is not None else ""


class SRUN(JobLauncher):
    """Starts steps by srun; docs/howto/slurm-steps.md tells what it adds to the user's words."""

    PROGRAM = "srun"

    def __init__(self, launcher: str = "srun") -> None:
        super().__init__(launcher)
        self._help: Optional[str] = None
        self._previous: Optional[SrunStep] = None
        self._left_behind: set[str] = set()  # numbers of cancelled steps that were not seen to end

    def nodes_wanted(self, args: Sequence[str]) -> Optional[int]:
        """Return what -N says, else the nodes that -n needs, None without either.

        Raises:
            UsageError: the words cannot be used here, see ``launch_run``.
        """
        environ = self.context.environ
        parts = self._parse(args)
        _srun_placement.check(parts, environ, _read)
        return _srun_placement.nodes_wanted(parts, environ)

    def launch_run(
        self,
        args: Sequence[str],
        nodes: Optional[Sequence[str]] = None,
        down_nodes: Optional[Sequence[str]] = None,
    ) -> tuple[SrunStep, SrunStep]:
        """Start a step on the first of ``nodes``; see the base class.

        Without any node list the words go to srun unchanged.

        Raises:
            UsageError: an option cannot be used here, a number is none, or too few nodes are left.
            NotInAllocationError: there is no SLURM_JOB_ID.
            CommandError: srun cannot be started.
        """
        environ = self.context.environ
        parts = self._parse(args)
        has_terminal = any(part.has("pty") for part in parts)
        if nodes is None and down_nodes is None:
            step = SrunStep(self._job_or_none(), ())
            return self._start(list(args), environ, step, has_terminal=has_terminal)
        job = self._job()
        _srun_placement.check(parts, environ, _read)
        avoided = list(dict.fromkeys(down_nodes or ()))
        everywhere = _srun_placement.allocated_nodes(environ)
        bad = set(avoided)
        candidates = [node for node in dict.fromkeys(nodes or everywhere) if node not in bad]
        placed = _srun_placement.place(parts, candidates, environ, _read)
        overlap = self._must_overlap(job, avoided)
        words: list[str] = []
        for at, one in enumerate(placed):
            refused = _srun_placement.user_nodes(one.part, "exclude", _read)
            others = {*everywhere, *candidates, *avoided, *refused}.difference(one.nodes)
            extra = _srun_placement.extra_words(
                one,
                environ,
                overlap=overlap,
                nodelist=self._node_list(one.nodes, f"nodelist.{at}"),
                exclude=self._node_list(others, f"exclude.{at}"),
            )
            words += [*([_srun_options.PART] if at else []), *extra]
            words += _srun_placement.user_words(one, overlap=overlap)
        step = SrunStep(job, [node for one in placed for node in one.nodes])
        if self.heeds_messages and not has_terminal:
            step.tee = StderrTee(lambda line: step.transcript.hear(line, self.context.clock.now()))
        clean = _srun_placement.clean_environ(environ, parts, overlap=overlap)
        return self._start(words, clean, step, has_terminal=has_terminal)

    def _start(
        self, words: list[str], environ: Mapping[str, str], step: SrunStep, *, has_terminal: bool
    ) -> tuple[SrunStep, SrunStep]:
        runner = self.context.runner
        if not has_terminal and TypedInput.is_needed():
            step.typed = TypedInput()
        try:
            process = runner.start(
                [self.PROGRAM, *words],
                env=environ,
                stdin=step.typed.fd if step.typed else None,
                stderr=step.tee.fd if step.tee else None,
            )
        except CommandError:
            for stream in (step.tee, step.typed):
                if stream is not None:
                    stream.drop()
            raise
        step.began(process)
        self._previous = step
        for stream in (step.tee, step.typed):
            if stream is not None:
                stream.start(runner)
        return step, step

    # -- while it runs ------------------------------------------------------------------------

    def exit_status(self, proc: Any) -> Optional[ExitStatus]:
        """Return how the first task that failed ended, as srun said; else by srun's exit code.

        Where srun ends the other tasks for one that failed, its own code tells how those ended.
        """
        code = proc.poll()
        if code is None or code < 0:
            return None if code is None else ExitStatus.from_returncode(code)
        if not 0 < code - 128 <= SIGNALS:
            return ExitStatus(code)
        told = [status for status in map(task_status, proc.transcript.messages()) if status]
        return told[0] if told else ExitStatus(code, code - 128)

    def messages(self, jobstep: Any) -> list[StepMessage]:
        """Return what srun and slurmstepd said; [] where their messages are not heeded."""
        return list(jobstep.transcript.messages())

    def chosen_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes of ``--nodelist``, None if srun chose."""
        return [NodeName(node) for node in jobstep.chosen] or None

    def step_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes of the step as the controller has it, None until it has one."""
        if jobstep.nodes is None:
            self._find(jobstep)
        return None if jobstep.nodes is None else [NodeName(node) for node in jobstep.nodes]

    def rank_environ(self, jobstep: Any) -> dict[str, str]:
        """Return SLURM_JOB_ID and SLURM_STEP_ID of the step's tasks, {} until it is known."""
        if jobstep.number is None:
            self._find(jobstep)
        if jobstep.number is None:
            return {}
        return {"SLURM_JOB_ID": jobstep.job, "SLURM_STEP_ID": jobstep.number}

    def jobstep_id(self, pid: int) -> Optional[str]:
        """Return ``JOB.STEP`` of the srun with a process id on this host, None if it has no step."""
        step = SrunStep(self._job(), ())
        step.pid = pid
        self._find(step)
        return step.name or None

    # -- its end --------------------------------------------------------------------------------

    def kill_run(self, jobstep: Any = None) -> None:
        """End the whole step: TERM, a grace, then its cancellation; again or too late is no error.

        The signal is sent in the background, for a dead node holds it up. If Slurm does not answer, srun
        hands the tasks two interrupts, and is ended.
        """
        if jobstep is None or _ended_by_itself(jobstep):
            return
        jobstep.transcript.is_ended_by_us = True
        if jobstep.number is None:
            self._find(jobstep)
        name = jobstep.name
        if name:
            self.context.runner.beside(lambda: self._terminate(name), f"TERM to {name}")
        else:
            signal_group(jobstep, signal.SIGTERM)  # it gives up a step that it does not have yet
        if not (self._gone(jobstep, TERM_GRACE_S) and _ended_by_itself(jobstep)):
            self._cancel(jobstep, CANCELLED_S)

    def end_step(self, step_id: str) -> bool:
        """End the step ``JOB.STEP`` of any job of the user's; see the base class.

        Raises:
            UsageError: it is no id of a step.
            CommandError: the controller does not answer, does not know the job, or refuses.
            ScrError: the step was cancelled and is listed on, as with a dead node.
        """
        job, number = _slurm_steps.parse_id(step_id)

        def is_listed() -> bool:
            listed = _slurm_steps.list_steps(self.context, job, ASK_LIMIT_S)
            return number in [step.number for step in listed]

        def is_gone() -> bool:
            try:
                return not is_listed()
            except ScrError as error:  # a controller that was busy once is asked again
                logger.debug("%s", error)
                return False

        if not is_listed():
            return False
        clock = self.context.clock
        self.context.runner.beside(lambda: self._terminate(step_id), f"TERM to {step_id}")
        if wait_for(is_gone, clock=clock, limit_s=TERM_GRACE_S, poll_s=MISSED_POLL_S):
            return True
        try:
            self._ask(_slurm_steps.build_cancel(step_id), ASK_LIMIT_S)
        except CommandError:
            if is_listed():
                raise
        if not wait_for(is_gone, clock=clock, limit_s=KILLED_S, poll_s=MISSED_POLL_S):
            raise ScrError(
                f"step {step_id} is cancelled, but Slurm lists it on: a node that does not answer may "
                "hold it, see squeue --steps"
            )
        return True

    def _terminate(self, name: str) -> None:
        self._run(_slurm_steps.build_cancel(name, "TERM"), TERM_GRACE_S)

    def abandon_run(self, jobstep: Any, dead_nodes: Sequence[NodeName]) -> None:
        """Cancel the step at once, and end srun without waiting for dead nodes."""
        del dead_nodes
        if _ended_by_itself(jobstep):
            return
        jobstep.transcript.is_ended_by_us = True
        if jobstep.number is None:
            self._find(jobstep, CANCEL_LIMIT_S)
        self._cancel(jobstep, ABANDONED_S)

    def _cancel(self, jobstep: SrunStep, patience_s: float) -> None:
        """Cancel the step, wait so long for srun to end by itself, then end srun."""
        name = jobstep.name
        if jobstep.number is not None:
            self._left_behind.add(jobstep.number)
        if name and self._run(_slurm_steps.build_cancel(name), CANCEL_LIMIT_S):
            if self._gone(jobstep, patience_s):
                self._cancel_again(jobstep)
                return
            self._run(_slurm_steps.build_cancel(name), CANCEL_LIMIT_S)
        elif signal_group(jobstep, signal.SIGINT):
            self.context.clock.sleep(INTERRUPT_PAUSE_S)
            signal_group(jobstep, signal.SIGINT)
            if name:
                logger.warning(
                    "Slurm's controller does not cancel step %s: its srun was told to interrupt the "
                    "tasks; some may be left on the nodes",
                    name,
                )
            self._gone(jobstep, INTERRUPTED_S)
        kill_group(jobstep.pid)
        self._gone(jobstep, KILLED_S)

    def _cancel_again(self, jobstep: SrunStep) -> None:
        """Cancel a step until it is off the list, or a dead node must be what keeps it there."""

        def off() -> bool:
            try:
                listed = _slurm_steps.list_steps(self.context, jobstep.job, CANCEL_LIMIT_S)
            except ScrError:
                return True  # nothing more can be done
            if jobstep.number not in [step.number for step in listed]:
                return True
            self._run(_slurm_steps.build_cancel(jobstep.name), CANCEL_LIMIT_S)
            return False

        wait_for(off, clock=self.context.clock, limit_s=MISSED_S, poll_s=MISSED_POLL_S)

    def _gone(self, jobstep: SrunStep, limit_s: float) -> bool:
        def gone() -> bool:
            return jobstep.poll() is not None and not group_exists(jobstep.pid)

        return wait_for(gone, clock=self.context.clock, limit_s=limit_s)

    def step_record(self, jobstep: Any) -> str:
        """Return ``HOST:PID`` of srun, by which Slurm knows the step from its first moment."""
        return f"{self._host()}:{jobstep.pid}"

    def end_orphan(self, record: str) -> bool:
        """End the step, and the srun, that a dead supervisor of this job left; True if there was one.

        Several simulations may run in one allocation: a living srun is ended only if its environment has
        this job's SCR_JOB_ID and SCR_PREFIX. Without a record, steps whose srun is gone are
        ended too, for nobody waits for them.
        """
        try:
            job = self._job()
        except NotInAllocationError:
            return False
        from scrjob.launchers import _srun_orphans  # noqa: PLC0415 - brings psutil, rarely needed

        environ = self.context.environ
        ours = {name: environ.get(name, "") for name in ("SCR_JOB_ID", "SCR_PREFIX")}
        sruns = (
            _srun_orphans.living(self.PROGRAM, {**ours, "SLURM_JOB_ID": job})
            if ours["SCR_JOB_ID"]
            else []
        )
        found: list[ListedStep] = []
        try:
            steps = _slurm_steps.list_steps(self.context, job, ASK_LIMIT_S)
            found = _srun_orphans.choose(steps, self._host(), record, sruns)
        except ScrError as error:
            logger.warning("steps left by a dead scr_run cannot be looked for: %s", error)
        for number in dict.fromkeys(step.number for step in found):
            self._left_behind.add(number)
            self._run(_slurm_steps.build_cancel(f"{job}.{number}"), CANCEL_LIMIT_S)
        for pid in sruns:
            kill_group(pid)
        wait_for(
            lambda: not any(_srun_orphans.is_alive(pid) for pid in sruns),
            clock=self.context.clock,
            limit_s=KILLED_S,
        )
        return bool(found or sruns)

    # -- helpers --------------------------------------------------------------------------------

    def _parse(self, args: Sequence[str]) -> list[_srun_options.Part]:
        return _srun_options.parse(args, self._ask_help)

    def _ask_help(self) -> str:
        """Return srun's help, "" if it has none: what is not known is then taken as a flag."""
        if self._help is None:
            try:
                answer = self.context.runner.run(
                    [self.PROGRAM, "--help"], timeout_s=HELP_LIMIT_S, env=self.context.environ
                )
                self._help = answer.stdout
            except CommandError as error:
                logger.warning("options of this srun cannot be asked: %s", error)
                self._help = ""
        return self._help

    def _must_overlap(self, job: str, avoided: Sequence[str]) -> bool:
        """Tell whether a step that has lost a node, or that we gave up, still holds its CPUs."""
        previous = self._previous
        if previous is not None and previous.transcript.has_given_up and previous.number:
            self._left_behind.add(previous.number)
        try:
            steps = _slurm_steps.list_steps(self.context, job, ASK_LIMIT_S)
        except ScrError as error:
            logger.warning("the job's steps cannot be asked: %s", error)
            return bool(avoided or self._left_behind)
        left = self._left_behind & {step.number for step in steps}
        for number in left:  # what has missed it must not run beside the next one
            self._run(_slurm_steps.build_cancel(f"{job}.{number}"), CANCEL_LIMIT_S)
        bad = set(avoided)
        return bool(left) or any(not bad.isdisjoint(step.nodes) for step in steps)

    def _node_list(self, nodes: Any, name: str) -> str:
        """Return nodes for one argument of srun, as the name of a file where they do not fit into it."""
        names = sort_hosts(nodes)
        text = fold_nodes(names)
        if fits(text) or not self.hostfile:
            return text
        path = f"{self.hostfile}.{name}"
        atomic_write(path, "\n".join([*names, ""]).encode("utf-8", "surrogateescape"))
        return path

    def _find(self, jobstep: SrunStep, limit_s: Optional[float] = None) -> None:
        """Look for the step of a srun in the controller's list; it may have none yet."""
        if not jobstep.job:
            return
        try:
            steps = _slurm_steps.list_steps(self.context, jobstep.job, limit_s or ASK_LIMIT_S)
        except ScrError as error:
            logger.debug("the step of srun %d cannot be asked: %s", jobstep.pid, error)
            return
        host = self._host()
        mine = [
            step
            for step in steps
            if (step.host, step.pid) == (host, jobstep.pid) and step.number.isdecimal()
        ]
        if mine:
            jobstep.number = max((step.number for step in mine), key=int)
            parts = [step.nodes for step in mine if step.number == jobstep.number]
            jobstep.nodes = [node for nodes in parts for node in nodes] or None

    def _run(self, argv: Sequence[str], limit_s: float) -> bool:
        """Run a tool; False if it gave no answer in time or failed. scancel fails for an ended step."""
        try:
            self._ask(argv, limit_s)
        except CommandError as error:
            logger.debug("%s", error)
            return False
        return True

    def _ask(self, argv: Sequence[str], limit_s: float) -> None:
        environ = tool_environ(self.context.environ)
        self.context.runner.run(argv, timeout_s=limit_s, env=environ).check()

    def _host(self) -> str:
        return self.context.hostname.partition(".")[0]

    def _job(self) -> str:
        job = self._job_or_none()
        if not job:
            raise NotInAllocationError("launcher srun: SLURM_JOB_ID is not set: no allocation here")
        return job

    def _job_or_none(self) -> str:
        environ = self.context.environ
        return environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or ""


def _ended_by_itself(jobstep: Any) -> bool:
    """Tell whether srun has ended and with it the step; a srun that was killed leaves it running."""
    code = jobstep.poll()
    return code is not None and code >= 0 and not jobstep.transcript.has_given_up


def _read(path: str) -> str:
    """Return the text of a user's file of nodes."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
