# SPDX-License-Identifier: BSD-3-Clause
"""When to checkpoint and when to flush: arithmetic on counters and times, no communication.

Rank 0 decides and tells the others, so clocks need not agree.
"""

from __future__ import annotations

from typing import NamedTuple, Optional


class CheckpointRules(NamedTuple):
    """When a checkpoint is needed; 0 switches a rule off. With all of them off: always.

    Attributes:
        interval: at every so many questions (SCR_CHECKPOINT_INTERVAL).
        seconds: when so many have passed since the last one ended (SCR_CHECKPOINT_SECONDS).
        overhead_percent: while checkpoints cost at most this share of the time
            (SCR_CHECKPOINT_OVERHEAD).
    """

    interval: int = 0
    seconds: float = 0.0
    overhead_percent: float = 0.0


class CheckpointClock:
    """Answers whether a checkpoint is needed now. All times are seconds on one monotonic clock.

    Args:
        rules: see ``CheckpointRules``.
        now: time at which the program started, or restarted.
    """

    def __init__(self, rules: CheckpointRules, now: float) -> None:
        self._rules = rules
        self._questions = 0
        self._last_end = now
        self._started: Optional[float] = None
        self._cost = 0.0
        self._checkpoints = 0

    def started(self, now: float) -> None:
        """Note that a checkpoint begins."""
        self._started = now

    def ended(self, now: float) -> None:
        """Note that the checkpoint has ended, well or not: its time is spent."""
        if self._started is not None:
            self._cost += now - self._started
            self._checkpoints += 1
        self._started = None
        self._last_end = now

    def needed(self, now: float) -> bool:
        """Count one question of the program and answer it."""
        self._questions += 1
        rules = self._rules
        if rules.interval <= 0 and rules.seconds <= 0 and rules.overhead_percent <= 0:
            return True  # nobody said how often: the program asks where it wants one
        since = now - self._last_end
        if rules.interval > 0 and self._questions % rules.interval == 0:
            return True
        if rules.seconds > 0 and since >= rules.seconds:
            return True
        return rules.overhead_percent > 0 and self._is_cheap(since)

    def _is_cheap(self, since: float) -> bool:
        if not self._checkpoints:
            return True  # the first one tells what they cost
        cost = self._cost / self._checkpoints
        whole = since + cost
        return whole > 0 and 100.0 * cost / whole <= self._rules.overhead_percent


def is_flush_due(ckpt: Optional[int], every: int) -> bool:
    """Tell whether SCR_FLUSH sends checkpoint number ``ckpt`` (None: pure output) to the prefix."""
    return ckpt is not None and every > 0 and ckpt % every == 0
