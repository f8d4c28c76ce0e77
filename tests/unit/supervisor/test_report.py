# SPDX-License-Identifier: BSD-3-Clause
"""The account of time: every second is in one place."""

from __future__ import annotations

from typing import Any

import pytest

from scrjob.supervisor.report import account


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


def test_a_session_without_runs() -> None:
    time = account({"session": 2, "runs": STATE["runs"]}, None, 310)
    assert time["total"] == 0
    assert time["runs"] == []


def test_a_run_that_never_ended_counts_until_now() -> None:
    state = {"session": 1, "runs": [{**entry(1, 101, 0, "hang"), "ended": None}]}
    assert account(state, None, 151)["computing"] == pytest.approx(50)
