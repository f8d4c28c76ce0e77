# SPDX-License-Identifier: BSD-3-Clause
"""A job that is requeued for ever and never gets anywhere."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Optional

import pytest

from scripted_cluster import Step
from scripted_job import Job
from scrjob.supervisor.starts import idle_starts


def run(
    seconds: float = 5.0, before: Optional[int] = 0, after: Optional[int] = 0, cause: str = "signal"
) -> dict[str, Any]:
    return {
        "started": 100.0,
        "ended": 100.0 + seconds,
        "dataset_before": before,
        "dataset_after": after,
        "cause": cause,
    }


@pytest.mark.parametrize(
    ("former", "runs", "expected"),
    [
        (None, [run()], 1),
        (None, [], 1),
        ({"idle_starts": 1}, [run()], 2),
        ({"idle_starts": 1}, [], 2),
        ({"idle_starts": "x"}, [run()], 1),
        ({}, [run()], 1),
        # a program without datasets may have worked
        ({"idle_starts": 2}, [run(seconds=181.0)], 0),
        ({"idle_starts": 2}, [run(seconds=100.0), run(seconds=100.0)], 0),
        # one with datasets has not, if it made none
        ({"idle_starts": 2}, [run(seconds=5000.0, before=3, after=3)], 3),
        ({"idle_starts": 2}, [run(before=3, after=4)], 0),
        ({"idle_starts": 2}, [run(before=None, after=1)], 0),
        ({"idle_starts": 2}, [run(before=3, after=None)], 3),
        # others' doing says nothing
        ({"idle_starts": 2}, [run(cause="pre-empted")], 2),
        ({"idle_starts": 1}, [run(), run(cause="node down")], 1),
    ],
)
def test_a_start_that_brought_nothing_counts(
    former: Optional[dict[str, Any]], runs: list[dict[str, Any]], expected: int
) -> None:
    assert idle_starts(former, runs) == expected


def start(tmp_path: Path, restarts: int, step: Step) -> tuple[int, str]:
    """Start the job, for the first time or once more; return the exit code and what it told."""
    job = Job(tmp_path, [step])
    job.cluster.restart_count = lambda: restarts  # type: ignore[method-assign]
    return job.run(), "\n".join(job.told)


def stopped_at_once() -> Step:
    return Step(None, at={5: lambda cluster: cluster.send(signal.SIGUSR1)})


def test_a_job_that_is_requeued_and_gets_nowhere_is_not_requeued_again(tmp_path: Path) -> None:
    """As when its time limit is as short as the warning before the end."""
    assert [start(tmp_path, count, stopped_at_once())[0] for count in (0, 1)] == [75, 75]
    code, told = start(tmp_path, 2, stopped_at_once())
    assert code == 93
    assert "SIGUSR1 received; 3 starts of this job in a row brought no new dataset" in told


def test_a_start_that_made_a_checkpoint_is_forgiven_all_before(tmp_path: Path) -> None:
    assert start(tmp_path, 0, stopped_at_once())[0] == 75
    assert start(tmp_path, 1, stopped_at_once())[0] == 75
    made = {3: lambda c: c.dataset(1), 5: lambda c: c.send(signal.SIGUSR1)}
    assert start(tmp_path, 2, Step(None, at=made))[0] in (73, 75)
    assert start(tmp_path, 3, stopped_at_once())[0] == 75
