# SPDX-License-Identifier: BSD-3-Clause
"""A supervisor that was killed at one of the writes of its state, and the one that comes after it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Optional

import pytest

from scripted_cluster import Step
from scripted_job import Job
from scrjob.model import Cause
from scrjob.supervisor import state


class Killed(BaseException):
    """Not caught by anything that a KILL would not stop at."""


def die_at_save(monkeypatch: pytest.MonkeyPatch, phase: str, time: int) -> None:
    """Die after the ``time``-th write that enters a phase."""
    save = state.JobState.save
    seen: list[str] = []

    def dying(self: Any, entered: Optional[str] = None) -> None:
        save(self, entered)
        seen.append(entered or "")
        if seen.count(phase) == time and entered == phase:
            raise Killed

    monkeypatch.setattr(state.JobState, "save", dying)


def killed(job: Job, **environ: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_at_save(patch, state.ENDED, 2)
        with pytest.raises(Killed):
            job.run(**environ)


def test_a_program_that_had_finished_is_not_run_again(tmp_path: Path) -> None:
    killed(Job(tmp_path, [Step()]), SCR_RUNS="2")
    again = Job(tmp_path, [Step()])
    assert again.run(SCR_RUNS="2") == 0
    assert again.cluster.launches == []
    assert again.causes() == ["success"]


def test_its_failure_is_the_exit_code(tmp_path: Path) -> None:
    killed(Job(tmp_path, [Step(5, 7)]))
    assert Job(tmp_path, []).run() == 7


def test_it_was_told_to_stop(tmp_path: Path) -> None:
    stopped = Step(None, at={5: lambda c: c.send(signal.SIGTERM)}, ends_on_halt=True)
    killed(Job(tmp_path, [stopped]))
    again = Job(tmp_path, [])
    assert again.run() == 75
    assert again.cluster.halt_reason() is None


def test_the_allocation_was_being_taken_away(tmp_path: Path) -> None:
    """What the manager said then is in the state; it may say nothing of it any more."""
    why = (Cause.CANCELLED, "job 42 was cancelled")
    killed(Job(tmp_path, [Step(5, 143, at={4: lambda c: setattr(c, "ends", why)})]), SCR_RUNS="3")
    assert Job(tmp_path, []).run(SCR_RUNS="3") == 130


def test_it_was_killed_before_it_knew_why_the_step_had_ended(tmp_path: Path) -> None:
    """Pre-empted with TERM and soon KILL: the step's halt was ours, so the job is to be requeued."""
    stopped = Step(None, at={5: lambda c: c.send(signal.SIGTERM)}, ends_on_halt=True)
    with pytest.MonkeyPatch.context() as patch:
        die_at_save(patch, state.ENDED, 1)
        with pytest.raises(Killed):
            Job(tmp_path, [stopped]).run()
    again = Job(tmp_path, [])
    assert again.run() == 75


def test_the_end_of_a_step_is_when_it_was_seen(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die_at_save(patch, state.ENDED, 1)
        first = Job(tmp_path, [Step(5, 7)])
        with pytest.raises(Killed):
            first.run()
    ended = first.state()["runs"][0]["ended"]
    again = Job(tmp_path, [])
    again.cluster.clock.advance(500)
    assert again.run() == 7
    assert again.state()["runs"][0]["ended"] == ended


def test_runs_without_progress_are_not_counted_twice(tmp_path: Path) -> None:
    """Lesson B11: three runs, not two and a killed supervisor."""
    killed(Job(tmp_path, [Step(5, 7)]), SCR_RUNS="-1")
    second = Job(tmp_path, [Step(5, 7), Step()])
    assert second.run(SCR_RUNS="-1") == 0
    assert second.causes() == ["application error", "application error", "success"]


def test_a_halt_of_ours_that_the_state_does_not_know_is_taken_back(tmp_path: Path) -> None:
    """Killed between the two writes: halt.scr had the reason, state.json not yet."""
    job = Job(tmp_path, [Step()])
    (tmp_path / ".scr" / "scrjob.42").mkdir()
    job.cluster.halt_with("SCRJOB_SIGNAL")
    assert job.run() == 75
    assert job.run() == 0


def test_a_step_whose_record_was_not_written_is_ended_too(tmp_path: Path) -> None:
    """Killed after the launch, before the state said what was launched."""
    job = Job(tmp_path, [Step(None)])
    with pytest.MonkeyPatch.context() as patch:
        die_at_save(patch, state.LAUNCHING, 1)
        with pytest.raises(Killed):
            job.run()
    again = Job(tmp_path, [Step()])
    assert again.run() == 0
    assert again.cluster.orphans == [""]
    assert again.cluster.orphan_environs[0]["SCR_JOB_ID"] == "42"
