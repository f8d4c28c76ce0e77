# SPDX-License-Identifier: BSD-3-Clause
"""The account of time: every second is in one place."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from scrjob.postrun import Saved
from scrjob.supervisor.report import account, advice, checkpoint_seconds, report_lines


def entry(
    number: int, launched: float, ended: float, cause: str, lost: float = 0.0
) -> dict[str, Any]:
    return {
        "run": number,
        "session": 1,
        "started": launched - 1,
        "launched": launched,
        "ended": ended,
        "cause": cause,
        "evidence": ["what was seen", "exit code 1"] if cause else [],
        "lost_seconds": lost,
    }


STATE = {
    "session": 1,
    "runs": [
        {**entry(1, 5, 50, "success"), "session": 0},
        entry(1, 101, 201, "node down", 30),
        entry(2, 206, 306, "success"),
    ],
}


def test_the_parts_make_up_the_whole() -> None:
    """Lesson B14."""
    time = account(STATE, [(150, 4.0), (190, 6.0), (250, 5.0), (20, 99.0)], 310)
    assert time["total"] == 210
    assert time["checkpointing"] == 15
    assert time["lost"] == {"node down": 30}
    assert time["waiting"] == {"start": 1, "node down": 5}
    assert time["computing"] == 200 - 30 - 15
    assert [row["checkpointing"] for row in time["runs"]] == [10, 5]


def test_unknown_checkpointing_is_not_zero() -> None:
    time = account(STATE, None, 310)
    assert time["checkpointing"] is None
    assert time["computing"] == 170


def test_a_run_that_was_not_launched_has_no_cause() -> None:
    state = {"session": 1, "runs": [{**entry(1, 5, 6, ""), "cause": None}]}
    report = {
        "time": account(state, None, 10),
        "bad_nodes": {},
        "scavenge_seconds": 0.0,
        "checkpoint_interval": None,
        "datasets": [],
        "exit_code": 64,
        "why": "no",
    }
    assert report_lines(report)[1].startswith("  run 1: 1.0 s, not launched")


def test_the_summary_tells_each_runs_evidence_and_what_each_cause_cost() -> None:
    """Lesson B14."""
    runs = [entry(1, 101, 201, "node down", 30), entry(2, 206, 306, "out of memory", 90)]
    runs += [entry(3, 307, 310, "node down", 2), entry(4, 320, 400, "success")]
    report = {
        "time": account({"session": 1, "runs": runs}, None, 400),
        "bad_nodes": {},
        "scavenge_seconds": 0.0,
        "checkpoint_interval": None,
        "datasets": [],
        "exit_code": 0,
        "why": "the program finished",
    }
    lines = report_lines(report)
    assert lines[1].startswith("  run 1: 100.0 s, node down (what was seen), 30.0 s of work lost")
    assert lines[5:7] == [
        "  out of memory: 1 run, 90.0 s of work, 1.0 s until the next launch",
        "  node down: 2 runs, 32.0 s of work, 15.0 s until the next launch",
    ]
    assert "success" not in lines[7]


def test_the_summary_tells_what_became_of_each_dataset() -> None:
    """Lesson B14: what was saved from the caches, how fast, and what could not be."""
    how = "scavenged, 4 files, 2 of them rebuilt, 400 bytes in 2.0 s, copied at 200 B/s"
    rows = [
        Saved(1, "out.1", "output", False, "left out: the time of the allocation is over"),
        Saved(2, "ckpt.2", "checkpoint", True, how, 2.5, 400, 2.0),
    ]
    report = {
        "time": account({"session": 1, "runs": []}, None, 10),
        "bad_nodes": {},
        "scavenge_seconds": 2.5,
        "checkpoint_interval": None,
        "datasets": [row._asdict() for row in rows],
        "exit_code": 73,
        "why": "output out.1 is not safe",
    }
    lines = report_lines(report)
    assert lines[-4].endswith("scavenge 2.5 s")
    assert lines[-3:-1] == [
        "  output out.1 (dataset 1): NOT SAFE, left out: the time of the allocation is over",
        f"  checkpoint ckpt.2 (dataset 2): safe, {how}",
    ]


def test_a_session_without_runs() -> None:
    time = account({"session": 2, "runs": STATE["runs"]}, None, 310)
    assert time["total"] == 0
    assert time["runs"] == []


def test_a_run_that_never_ended_counts_until_now() -> None:
    state = {"session": 1, "runs": [{**entry(1, 101, 0, "hang"), "ended": None}]}
    assert account(state, None, 151)["computing"] == pytest.approx(50)


def records(*labels: tuple[str, int, float]) -> list[dict[str, Any]]:
    return [
        {
            "type": "event",
            "label": label,
            "jobid": "42",
            "timestamp": datetime.fromtimestamp(1_000_000_000 + when, timezone.utc),
            "secs": secs,
        }
        for label, when, secs in labels
    ]


def test_checkpoints_are_taken_from_the_log_of_this_job() -> None:
    rows = records(("CHECKPOINT_END", 5, 2.0), ("FLUSH_SUCCESS", 9, 3.0), ("START", 1, 0.0))
    assert checkpoint_seconds(rows, "42") == [(1_000_000_005, 2.0), (1_000_000_009, 3.0)]
    assert checkpoint_seconds(rows, "43") is None


def test_advice_needs_a_checkpoint() -> None:
    """Lesson B14."""
    assert advice(records(("RUN_START", 0, 0.0))) is None
    some = records(("RUN_START", 0, 0.0), ("CHECKPOINT_END", 50, 2.0), ("RUN_END", 100, 100.0))
    assert advice(some) == pytest.approx(585, rel=0.05)
