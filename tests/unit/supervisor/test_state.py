# SPDX-License-Identifier: BSD-3-Clause
"""The state file: taken over, kept aside when damaged, held by one supervisor at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Optional

import pytest

from scrjob.errors import ConfigError, SupervisorActiveError
from scrjob.model import NodeDown
from scrjob.supervisor.state import (
    RUNNING,
    JobState,
    await_former_start,
    begin_start,
)
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


@pytest.mark.parametrize(
    ("former", "expected"),
    [
        (
            '{"phase": "done", "outcome": {"code": 75, "why": "USR1 received"}}',
            "job 42 was requeued: its start before ended with USR1 received",
        ),
        (
            '{"phase": "running", "host": "n1"}',
            "job 42 was requeued: its supervisor on n1 was lost in phase 'running'",
        ),
        ('{"phase": "done", "outcome": null}', "job 42 was requeued"),
        ("{", "job 42 was requeued"),
        (None, "job 42 was requeued"),
    ],
)
def test_a_requeued_job_tells_what_became_of_the_start_before(
    jobenv: Any, tmp_path: Path, former: Optional[str], expected: str
) -> None:
    begin_start(jobenv, 1)
    if former is not None:
        (tmp_path / ".scr/scrjob.42/state.former.json").write_text(former)
    with JobState(jobenv) as state:
        assert state.former_start() == expected


def test_a_first_start_has_none_before(jobenv: Any) -> None:
    begin_start(jobenv, 0)
    with JobState(jobenv) as state:
        assert state.former_start() == ""


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


def test_a_file_system_without_locks_says_nothing_of_supervisors(
    jobenv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lustre that was mounted with ``noflock``."""
    with JobState(jobenv):
        pass

    def refuse(fd: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match="cannot be locked: Function not implemented"):
        await_former_start(jobenv)
    with pytest.raises(ConfigError, match="set SCR_PREFIX"), JobState(jobenv):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_names_that_are_no_text_survive(jobenv: Any) -> None:
    with JobState(jobenv) as state:
        state.data["prefix"] = "/p/\udcff\n'"
        state.data["outcome"] = {"code": 0, "why": "/p/\udcff"}
        state.save(RUNNING)
    with JobState(jobenv) as again:
        assert again.data["outcome"]["why"] == "/p/\udcff"
