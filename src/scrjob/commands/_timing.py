# SPDX-License-Identifier: BSD-3-Clause
"""The lines with which scr_prerun and scr_postrun tell when they began and ended."""

from __future__ import annotations

from scrjob._clock import SystemClock
from scrjob.commands._shared import narrate


def _date(when: float) -> str:
    from datetime import datetime  # noqa: PLC0415 - only when it is shown

    return str(datetime.fromtimestamp(when))  # noqa: DTZ006 - local time, as published


class Timing:
    """Prints ``PROG: Started: TIME`` now and ``Ended``, ``secs`` at the end, on stdout if asked to."""

    def __init__(self, prog: str, verbose: bool) -> None:
        self._prog = prog
        self._verbose = verbose
        self._began = SystemClock().now()
        if verbose:
            self.say(f"Started: {_date(self._began)}")

    def say(self, line: str) -> None:
        """Print one line with the program's name if the user wants it."""
        if self._verbose:
            narrate(f"{self._prog}: {line}")

    def show(self, line: str) -> None:
        """Print one line as it is if the user wants it."""
        if self._verbose:
            narrate(line)

    def end(self) -> None:
        """Print when it ended and how many whole seconds it took."""
        now = SystemClock().now()
        if self._verbose:
            self.say(f"Ended: {_date(now)}")
            self.say(f"secs: {int(now - self._began)}")
