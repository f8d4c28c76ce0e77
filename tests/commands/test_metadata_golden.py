# SPDX-License-Identifier: BSD-3-Clause
"""Our commands answer on the golden prefixes what SCR's own tools answered there."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

import recordedcalls
from archives import unpack

CASES = ["meta_async", "meta_bypass", "meta_flush0", "meta_flush3", "meta_halt"]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recordings were made in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("case", CASES)
def test_answers_of_the_real_tools(
    case: str, golden: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = golden(case)
    with tarfile.open(directory / "prefix.tar") as archive:
        unpack(archive, tmp_path)
    recorded = f"/p/scr/alice/{case}"
    prefix = f"{tmp_path}{recorded}"
    monkeypatch.chdir(prefix)
    calls = list(recordedcalls.parse((directory / "tools.log").read_text()))
    assert len(calls) > 15
    for call in calls:
        ours = recordedcalls.run([word.replace(recorded, prefix) for word in call.argv])
        said = recordedcalls.as_recorded(ours.stdout).replace(prefix, recorded)
        assert (said, ours.code) == call.answer, call.argv
