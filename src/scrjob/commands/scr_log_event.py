# SPDX-License-Identifier: BSD-3-Clause
"""``scr_log_event``: put an event into the SCR log."""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob.commands import _log_tools
from scrjob.commands._shared import EXIT_FAILURE, run_command

PROG = "scr_log_event"
LETTERS = {
    **_log_tools.COMMON,
    "N": "<note>      Free text",
    "D": "<id>        Dataset id, a number",
    "n": "<name>      Dataset name",
    "S": "<start>     Time of the event in Unix seconds, default now",
    "L": "<duration>  How long it took, in whole seconds",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write the record if logging is on; returns 0, 1 for wrong arguments or if it cannot be written."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    call = _log_tools.prepare(PROG, "put an event into the SCR log", argv, LETTERS)
    if call is None:
        return EXIT_FAILURE
    done = call.log.event(
        call.values.get("T", "(null)"),
        dset=call.number("D"),
        name=call.values.get("n"),
        start=call.start(),
        secs=call.number("L"),
        note=call.values.get("N"),
    )
    return 0 if done else EXIT_FAILURE  # the log has told why
