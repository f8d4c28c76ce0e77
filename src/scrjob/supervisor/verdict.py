# SPDX-License-Identifier: BSD-3-Clause
"""Why did a run end? Evidence first, exit code last. Pure."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from scrjob.hostlist import compress_hosts
from scrjob.model import Cause, ExitStatus, NodeDown

FULL = ("no space left", "disk quota exceeded", "insufficient space")


class StepEnd(NamedTuple):
    """What was seen of a step's end.

    Attributes:
        status: how the launcher says it ended; None if that cannot be known.
        forced: we ended it: then an exit code of 0 is that of a program that was told to go.
        down: used nodes found bad while it ran or after.
        hang: what the watchdog saw, "" nothing.
        time_up: the end of the allocation made us stop it.
        signal_name: the signal that made us stop it, "" none.
        halt_reason: the halt condition that holds now, "" none.
        storage: what is full, "" nothing.
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


class Verdict(NamedTuple):
    """The cause of a run's end and the evidence for it, one line each."""

    cause: Cause
    evidence: Sequence[str]

    def __str__(self) -> str:
        return f"{self.cause.value}: {'; '.join(self.evidence)}"


def judge(end: StepEnd, finalized: str, time_reasons: Sequence[str]) -> Verdict:
    """Return why the step ended.

    Args:
        end: what was seen.
        finalized: the halt reason that a program leaves when it is through (SCR_FINALIZE_CALLED).
        time_reasons: halt reasons that mean the allocation's end.
    """
    success = end.status is not None and end.status.success and not end.forced
    exit_line = _exit_line(end.status)
    if end.launch_error:
        return Verdict(Cause.LAUNCH, [end.launch_error])
    full = [bad for bad in end.down if any(word in bad.reason.lower() for word in FULL)]
    gone = [bad for bad in end.down if bad not in full]
    if gone and not success:
        return Verdict(Cause.NODE_DOWN, _by_reason(gone) + exit_line)
    if end.hang:
        return Verdict(Cause.HANG, [end.hang])
    if end.time_up or (end.halt_reason in time_reasons and not end.signal_name):
        return Verdict(Cause.TIME_LIMIT, [end.halt_reason or "end of the allocation", *exit_line])
    if end.signal_name:
        return Verdict(Cause.SIGNAL, [f"{end.signal_name} received", *exit_line])
    if success and end.halt_reason in ("", finalized):
        return Verdict(Cause.SUCCESS, exit_line)
    if success:
        return Verdict(Cause.HALT, [end.halt_reason, *exit_line])
    if end.storage or full:
        lines = [end.storage] if end.storage else []
        return Verdict(
            Cause.STORAGE_FULL, lines + [f"{bad.node}: {bad.reason}" for bad in full] + exit_line
        )
    if end.halt_reason not in ("", finalized):
        return Verdict(Cause.HALT, [end.halt_reason, *exit_line])
    return Verdict(Cause.APPLICATION, exit_line)


def _by_reason(gone: Sequence[NodeDown]) -> list[str]:
    """Return one line for each thing that was said, with all the nodes of which it was said."""
    said: dict[str, list[str]] = {}
    for bad in gone:
        said.setdefault(f"{bad.reason} (by {bad.test})", []).append(bad.node)
    return [f"{compress_hosts(nodes)}: {what}" for what, nodes in said.items()]


def _exit_line(status: Optional[ExitStatus]) -> list[str]:
    if status is None:
        return ["its exit code is not known"]
    if status.signal is not None:
        return [f"ended by signal {status.signal}"]
    return [f"exit code {status.code}"]
