# SPDX-License-Identifier: BSD-3-Clause
"""The table of settings is complete and is what the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrjob._parameters import PARAMETERS, misspelt

ROOT = Path(__file__).parents[2]


def test_the_documentation_has_the_same_table():
    text = (ROOT / "docs" / "configuration.md").read_text()
    table = text.split("| --- | --- | --- | --- |\n")[1].strip().splitlines()
    expected = [
        f"| {p.name} | {'' if p.default is None else f'`{p.default}`'} | {p.readers} | {p.meaning} |"
        for p in PARAMETERS.values()
    ]
    assert table == expected


def test_every_setting_that_is_read_is_in_the_table():
    call = re.compile(
        r"\bget(?:_hash|_int|_bool|_bytes|_seconds)?\(\s*\"((?:SCR_|CACHE|CNTL)[A-Z_]*)\""
    )
    read = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in call.findall(path.read_text("utf-8"))
    }
    assert "SCR_RUNS" in read
    assert read <= set(PARAMETERS)


def test_readers_and_meanings_are_sound():
    for parameter in PARAMETERS.values():
        assert set(parameter.readers.split()) <= set("LTSE")
        assert "|" not in parameter.meaning


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("SCR_RUNNS", "SCR_RUNS"),
        ("SCR_RUN", "SCR_RUNS"),
        ("SCR_FLSUH", "SCR_FLUSH"),
        ("SCR_EXCLUDE_NODE", "SCR_EXCLUDE_NODES"),
        ("SCR_CACHE_BYPAS", "SCR_CACHE_BYPASS"),
    ],
)
def test_a_slip_of_the_pen_is_known(name, known):
    assert misspelt([name, "PATH", known]) == {name: known}


@pytest.mark.parametrize("name", ["SCR_LOCAL_NODES", "SCR_NODES", "SCR_ROOT", "SCR_", "SCRRUNS"])
def test_other_names_are_nobodys_business(name):
    assert misspelt([name]) == {}
    assert misspelt(PARAMETERS) == {}
