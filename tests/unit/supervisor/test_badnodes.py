# SPDX-License-Identifier: BSD-3-Clause
"""The file of bad nodes over all jobs of a prefix."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripted_cluster import Step
from scripted_job import Job
from scrjob.model import NodeDown
from scrjob.supervisor.badnodes import note_bad_node
from scrjob.testing.fakes import FakeJobEnv


def rows(prefix: Path) -> list[dict[str, object]]:
    text = (prefix / ".scr" / "bad_nodes.jsonl").read_text("ascii")
    return [json.loads(line) for line in text.splitlines()]


def test_each_node_that_a_job_gives_up_is_a_line(tmp_path: Path) -> None:
    """Lesson B12: over attempts and jobs; a later start of the job tells nothing twice."""
    first = Step(None, at={5: lambda c: c.kill_node("n2")})
    second = Step(None, at={5: lambda c: c.kill_node("n3")})
    assert Job(tmp_path, [first, second, Step()], wanted=3).run(SCR_RUNS="3") == 0
    assert Job(tmp_path, [Step()], wanted=3).run() == 0
    found = rows(tmp_path)
    assert [(row["node"], row["run"]) for row in found] == [("n2", 1), ("n3", 2)]
    assert {key: found[0][key] for key in ("reason", "test", "job_id", "user", "manager")} == {
        "reason": "connection closed",
        "test": "resource manager",
        "job_id": "42",
        "user": "alice",
        "manager": "SCRIPTED",
    }
    assert found[0]["when"] == pytest.approx(1_000_000_005, abs=3)


def test_odd_texts_stay_one_line(tmp_path: Path) -> None:
    jobenv = FakeJobEnv(str(tmp_path), resmgr=SimpleNamespace(name="SLURM"))
    (tmp_path / ".scr").mkdir()
    odd = NodeDown("n\udcff1", "two\nlines", "echo", 0.0, 0.0, "x" * 100_000)
    note_bad_node(jobenv, odd, session=1, run=0)
    note_bad_node(jobenv, odd._replace(node="n2"), session=1, run=0)
    found = rows(tmp_path)
    assert [row["node"] for row in found] == ["n\udcff1", "n2"]
    assert found[0]["reason"] == "two\nlines"
    assert len(str(found[0]["evidence"])) == 1000
    assert found[0]["when"] == jobenv.context.clock.now()


def test_a_file_that_cannot_be_written_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".scr" / "bad_nodes.jsonl").mkdir(parents=True)
    jobenv = FakeJobEnv(str(tmp_path), resmgr=SimpleNamespace(name="SLURM"))
    note_bad_node(jobenv, NodeDown("n1", "gone"), session=1, run=1)
    assert "bad node n1 cannot be noted" in caplog.text
