# SPDX-License-Identifier: BSD-3-Clause
"""``scr_log_transfer``: put a transfer of files into the SCR log."""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob.commands import _log_tools
from scrjob.commands._shared import EXIT_FAILURE, run_command

PROG = "scr_log_transfer"
LETTERS = {
    **_log_tools.COMMON,
    "X": "<from>      Directory the files came from",
    "Y": "<to>        Directory the files went to",
    "D": "<id>        Dataset id, a number",
    "n": "<name>      Dataset name",
    "S": "<start>     Start of the transfer in Unix seconds, default now",
    "L": "<duration>  How long it took, in whole seconds",
    "B": "<bytes>     Bytes that were moved",
    "F": "<files>     Files that were moved",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write the record if logging is on; returns 0, 1 for wrong arguments or if it cannot be written."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    call = _log_tools.prepare(PROG, "put a transfer of files into the SCR log", argv, LETTERS)
    if call is None:
        return EXIT_FAILURE
    done = call.log.transfer(
        call.values.get("T", "(null)"),
        from_=call.values.get("X"),
        to=call.values.get("Y"),
        dset=call.number("D"),
        name=call.values.get("n"),
        start=call.start(),
        secs=call.number("L"),
        nbytes=call.number("B"),
        files=call.number("F"),
    )
    return 0 if done else EXIT_FAILURE  # the log has told why
