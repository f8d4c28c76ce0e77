# SPDX-License-Identifier: BSD-3-Clause
"""The state file: taken over, kept aside when damaged, held by one supervisor at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scrjob.errors import SupervisorActiveError
from scrjob.model import NodeDown
from scrjob.supervisor.state import RUNNING, JobState
from scrjob.testing.fakes import FakeJobEnv


@pytest.fixture
def jobenv(tmp_path: Path) -> Any:
    return FakeJobEnv(str(tmp_path))


def test_a_second_start_finds_the_first_ones_state(jobenv: Any) -> None:
    with JobState(jobenv) as first:
        assert not first.known
        first.condemn(NodeDown("n1", "gone", "echo", 5.0, 0.1, "no answer"))
        first.save(RUNNING)
    with JobState(jobenv) as second:
        assert second.known
        assert second.phase == RUNNING
        assert second.bad_nodes() == {"n1": NodeDown("n1", "gone", "echo", 5.0, 0.1, "no answer")}
        assert not second.condemn(NodeDown("n1", "again"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "\x00\xff"])
def test_a_damaged_state_is_kept_aside(jobenv: Any, tmp_path: Path, text: str) -> None:
    directory = tmp_path / ".scr" / "scrjob.42"
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(text, "latin-1")
    with JobState(jobenv) as state:
        assert not state.known
        state.save(RUNNING)
    assert (directory / "state.json.damaged").read_text("latin-1") == text
    assert json.loads((directory / "state.json").read_text())["phase"] == RUNNING


def test_two_supervisors_do_not_meet(jobenv: Any) -> None:
    with JobState(jobenv) as first:
        first.save(RUNNING)
        with (
            pytest.raises(SupervisorActiveError, match=r"by process \d+ on login1"),
            JobState(jobenv),
        ):
            pass
    with JobState(jobenv):
        pass


def test_names_that_are_no_text_survive(jobenv: Any) -> None:
    with JobState(jobenv) as state:
        state.data["prefix"] = "/p/\udcff\n'"
        state.data["outcome"] = {"code": 0, "why": "/p/\udcff"}
        state.save(RUNNING)
    with JobState(jobenv) as again:
        assert again.data["outcome"]["why"] == "/p/\udcff"
