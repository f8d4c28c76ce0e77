# SPDX-License-Identifier: BSD-3-Clause
"""scr_run as a function: prerun, the run loop, postrun, report, exit code."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from scrjob.errors import PluginError, PluginLoadError, ScrError, UsageError
from scrjob.prerun import prerun
from scrjob.supervisor import state
from scrjob.supervisor.command import RunCommand

if TYPE_CHECKING:
    from scrjob.jobenv import JobEnv
    from scrjob.scavenge.progress import Progress
    from scrjob.supervisor.loop import Loop, Outcome
    from scrjob.supervisor.signals import SignalWatch

logger = logging.getLogger(__name__)

EXIT_NOT_SAFE = 73
EXIT_DATA_SAFE = (0, 75)
"""Exit codes that promise that the data is safe; they become EXIT_NOT_SAFE if it is not."""

PASS_POLL_S = 0.1
RUN_OPTIONS = ("-rc", "--run-cmd")
RESTART_OPTIONS = ("-rs", "--restart-cmd")


def run(
    launcher: str = "",
    launcher_args: Optional[Sequence[str]] = None,
    run_cmd: str = "",
    restart_cmd: str = "",
    restart_args: Optional[Sequence[str]] = None,
    verbose: bool = False,
    *,
    jobenv: Optional[JobEnv] = None,
    say: Optional[Callable[[str], None]] = None,
    signals: Optional[SignalWatch] = None,
    progress: Optional[Progress] = None,
) -> int:
    """Keep a parallel program alive to its end, and return the exit code of docs/exit-codes.md.

    Args:
        launcher: name of the launcher.
        launcher_args: what follows its name on the command line.
        run_cmd: appended to them when there is nothing to restart from, or no ``restart_cmd``.
        restart_cmd: appended in its place when there is a checkpoint; SCR_CKPT_NAME in it becomes
            the checkpoint's name. Both are split as a shell would.
        restart_args: launcher arguments for the restart command; default ``launcher_args``.
        verbose: without ``say``, tell the log at level INFO instead of DEBUG.
        jobenv: the job, with its launcher; default: from the real environment.
        signals: how signals reach the loop; default: the process's own.
        say: is told each step in one line; default: the log of this module.
        progress: is shown how far the saving of data is; default: lines that ``say`` is told.

    Raises:
        UsageError, ConfigError, PluginError, NotInAllocationError, SupervisorActiveError: before
            anything was started.
        ScrError: in the middle; what can be saved was saved before.
    """
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - the heavy part, after the arguments
    from scrjob.supervisor.signals import SignalWatch  # noqa: PLC0415 - same

    command = RunCommand(list(launcher_args or ()), run_cmd, restart_cmd, list(restart_args or ()))
    try:
        command.check()
    except UsageError as error:
        raise UsageError(f"{error}{_launcher_hint(launcher)}") from error
    if jobenv is None:
        validate_launcher(launcher)
        jobenv = JobEnv(launcher=launcher)
    level = logging.INFO if verbose else logging.DEBUG
    tell = say or (lambda line: logger.log(level, "%s", line))
    if jobenv.param.get("SCR_ENABLE") == "0":
        return _pass_through(jobenv, command, signals or SignalWatch())
    return _supervise(jobenv, command, signals or SignalWatch(), tell, progress)


def _pass_through(jobenv: JobEnv, command: RunCommand, watch: SignalWatch) -> int:
    """Run the launcher's command unchanged, once, and return its exit code; a signal ends the step."""
    from scrjob.supervisor.terminal import Terminal  # noqa: PLC0415 - with something to run

    launcher = jobenv.launcher
    launcher.bind(jobenv.context)
    terminal = Terminal()
    finished, success = False, None
    with watch as signals:
        proc, jobstep = launcher.launch_run(command.words(None))
        if proc is None:
            raise ScrError(f"launcher {launcher.name}: the command could not be started")
        try:
            while not finished:
                if signals.first:
                    launcher.kill_run(jobstep)
                terminal.tend(proc)
                finished, success = launcher.wait_run(proc, timeout=PASS_POLL_S)
        finally:
            terminal.take_back()
    status = launcher.exit_status(proc)
    return status.code if status else int(not success)


