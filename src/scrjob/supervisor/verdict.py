# SPDX-License-Identifier: BSD-3-Clause
"""Why did a run end? Evidence first, exit code last. Pure."""

from __future__ import annotations

import signal
from typing import NamedTuple, Optional, Sequence

from scrjob.hostlist import compress_hosts
from scrjob.model import Cause, ExitStatus, NodeDown, Said, StepMessage

FULL = ("no space left", "disk quota exceeded", "insufficient space")
LINES_EACH = 3  # messages of one kind that are kept as evidence
END_SLACK_S = 5.0  # clocks of the manager and ours
SIGNAL_BASE = 128  # a shell's code for signal N is this plus N
KILLING = (signal.SIGTERM, signal.SIGKILL)
CANCELLING = ("Terminated", "Killed", "Exited with exit code 143", "Exited with exit code 137")
"""The same, in launchers' words: of a task, or of a shell around it."""


class StepEnd(NamedTuple):
    """What was seen of a step's end.

    Attributes:
        status: how the launcher says it ended; None if that cannot be known.
        forced: we ended it: then an exit code of 0 is that of a program that was told to go, and what
            the launcher says about tasks that were ended is our doing.
        down: used nodes found bad while it ran or after.
        hang: what the watchdog saw, "" nothing.
        time_up: the end of the allocation made us stop it.
        seconds_left: to the end of the allocation when the step ended, None if not known.
        signal_name: the signal that made us stop it, "" none.
        halt_reason: the halt condition that holds now, "" none.
        ending: why the resource manager ends the allocation, with its evidence; None: it does not.
        messages: what the launcher said, in order.
        storage: what is full in the prefix, "" nothing.
        memory: what shows that the kernel killed processes of the run for want of memory.
        notes: what else was seen and proves nothing alone.
        launch_error: why it did not start, "" it did.
    """

    status: Optional[ExitStatus]
    down: Sequence[NodeDown] = ()
    hang: str = ""
    time_up: bool = False
    signal_name: str = ""
    halt_reason: str = ""
    storage: str = ""
    launch_error: str = ""
    forced: bool = False
    seconds_left: Optional[float] = None
    ending: Optional[tuple[Cause, str]] = None
    messages: Sequence[StepMessage] = ()
    memory: Sequence[str] = ()
    notes: Sequence[str] = ()


class Verdict(NamedTuple):
    """The cause of a run's end and the evidence for it, one line each, the cause's own first.

    ``final``: why no further run is to be started, whatever runs remain; None: one may be.
    """

    cause: Cause
    evidence: Sequence[str]
    final: Optional[Cause] = None

    def __str__(self) -> str:
        return f"{self.cause.value}: {'; '.join(self.evidence)}"

    def short(self) -> str:
        """Return the cause with its strongest evidence only."""
        return f"{self.cause.value}: {self.evidence[0]}"


def judge(end: StepEnd, finalized: str, time_reasons: Sequence[str]) -> Verdict:
    """Return why the step ended: of all causes for which there is evidence the first of ``Cause``.

    Args:
        end: what was seen.
        finalized: the halt reason that a program leaves when it is through (SCR_FINALIZE_CALLED).
        time_reasons: halt reasons that mean the allocation's end.
    """
    success = succeeded(end.status, end.messages, forced=end.forced)
    found = _findings(end, finalized, time_reasons, success=success)
    if success and not found:
        return Verdict(Cause.SUCCESS, _exit_line(end.status))
    own_exit = [] if end.launch_error else _exit_line(end.status)
    if not found:
        found = {Cause.APPLICATION: []}
    order = [cause for cause in Cause if cause in found]
    lines = [line for cause in order for line in found[cause]]
    return Verdict(
        order[0],
        list(dict.fromkeys([*lines, *own_exit, *end.notes])),
        _final(end, time_reasons),
    )


def succeeded(
    status: Optional[ExitStatus], messages: Sequence[StepMessage], *, forced: bool
) -> bool:
    """Tell whether a step ended by itself with 0.

    A launcher may well give 0 for a step that was cancelled: srun does if the tasks do not die of it in
    time, or end orderly.
    """
    cancelled = any(message.said in INTERRUPTED for message in messages)
    return status is not None and status.success and not (forced or cancelled)


def killed(status: Optional[ExitStatus], messages: Sequence[StepMessage]) -> bool:
    """Tell whether something of the step was ended by KILL, as its exit status or its launcher says."""
    if status is not None and _signal(status) == signal.SIGKILL:
        return True
    return any(
        message.text.endswith("Killed") for message in messages if message.said is Said.TASK_FAILED
    )


def _findings(
    end: StepEnd, finalized: str, time_reasons: Sequence[str], *, success: bool
) -> dict[Cause, list[str]]:
    """Return the causes for which there is evidence, with it."""
    full = [bad for bad in end.down if any(word in bad.reason.lower() for word in FULL)]
    gone = [bad for bad in end.down if bad not in full]
    lost = bool(gone) or (end.ending is not None and end.ending[0] is Cause.NODE_DOWN)
    told = _told(end, node_lost=lost)
    ending = {} if end.ending is None else {end.ending[0]: [end.ending[1]]}
    halted = end.halt_reason not in ("", finalized)
    found: dict[Cause, list[str]] = {
        Cause.HANG: [end.hang] if end.hang else [],
        Cause.TIME_LIMIT: _time_lines(end, time_reasons),
        Cause.SIGNAL: [f"{end.signal_name} received"] if end.signal_name else [],
    }
    if halted and not end.signal_name and end.halt_reason not in time_reasons:
        found[Cause.HALT] = [end.halt_reason]
    if end.signal_name or end.time_up or not success:
        for cause, lines in ending.items():
            found[cause] = [*lines, *found.get(cause, [])]
    if not success:
        found[Cause.NODE_DOWN] = (
            _by_reason(gone) + told.pop(Cause.NODE_DOWN, []) + found.get(Cause.NODE_DOWN, [])
        )
        found[Cause.STORAGE_FULL] = [
            *filter(None, [end.storage]),
            *(f"{bad.node}: {bad.reason}" for bad in full),
        ]
        found[Cause.OUT_OF_MEMORY] = list(end.memory)
        found[Cause.LAUNCH] = [end.launch_error] if end.launch_error else []
        for cause, lines in told.items():
            found[cause] = [*found.get(cause, []), *lines]
    if end.ending is not None and found.get(end.ending[0]) and Cause.TIME_LIMIT not in ending:
        found[end.ending[0]] += found.pop(Cause.TIME_LIMIT)  # it has moved the end, too
    return {cause: lines for cause, lines in found.items() if lines}


