# SPDX-License-Identifier: BSD-3-Clause
"""Hands what is typed at our terminal to a launcher that cannot read it itself.

A launcher has a process group of its own, in the terminal's background. Most are stopped by the kernel
when they read there, and get the terminal lent (``supervisor/terminal.py``). srun ignores that signal, so
its read fails and its tasks see the end of input for ever. It gets a pipe, which is filled from
the terminal while we are its foreground; ^C stays with us.

Source: SigIgn of srun 22.05 has SIGTTIN; seen with ``srun cat``.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrjob.protocols import CommandRunner

STDIN = 0
LINE_BYTES = 4096  # a line of a terminal is not longer
BACKGROUND_POLL_S = 0.5


class TypedInput:
    """A pipe that is filled from the terminal on stdin.

    Attributes:
        fd: what the launcher gets as stdin. ``start`` closes it here.
    """

    def __init__(self) -> None:
        self.fd, self._pipe = os.pipe()
        self._stopped, self._stop = os.pipe()

    @staticmethod
    def is_needed() -> bool:
        """Tell whether our stdin is the terminal that we are the foreground of."""
        return os.isatty(STDIN) and _in_front()

    def start(self, runner: CommandRunner) -> None:
        """Begin to hand on; called when the launcher has its end."""
        os.close(self.fd)
        runner.beside(self._relay, "stdin of the launcher")

    def drop(self) -> None:
        """Close all ends: there is no launcher."""
        for fd in (self.fd, self._pipe, self._stopped, self._stop):
            os.close(fd)

    def stop(self) -> None:
        """End it: the launcher has ended. What is typed from now on is not for it."""
        if self._stop >= 0:
            os.close(self._stop)
            self._stop = -1

    def _relay(self) -> None:
        try:
            with contextlib.suppress(OSError):  # the launcher, or the terminal, is gone
                while self._pass_on():
                    pass
        finally:
            os.close(self._pipe)
            os.close(self._stopped)

    def _pass_on(self) -> bool:
        """Hand on the next line; False when there will be none."""
        watched = [STDIN, self._stopped] if _in_front() else [self._stopped]
        ready = select.select(watched, [], [], BACKGROUND_POLL_S)[0]
        if self._stopped in ready:
            return False
        if not ready or not _in_front():  # a background process that reads would be stopped
            return True
        typed = os.read(STDIN, LINE_BYTES)
        os.write(self._pipe, typed)
        return bool(typed)


def _in_front() -> bool:
    try:
        return os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:
        return False