def _supervise(
    jobenv: JobEnv,
    command: RunCommand,
    watch: SignalWatch,
    say: Callable[[str], None],
    progress: Optional[Progress],
) -> int:
    from scrjob.cli import SCRLog  # noqa: PLC0415 - chooses its back end
    from scrjob.scavenge.progress import Lines  # noqa: PLC0415 - not for SCR_ENABLE=0
    from scrjob.supervisor.loop import Loop  # noqa: PLC0415 - not for SCR_ENABLE=0
    from scrjob.supervisor.settings import (  # noqa: PLC0415 - same
        Settings,
        warn_of_odd_settings,
    )

    warn_of_odd_settings(jobenv)
    settings = Settings.from_param(jobenv)
    # Wrong launcher options and unknown node tests are told before anything is done.
    jobenv.launcher.nodes_wanted(command.words(None))
    jobenv.nodetests  # noqa: B018 - made when first asked for
    with watch as signals:
        prerun(jobenv)
        with state.JobState(jobenv) as job_state:
            log = SCRLog(
                jobenv.dir_prefix(),
                jobenv.job_id(),
                user=jobenv.user(),
                context=jobenv.context,
                param=jobenv.param,
            )
            requeued = job_state.former_start()
            if requeued:
                say(requeued)
            shown = progress or Lines(say, jobenv.context.clock)
            loop = Loop(jobenv, command, settings, job_state, signals, log, say)
            pending = _pending(job_state)
            try:
                outcome = pending or loop.run()
            except Exception as error:  # a plugin's fault, or ours, must not cost the data
                _finish(jobenv, loop, job_state, _failed(error), log, say, shown, raised=True)
                raise
            return _finish(jobenv, loop, job_state, outcome, log, say, shown)


def _pending(job_state: state.JobState) -> Optional[Outcome]:
    """Return the outcome of a supervisor that died after its loop was over, before it had finished."""
    from scrjob.supervisor.loop import Outcome  # noqa: PLC0415 - loaded by now

    left = job_state.data["outcome"]
    if job_state.known and job_state.phase == state.SCAVENGE and left:
        return Outcome(int(left["code"]), str(left["why"]))
    return None


def _failed(error: Exception) -> Outcome:
    from scrjob.supervisor.loop import Outcome  # noqa: PLC0415 - loaded by now

    return Outcome(error.exit_code if isinstance(error, ScrError) else 1, str(error))


def _finish(
    jobenv: JobEnv,
    loop: Loop,
    job_state: state.JobState,
    outcome: Outcome,
    log: Any,
    say: Callable[[str], None],
    progress: Progress,
    *,
    raised: bool = False,
) -> int:
    """Save the data, take back our halt condition, report; returns the exit code.

    An error that is ``raised`` is told by who catches it: nothing is said of it here, and nothing at all
    if it came before there was anything to report.
    """
    from scrjob.postrun import Postrun, save_datasets  # noqa: PLC0415 - at the end only
    from scrjob.supervisor.report import make_report, report_lines  # noqa: PLC0415 - same
    from scrjob.supervisor.starts import end_of_start  # noqa: PLC0415 - same

    job_state.data["outcome"] = outcome._asdict()
    job_state.save(state.SCAVENGE)
    session = job_state.data["session"]
    launched = any(run["launched"] for run in job_state.runs if run["session"] == session)
    if launched or not raised:
        why = "stopped by an error" if raised else outcome.why
        say(f"{why}; saving what is in cache")
    clock = jobenv.context.clock
    began = clock.monotonic()
    try:
        down = loop.nodes_to_leave_alone()
        saved = save_datasets(
            jobenv, down, log, logger.debug, nodes=loop.nodes(), progress=progress
        )
    except (ScrError, OSError) as error:
        say(f"what is in cache could not be saved: {error}")
        saved = Postrun((), newest_safe=False)
    for row in saved.datasets:
        say(f"{row.kind} {row.name} (dataset {row.dataset_id}): {row.how}")
    if outcome.code in EXIT_DATA_SAFE and not saved.newest_safe:
        why = f"{outcome.why}, but its newest data is not safe"
        outcome = outcome._replace(code=EXIT_NOT_SAFE, why=why)
    outcome = end_of_start(job_state, outcome)
    loop.leave()
    report = make_report(jobenv, job_state, outcome, saved, clock.monotonic() - began)
    job_state.data["saved"] = report["datasets"]
    job_state.save(state.DONE)
    lines = report_lines(report)
    if raised:
        lines = lines[:-1] if launched or saved.datasets else []
    for line in lines:
        say(line)
    return outcome.code


