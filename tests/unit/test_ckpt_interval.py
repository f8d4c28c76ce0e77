# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoint intervals: what the log shows, and the formulas."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from scrjob import ckpt_interval
from scrjob.ckpt_interval import Observed

BEGIN = datetime.fromisoformat("2026-01-01")


def records(*events, jobid="1"):
    """Make records of (seconds since the begin, label, secs)."""
    made = []
    for at, label, *secs in events:
        record = {
            "type": "event",
            "label": label,
            "jobid": jobid,
            "timestamp": BEGIN + timedelta(seconds=at),
        }
        if secs:
            record["secs"] = float(secs[0])
        made.append(record)
    return made


def test_the_formulas():
    """Numbers by hand from the two papers."""
    assert ckpt_interval.young(50, 10000) == 1000
    share = 50 / 20000
    assert ckpt_interval.daly(50, 10000) == pytest.approx(
        1000 * (1 + math.sqrt(share) / 3 + share / 9) - 50
    )
    assert ckpt_interval.daly(20000, 10000) == 10000
    assert ckpt_interval.daly(30000, 10000) == 10000


def test_cost_counts_what_the_program_waited_for():
    seen = ckpt_interval.observe(
        records(
            (0, "START"), (10, "CHECKPOINT_END", 2), (20, "CHECKPOINT_END", 4), (26, "FLUSH_SUCCESS", 5),
            (40, "FLUSH_FAIL", 1), (41, "ASYNC_FLUSH_SUCCESS", 99), (50, "CHECKPOINT_START"),
        )
    )  # fmt: skip
    assert seen.checkpoints == 2
    assert seen.cost_s == 6.0


def test_failures_are_runs_after_which_another_one_was_needed():
    seen = ckpt_interval.observe(
        records(
            (0, "RUN_START"), (1, "START"), (100, "RUN_END", 90),
            (105, "RUN_START"), (106, "START"), (205, "RUN_END", 100),
            (210, "RUN_START"), (300, "HALT"), (310, "RUN_END", 100),
        )
    )  # fmt: skip
    assert (seen.runs, seen.run_s, seen.failures) == (3, 290.0, 2)
    assert seen.mtbf_s == (290 + 86400) / 3


def test_the_end_of_the_allocation_is_no_failure():
    """Lesson A15: the last run of a job without a halt ended with the allocation."""
    first = records((0, "RUN_START"), (100, "COMPUTE_END", 90), jobid="1")
    second = records((500, "RUN_START"), (700, "COMPUTE_END", 90), jobid="2")
    seen = ckpt_interval.observe(first + second)
    assert (seen.runs, seen.run_s, seen.failures) == (2, 300.0, 0)


def test_a_node_failure_is_one_even_at_the_end():
    seen = ckpt_interval.observe(
        records((0, "RUN_START"), (50, "RUN_END", 50), (51, "NODE_FAIL", 0), (51, "NODE_FAIL", 0))
    )
    assert seen.failures == 1


def test_a_halted_run_is_no_failure_though_another_follows():
    seen = ckpt_interval.observe(records((0, "START"), (50, "HALT"), (60, "START"), (70, "HALT")))
    assert (seen.runs, seen.failures) == (2, 0)


def test_without_a_supervisor_the_librarys_records_bound_the_runs():
    seen = ckpt_interval.observe(
        records((0, "START"), (50, "COMPUTE_END", 1), (60, "START"), (90, "HALT"))
    )
    assert (seen.runs, seen.run_s, seen.failures) == (2, 80.0, 1)


def test_jobs_that_mix_in_one_log_are_kept_apart():
    one = records((0, "RUN_START"), (100, "RUN_END", 100), jobid="1")
    two = records((50, "RUN_START"), (150, "RUN_END", 100), jobid="2")
    mixed = sorted(one + two, key=lambda record: record["timestamp"])
    assert ckpt_interval.observe(mixed).failures == 0


@pytest.mark.parametrize("label", ["RESTART_FAIL", "RESTART_FAILURE"])
def test_both_labels_of_a_failed_restart_count(label):
    """Lesson A15: the library writes one, an older tool looked for the other."""
    seen = ckpt_interval.observe(records((0, "START"), (1, label, 1), (2, "RESTART_SUCCESS", 1)))
    assert (seen.restarts, seen.failed_restarts) == (1, 1)


def test_little_data_gives_a_sound_interval():
    """Lesson A15: no constant 10 s; one failure a day is assumed until the log knows better."""
    nothing = ckpt_interval.observe([])
    assert nothing == Observed()
    assert nothing.cost_s is None
    assert ckpt_interval.interval(nothing, "young") == math.sqrt(2 * 60 * 86400)
    free = Observed(checkpoints=1, checkpoint_s=0.0)
    assert ckpt_interval.interval(free) > 1.0


def test_much_data_outweighs_the_assumption():
    seen = Observed(checkpoints=1, checkpoint_s=50, runs=1001, run_s=1e7, failures=1000)
    assert seen.mtbf_s == pytest.approx(10000, rel=0.01)
    assert ckpt_interval.interval(seen, "young") == pytest.approx(1000, rel=0.01)


def test_overhead():
    assert ckpt_interval.overhead_percent(Observed(checkpoints=1, checkpoint_s=5.0), 95.0) == 5.0
    assert ckpt_interval.overhead_percent(Observed(), 540.0) == 10.0


def test_transfers_are_not_events():
    assert (
        ckpt_interval.observe([{"type": "xfer", "label": "CHECKPOINT_END", "jobid": "1"}])
        == Observed()
    )
