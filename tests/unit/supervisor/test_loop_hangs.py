# SPDX-License-Identifier: BSD-3-Clause
"""What the loop tells the watchdog: where a run is, and how many before it were ended for a hang."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_cluster import Launcher, Step
from scripted_job import Job
from scrjob.run import run


def test_limits_that_nobody_set_are_doubled_after_each_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson A10: a program with one long pause is not ended there again and again."""
    monkeypatch.setattr("scrjob.watchdog.DEFAULT_TIMEOUT_S", 20.0)
    job = Job(tmp_path, [Step(None), Step(None), Step(75)])
    job.cluster.index(1)
    assert job.run(SCR_WATCHDOG="1", SCR_RUNS="3") == 0
    assert job.causes() == ["hang", "hang", "success"]
    first, second, _ = job.state()["runs"]
    assert 20 <= first["ended"] - first["launched"] < 25
    assert 40 <= second["ended"] - second["launched"] < 45


def test_only_the_nodes_of_the_run_are_asked_for_their_caches(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(None), Step()], wanted=2)
    assert job.run(SCR_WATCHDOG="1", SCR_WATCHDOG_STARTUP="20", SCR_RUNS="2") == 0
    evidence = job.state()["runs"][0]["evidence"]
    assert any("not known of the cache on n[1-2]: []" in line for line in evidence)


def test_a_program_that_finishes_while_its_stacks_are_gathered_is_not_run_again(
    tmp_path: Path,
) -> None:
    class Late(Launcher):
        def rank_pids(self, jobstep: Any) -> Any:
            jobstep.code = 0
            return {}

    job = Job(tmp_path, [Step(None), Step()])
    jobenv = job.cluster.jobenv(SCR_WATCHDOG="1", SCR_WATCHDOG_STARTUP="20", SCR_RUNS="2")
    jobenv.launcher = Late(job.cluster)
    signals = job.cluster.signals
    assert run("scripted", ["./app"], jobenv=jobenv, say=job.told.append, signals=signals) == 0
    assert job.causes() == ["success"]
    assert job.cluster.kills == 0
