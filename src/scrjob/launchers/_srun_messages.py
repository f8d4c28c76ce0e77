# SPDX-License-Identifier: BSD-3-Clause
"""What srun and slurmstepd say on stderr about a step, as values.

Only lines with one of their names are looked at, but a program may write such a line itself: a message is
one piece of evidence, and condemns no node without another kind.

Source: texts of Slurm 22.05 (produced on a real cluster where it could be, else the formats in its
binaries) and of releases up to 24.11 (their manuals); tests/data/recorded/srun has them.
"""

from __future__ import annotations

import re
import signal
from typing import NamedTuple, Optional

from scrjob.errors import UsageError
from scrjob.hostlist import expand_hosts
from scrjob.model import ExitStatus, Said, StepMessage

_SPEAKER = re.compile(
    r"(?:^|[^\w-])(?P<name>srun|slurmstepd)(?:-(?P<host>[^\s:]+))?: (?:(?:error|fatal): )?(?P<text>.*)"
)
_UNREACHABLE = (
    r"(?:Communication connection failure|Socket timed out.*|Connection (?:refused|timed out)"
    r"|No route to host|Network is unreachable|Host is down|Zero Bytes were transmitted.*)"
)
_STARRED = r"\*\*\* (?:STEP|JOB) \S+ ON (?P<node>\S+) "
_TASKS = r"(?P<node>\S+): tasks? [\d,\[\]-]+: "


class _Form(NamedTuple):
    """A kind of message. ``heard_on``: the host of the speaker is the node meant."""

    said: Said
    pattern: re.Pattern[str]
    heard_on: bool = False


def _form(said: Said, pattern: str, *, heard_on: bool = False) -> _Form:
    return _Form(said, re.compile(pattern, re.DOTALL), heard_on)


_FORMS = (
    _form(Said.NODE_FAILED, r"Node failure on (?P<node>\S+)"),
    _form(Said.NODE_FAILED, rf".*Task launch for \S+ failed on node (?P<node>\S+): {_UNREACHABLE}"),
    _form(Said.NODE_FAILED, rf".*\[\[?(?P<node>[^\]:]+)\]?:\d+\] failed: {_UNREACHABLE}"),
    _form(Said.NODE_FAILED, _STARRED + "UNCORRECTABLE MEMORY ERROR"),
    # Who says this runs on a node that lives; the dead one is not named.
    _form(Said.NODE_FAILED, r"\*\*\* (?:STEP|JOB) .* DUE TO NODE FAILURE"),
    _form(Said.TIME_LIMIT, r"\*\*\* (?:STEP|JOB) .* DUE TO TIME LIMIT"),
    _form(Said.PREEMPTED, r"\*\*\* (?:STEP|JOB) .* DUE TO PREEMPTION"),
    _form(Said.CANCELLED, r"\*\*\* (?:STEP|JOB) \S+ ON \S+ CANCELLED AT "),
    _form(Said.OUT_OF_MEMORY, _TASKS + "Out Of Memory"),
    _form(Said.OUT_OF_MEMORY, r"Detected \d+ oom[-_]kill event", heard_on=True),
    _form(Said.OUT_OF_MEMORY, r"task \d+ \(\d+\) Out Of Memory", heard_on=True),
    _form(Said.TASK_FAILED, _TASKS + r"(?!Completed|running)\S"),
    _form(Said.NOT_STARTED, r"execve\(\): ", heard_on=True),
    _form(Said.NOT_STARTED, r".*Task launch for \S+ failed on node (?P<node>\S+): "),
    _form(
        Said.NOT_STARTED,
        r"Unable to (?:create step|confirm allocation|allocate resources)|Only allocated \d+ nodes asked"
        r"|Application launch failed|task \d+ launch failed|srun prolog failed|.*Step launch aborted"
        r"|unrecognized option|invalid option|option .*requires an argument|.* is not a valid node count"
        r"|Invalid (?:numeric value|--|node name)|No executable program|Job not submitted",
    ),
)
_EXITED = re.compile(r": Exited with exit code ([0-9]+)")
_ENDS_IT = re.compile(rb"srun: .*(?:Terminating (?:StepId|job step)|forcing job termination)")
"""srun ends the step itself, for a task has failed or a signal came: a cancellation that is told after it
is nobody else's."""


def parse_line(line: bytes, when: float) -> list[StepMessage]:
    """Return what a line of stderr says about a step: one message for each node that it names.

    Args:
        line: without its end.
        when: Unix seconds.
    """
    if b"srun" not in line and b"slurmstepd" not in line:
        return []  # nearly all lines
    found = _SPEAKER.search(line.decode("utf-8", "replace").strip())
    if not found:
        return []
    text = found["text"]
    for form in _FORMS:
        match = form.pattern.match(text)
        if match:
            named = match.groupdict().get("node") or (found["host"] if form.heard_on else None)
            shown = found[0].strip(" ,;:|]\r")
            return [StepMessage(form.said, node, shown, when) for node in _nodes(named)]
    return []


def gives_up(line: bytes) -> bool:
    """Tell whether in this line srun says that it leaves tasks behind: it may end with code 0 then."""
    return b"srun: error: Timed out waiting for job step to complete" in line


def ends_step(line: bytes) -> bool:
    """Tell whether in this line srun says that it ends the step itself."""
    return _ENDS_IT.search(line) is not None


def task_status(message: StepMessage) -> Optional[ExitStatus]:
    """Return how the task of a message ended, None if the message does not tell."""
    if message.said is not Said.TASK_FAILED:
        return None
    exited = _EXITED.search(message.text)
    if exited:
        return ExitStatus(int(exited[1]))
    reason = message.text.rpartition(": ")[2].replace(" (core dumped)", "")
    numbers = [n for n in signal.valid_signals() if signal.strsignal(n) == reason]
    return ExitStatus.from_returncode(-numbers[0]) if numbers else None


def _nodes(named: Optional[str]) -> list[Optional[str]]:
    if not named:
        return [None]
    try:
        return list(expand_hosts(named)) or [None]
    except UsageError:
        return [None]
