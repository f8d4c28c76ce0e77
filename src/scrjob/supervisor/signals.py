# SPDX-License-Identifier: BSD-3-Clause
"""Signals to the supervisor, kept for the loop to ask about."""

from __future__ import annotations

import signal
import threading
from typing import Any, Optional

POLITE = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)


class SignalWatch:
    """While entered, signals are counted instead of ending the process.

    Outside of the main thread Python delivers none; then nothing is caught.

    Args:
        ends_process: nothing follows but the exit, whose code a repeated signal must not change: once
            there was one, all but INT are ignored from then on.
    """

    def __init__(self, *, ends_process: bool = False) -> None:
        self._ends_process = ends_process
        self.first: Optional[signal.Signals] = None
        self.interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for number in POLITE:
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup: the job outlives the login on purpose
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            after = handler if handler is not None else signal.SIG_DFL
            if self._ends_process and self.first and number is not signal.SIGINT:
                after = signal.SIG_IGN
            signal.signal(number, after)
        self._before.clear()

    def _note(self, number: int, frame: object) -> None:
        del frame
        received = signal.Signals(number)
        if self.first is None:
            self.first = received
        if received is signal.SIGINT:
            self.interrupts += 1

    def stop_now(self) -> bool:
        """Tell whether the user insists: a second INT."""
        return self.interrupts > 1
