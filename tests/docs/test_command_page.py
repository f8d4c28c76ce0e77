# SPDX-License-Identifier: BSD-3-Clause
"""docs/commands.md has every command with every option that its help shows."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

from scrjob.commands import scr_local

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
UNDERSTOOD = {"--help", "--version", "--jobStepId"}  # the last: another spelling of --jobstep
SCRIPTS = sorted(
    (entry.name, entry.value.partition(":")[0])
    for entry in distribution("scrjob").entry_points
    if entry.group == "console_scripts" and entry.name != "scr_local"
)


def options(text: str) -> set[str]:
    """Return the long options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-zA-Z][a-zA-Z-]*", text))


def rows_of(name: str) -> str:
    """Return the rows whose first cell begins with or lists a command."""
    return "\n".join(row for row in ROWS if f"`{name}" in row.split(" | ")[0])


@pytest.mark.parametrize(("name", "module"), SCRIPTS)
def test_every_option_of_the_help_is_on_the_page(
    name: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = rows_of(name)
    assert row, f"{name} is not on the page"
    importlib.import_module(module).main(["--help"])
    said = "".join(capsys.readouterr())
    assert options(said) - UNDERSTOOD <= options(row)


@pytest.mark.parametrize(
    "word", ["alloc", "status", "fail", "hang", "wipe", "revive", "limit", "exec"]
)
def test_of_scr_local_too(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    scr_local.main(["--help"])
    assert f"    {word} " in capsys.readouterr().out
    scr_local.main([word, "--help"])
    (row,) = [row for row in ROWS if re.search(rf"`[^`]*\b{word}\b", row.split(" | ")[0])]
    assert options(capsys.readouterr().out) - UNDERSTOOD <= options(row)


def test_the_page_has_all_commands_and_no_others() -> None:
    known = {name for name, _ in SCRIPTS} | {"scr_local"}
    assert set(re.findall(r"`((?:scr|kvtree)_\w+)[ `]", PAGE)) == known
