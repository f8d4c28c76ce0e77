# SPDX-License-Identifier: BSD-3-Clause
"""The one module that reads clocks and sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, Optional, TypeVar

if TYPE_CHECKING:
    from scrjob.protocols import Clock

T = TypeVar("T")

POLL_FIRST_S = 0.01
POLL_LARGEST_S = 0.25


class SystemClock:
    """The machine's clocks. ``now`` is Unix seconds; deadlines use ``monotonic``."""

    def now(self) -> float:
        """Return Unix seconds, with fraction."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Do nothing for so many seconds."""
        time.sleep(max(0.0, seconds))


class Deadline:
    """A moment on the monotonic clock by which something must be done.

    Args:
        clock: measures it.
        seconds: from now; None for no limit.
    """

    def __init__(self, clock: Clock, seconds: Optional[float]) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that remain, 0 when it has passed, infinity without a limit."""
        if self._end is None:
            return float("inf")
        return max(0.0, self._end - self._clock.monotonic())

    def passed(self) -> bool:
        """Tell whether no time is left."""
        return self.left() <= 0.0


def wait_for(
    condition: Callable[[], T],
    *,
    clock: Clock,
    limit_s: Optional[float],
    poll_s: float = POLL_LARGEST_S,
) -> T:
    """Ask ``condition`` until its answer is true or the limit has passed; returns the last answer.

    Asks at once, then after 10 ms, with the pause doubling up to ``poll_s`` seconds.
    """
    deadline = Deadline(clock, limit_s)
    pause = min(POLL_FIRST_S, poll_s)
    while True:
        answer = condition()
        left = deadline.left()
        if answer or left <= 0.0:
            return answer
        clock.sleep(min(pause, left))
        pause = min(2 * pause, poll_s)
