# SPDX-License-Identifier: BSD-3-Clause
"""When to checkpoint and when to flush."""

from __future__ import annotations

import pytest

from scrjob.client.policy import CheckpointClock, CheckpointRules, is_flush_due


def test_without_any_rule_every_question_is_answered_yes():
    clock = CheckpointClock(CheckpointRules(), 0.0)
    assert [clock.needed(float(t)) for t in range(3)] == [True] * 3


def test_interval_counts_questions():
    clock = CheckpointClock(CheckpointRules(interval=3), 0.0)
    assert [clock.needed(0.0) for _ in range(7)] == [False, False, True, False, False, True, False]


def test_seconds_count_from_the_start_and_then_from_the_end_of_the_last_checkpoint():
    clock = CheckpointClock(CheckpointRules(seconds=10), 100.0)
    assert not clock.needed(109.9)
    assert clock.needed(110.0)
    clock.started(110.0)
    clock.ended(115.0)
    assert not clock.needed(124.9)
    assert clock.needed(125.0)


def test_overhead_takes_the_first_to_learn_the_cost_then_waits_until_it_is_cheap():
    clock = CheckpointClock(CheckpointRules(overhead_percent=10), 0.0)
    assert clock.needed(0.0)
    clock.started(0.0)
    clock.ended(1.0)  # costs 1 s: 10 % means 9 s of computing for each
    assert not clock.needed(9.9)
    assert clock.needed(10.0)


def test_a_checkpoint_that_cost_nothing_is_always_cheap_once_time_has_passed():
    clock = CheckpointClock(CheckpointRules(overhead_percent=10), 0.0)
    clock.started(0.0)
    clock.ended(0.0)
    assert not clock.needed(0.0)
    assert clock.needed(0.1)


def test_several_rules_any_of_them_says_yes():
    clock = CheckpointClock(CheckpointRules(interval=2, seconds=10), 0.0)
    assert [clock.needed(1.0), clock.needed(1.0), clock.needed(10.0)] == [False, True, True]


@pytest.mark.parametrize(
    ("ckpt", "every", "due"),
    [(3, 3, True), (4, 3, False), (6, 3, True), (1, 0, False), (None, 1, False), (1, 1, True)],
)
def test_every_nth_checkpoint_is_flushed_zero_means_none(ckpt, every, due):
    assert is_flush_due(ckpt, every) is due
