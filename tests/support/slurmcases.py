# SPDX-License-Identifier: BSD-3-Clause
"""Recorded answers of Slurm's commands, by name."""

from __future__ import annotations

from pathlib import Path

from scrjob._process import CommandResult
from scrjob.testing.recorded import Case, load_cases

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
VERSION = "22.05.8"
TOOLS = ("scontrol", "squeue")
CASES: dict[str, Case] = {
    case.path.name: case for case in load_cases(RECORDED / tool / VERSION for tool in TOOLS)
}


def result(name: str) -> CommandResult:
    """Return what the tool said in the case of that name."""
    case = CASES[name]
    return CommandResult(
        [case.tool, *case.argv], case.rc, case.stdout.decode(), case.stderr.decode(), 0.0
    )
