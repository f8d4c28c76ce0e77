# SPDX-License-Identifier: BSD-3-Clause
"""``scr_print``: show a file of SCR, keys sorted."""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob.commands import _kvprint
from scrjob.commands._shared import run_command

PROG = "scr_print"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 if the file was printed, else 1."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    return _kvprint.run(PROG, argv, mode=_kvprint.KEYVAL, is_sorted=True)