def _time_lines(end: StepEnd, time_reasons: Sequence[str]) -> list[str]:
    """Return what shows that the allocation's time is over: our own stop, or a kill at the known end."""
    if end.halt_reason in time_reasons and (end.time_up or not end.signal_name):
        return [end.halt_reason]
    if end.time_up:
        return ["end of the allocation"]
    if end.forced or not _is_over(end):
        return []
    return [f"ended {-min(0.0, end.seconds_left or 0.0):.0f} s after the end of the allocation"]


def _is_over(end: StepEnd) -> bool:
    """Tell whether the step was killed when the known end of the allocation had come."""
    cancelled = any(m.said in (Said.CANCELLED, Said.TIME_LIMIT) for m in end.messages)
    by_signal = end.status is not None and _signal(end.status) in KILLING
    return (cancelled or by_signal) and (
        end.seconds_left is not None and end.seconds_left <= END_SLACK_S
    )


def _final(end: StepEnd, time_reasons: Sequence[str]) -> Optional[Cause]:
    """Return why nothing can be launched any more, None if something can."""
    if end.ending is not None:
        return end.ending[0]
    if _time_lines(end, time_reasons):
        return Cause.TIME_LIMIT
    return Cause.STORAGE_FULL if end.storage else None


MEANING = {
    Said.TASK_FAILED: Cause.APPLICATION,  # first: of an application error it is the best evidence
    Said.NODE_FAILED: Cause.NODE_DOWN,
    Said.TIME_LIMIT: Cause.TIME_LIMIT,
    Said.PREEMPTED: Cause.PREEMPTED,
    Said.CANCELLED: Cause.CANCELLED,
    Said.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    Said.NOT_STARTED: Cause.LAUNCH,
}
INTERRUPTED = (Said.CANCELLED, Said.TIME_LIMIT, Said.PREEMPTED)
OUR_DOING = (Said.CANCELLED, Said.TASK_FAILED, Said.NOT_STARTED)
FAILURES = (Said.TASK_FAILED, Said.OUT_OF_MEMORY, Said.NODE_FAILED, Said.NOT_STARTED)


def _told(end: StepEnd, *, node_lost: bool) -> dict[Cause, list[str]]:
    """Return what the launcher's messages are evidence of.

    The program's own words may look the same: that a node failed must be seen by somebody else too.
    """
    kept = [m for m in end.messages if not (end.forced and m.said in OUR_DOING)]
    told: dict[Cause, list[str]] = {}
    for said, cause in MEANING.items():
        lines = _lines([message.text for message in kept if message.said is said])
        if lines:
            weak = (said is Said.CANCELLED and _failed_first(kept)) or (
                said is Said.NODE_FAILED and not node_lost
            )
            weighed = Cause.APPLICATION if weak else cause
            told[weighed] = [*told.get(weighed, []), *lines]
    return told


def _failed_first(messages: Sequence[StepMessage]) -> bool:
    """Tell whether a step was cancelled because of its tasks, by MPI_Abort or the like.

    Then a failure was told before, or a task has ended otherwise than by the cancelling's signals: Open
    MPI has the step cancelled before the aborting rank exits. That a task was ended by those signals proves
    nothing, whenever it is told: on a cancelled step the nodes do not wait for each other's lines.
    """
    is_before = True
    for message in messages:
        is_before = is_before and message.said is not Said.CANCELLED
        is_task = message.said is Said.TASK_FAILED
        by_cancelling = is_task and message.text.endswith(CANCELLING)
        if message.said in FAILURES and not by_cancelling and (is_before or is_task):
            return True
    return False


def _lines(texts: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    more = len(distinct) - LINES_EACH
    return distinct if more <= 0 else [*distinct[:LINES_EACH], f"and {more} more like it"]


def _by_reason(gone: Sequence[NodeDown]) -> list[str]:
    """Return one line for each thing that was said, with all the nodes of which it was said."""
    said: dict[str, list[str]] = {}
    for bad in gone:
        said.setdefault(f"{bad.reason} (by {bad.test})", []).append(bad.node)
    return [f"{compress_hosts(nodes)}: {what}" for what, nodes in said.items()]


def _signal(status: ExitStatus) -> Optional[int]:
    """Return the signal that ended a step, also where the launcher only has a shell's code for it."""
    if status.signal is not None:
        return status.signal
    return status.code - SIGNAL_BASE if status.code > SIGNAL_BASE else None


def _exit_line(status: Optional[ExitStatus]) -> list[str]:
    if status is None:
        return ["its exit code is not known"]
    number = _signal(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    if status.signal is not None:
        return [f"ended by signal {status.signal}" + (f" ({name})" if name else "")]
    return [f"exit code {status.code}" + (f" (that of {name})" if name else "")]