def print_usage(launcher: str = "") -> str:
    """Return the usage text of scr_run, or of the command with its launcher fixed."""
    name = f"scr_{launcher}" if launcher else "scr_run LAUNCHER"
    return (
        f"usage: {name} [launcher args] PROGRAM [args]\n"
        f"       {name} [launcher args] -rc|--run-cmd CMD [-rs|--restart-cmd CMD] [launcher args]\n"
    )


def validate_launcher(launcher: str) -> None:
    """Return nothing if the launcher is known.

    Raises:
        UsageError: none is named.
        PluginError: it is unknown; lists the known ones.
    """
    from scrjob.launchers.auto import LAUNCHERS  # noqa: PLC0415 - keeps parseargs light

    if not launcher:
        raise UsageError(f"no launcher is named; known: {', '.join(LAUNCHERS.names())}")
    try:
        LAUNCHERS.load(launcher)
    except PluginLoadError:
        raise  # it says itself what is missing
    except PluginError as error:
        raise PluginError(f"{error}{_launcher_hint(launcher)}") from error


def _launcher_hint(word: str) -> str:
    """Return what to say of a first word that is no launcher, as if that had been forgotten."""
    from scrjob.launchers.auto import LAUNCHERS  # noqa: PLC0415 - keeps parseargs light

    if word.lower() in [name.lower() for name in LAUNCHERS.names()]:
        return ""
    return f"; the launcher comes first, as in: scr_run srun {shlex.quote(word)}"


def parseargs(
    argv: Sequence[str], launcher: str = ""
) -> tuple[str, list[str], str, str, list[str]]:
    """Return (launcher, launcher_args, run_cmd, restart_cmd, restart_args) of a command line.

    Args:
        argv: the words after the program's name.
        launcher: fixed by the command; "": the first word.

    ``-rc CMD``, ``--run-cmd CMD``, ``--run-cmd=CMD`` and the same for ``-rs``/``--restart-cmd`` may
    stand anywhere before a ``--``; all other words are the launcher's, in their order.
    ``restart_args`` is empty: the restart command gets the launcher's arguments.

    Raises:
        UsageError: no launcher, or an option without its command.
    """
    words = list(argv)
    if not launcher:
        if not words:
            raise UsageError(
                "no launcher is named: scr_run LAUNCHER [launcher args] PROGRAM [args]"
            )
        launcher = words.pop(0)
    commands = {"run": "", "restart": ""}
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            rest += [word, *words]
            break
        kind, value = _own_option(word)
        if not kind:
            rest.append(word)
            continue
        if value is None:
            if not words:
                raise UsageError(f"{word} needs a command")
            value = words.pop(0)
        commands[kind] = value
    return launcher, rest, commands["run"], commands["restart"], []


def _own_option(word: str) -> tuple[str, Optional[str]]:
    for kind, names in (("run", RUN_OPTIONS), ("restart", RESTART_OPTIONS)):
        for name in names:
            if word == name:
                return kind, None
            if word.startswith(name + "="):
                return kind, word[len(name) + 1 :]
    return "", None
