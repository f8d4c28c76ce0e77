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
from typing import NamedTuple, Optional, Sequence

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
        r"|Invalid (?:numeric value|--|node name|MPI type)|No executable program|Job not submitted",
    ),
)
_EXITED = re.compile(r": Exited with exit code ([0-9]+)")
_KILLS_OTHERS = re.compile(rb"srun: .*Terminating (?:StepId|job step)")
_ENDS_ITSELF = re.compile(rb"srun: (?:First task exited|forcing job termination)")
_WAS_CANCELLED = b"srun: Job step aborted"
_ABORTED = (_form(Said.CANCELLED, r"Job step aborted"),)  # if nothing else says why
_WHY_ABORTED = (Said.CANCELLED, Said.TIME_LIMIT, Said.PREEMPTED, Said.NODE_FAILED)
_GIVES_UP = b"srun: error: Timed out waiting for job step to complete"
MAX_MESSAGES = 10_000


class Transcript:
    """What one srun has said so far.

    That a step was cancelled is news only if others did it. srun does it itself when a task has failed, or
    when a signal tells it to; and the lines come in any order. What holds (22.05): of a cancellation by
    others srun says "Job step aborted", of its own for a failed task it does not. On a busy node the line
    of slurmstepd may never come; then what srun says itself is told.

    Attributes:
        is_ended_by_us: set by whoever ends the step.
        has_given_up: srun waits no longer for its tasks; it may end with code 0 then.
    """

    def __init__(self) -> None:
        self.is_ended_by_us = False
        self.has_given_up = False
        # Each with whether srun was ending tasks already.
        self._heard: list[tuple[StepMessage, bool]] = []
        self._kills_others = False
        self._ends_itself = False
        self._was_cancelled = False
        # What srun says of a cancellation by others, and how many messages came before.
        self._aborted: Optional[tuple[int, StepMessage]] = None

    def hear(self, line: bytes, when: float) -> None:
        """Take a line of stderr, without its end; ``when`` is Unix seconds."""
        if b"srun" not in line and b"slurmstepd" not in line:
            return  # nearly all lines
        self._kills_others = self._kills_others or _KILLS_OTHERS.search(line) is not None
        self._ends_itself = self._ends_itself or _ENDS_ITSELF.search(line) is not None
        if _WAS_CANCELLED in line and not self._was_cancelled:
            self._was_cancelled = True
            for message in [] if self._kills_others else parse_line(line, when, _ABORTED):
                self._aborted = (len(self._heard), message)
        self.has_given_up = self.has_given_up or _GIVES_UP in line
        said = [(message, self._kills_others) for message in parse_line(line, when)]
        self._heard += said[: MAX_MESSAGES - len(self._heard)]

    def messages(self) -> list[StepMessage]:
        """Return the messages, without the cancellations that are srun's own or ours."""
        ours = self.is_ended_by_us or self._ends_itself
        heard = list(self._heard)
        if self._aborted is not None and not any(m.said in _WHY_ABORTED for m, _ in heard):
            place, message = self._aborted
            heard.insert(place, (message, False))
        return [
            message
            for message, doubtful in heard
            if message.said is not Said.CANCELLED
            or not (ours or (doubtful and not self._was_cancelled))
        ]


def parse_line(line: bytes, when: float, forms: Sequence[_Form] = _FORMS) -> list[StepMessage]:
    """Return what a line of stderr says about a step: one message for each node that it names.

    Args:
        line: without its end.
        when: Unix seconds.
        forms: what to look for.
    """
    found = _SPEAKER.search(line.decode("utf-8", "replace").strip())
    if not found:
        return []
    text = found["text"]
    for form in forms:
        match = form.pattern.match(text)
        if match:
            named = match.groupdict().get("node") or (found["host"] if form.heard_on else None)
            shown = found[0].strip(" ,;:|]\r")
            return [StepMessage(form.said, node, shown, when) for node in _nodes(named)]
    return []


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
    try:
        return list(expand_hosts(named)) or [None]
    except UsageError:
        return [None]
