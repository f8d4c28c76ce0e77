# SPDX-License-Identifier: BSD-3-Clause
"""Deadlines and waiting, on a clock that only moves when slept on."""

from __future__ import annotations

import pytest

from scrjob._clock import Deadline, SystemClock, wait_for
from scrjob.testing.fakes import FakeClock


def test_deadline_counts_down_and_stops_at_zero() -> None:
    clock = FakeClock()
    deadline = Deadline(clock, 5)
    clock.advance(3)
    assert deadline.left() == 2
    assert not deadline.passed()
    clock.advance(2)
    assert deadline.passed()
    clock.advance(10)
    assert deadline.left() == 0


def test_no_limit_never_passes() -> None:
    clock = FakeClock()
    deadline = Deadline(clock, None)
    clock.advance(1e9)
    assert deadline.left() == float("inf")
    assert not deadline.passed()


def test_wait_for_asks_at_once() -> None:
    clock = FakeClock()
    assert wait_for(lambda: "yes", clock=clock, limit_s=0) == "yes"
    assert clock.naps == []


def test_wait_for_doubles_its_pause_up_to_the_largest() -> None:
    clock = FakeClock()
    wait_for(lambda: clock.monotonic() > 1, clock=clock, limit_s=None, poll_s=0.05)
    assert clock.naps[:4] == [0.01, 0.02, 0.04, 0.05]
    assert set(clock.naps[4:]) == {0.05}


def test_wait_for_ends_at_its_limit_with_the_last_answer() -> None:
    clock = FakeClock()
    assert wait_for(lambda: None, clock=clock, limit_s=3) is None
    assert clock.monotonic() == pytest.approx(3)


def test_system_clock_takes_negative_sleeps_for_none() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(-5)
    assert 0 <= clock.monotonic() - before < 5
    assert clock.now() > 1_700_000_000
