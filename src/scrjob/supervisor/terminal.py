# SPDX-License-Identifier: BSD-3-Clause
"""The terminal stays with us, so that ^C means "halt politely", until the program wants to read it.

The launcher has a process group of its own. A background group that reads from the terminal is
stopped by SIGTTIN; then the terminal is lent to it, as a shell's ``fg`` does, and taken back when it
has ended. While it is lent ^C goes to the launcher; a launcher that ends by it counts as our INT.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, Iterator

STDIN = 0
ASKS = (signal.SIGTTIN, signal.SIGTTOU)


class Terminal:
    """Lends the controlling terminal on stdin; does nothing where there is none."""

    def __init__(self) -> None:
        self._is_ours = os.isatty(STDIN) and _foreground() == os.getpgrp()
        self.is_lent = False

    def tend(self, proc: Any) -> None:
        """Lend the terminal if the child ``proc`` was stopped because it asked for it."""
        if not self._is_ours:
            return
        try:
            stop = os.waitid(os.P_PID, proc.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except (ChildProcessError, AttributeError):
            return
        if stop is None or stop.si_status not in ASKS:
            return
        with contextlib.suppress(OSError):
            group = os.getpgid(proc.pid)
            with _no_ttou():
                os.tcsetpgrp(STDIN, group)
            self.is_lent = True
            os.killpg(group, signal.SIGCONT)

    def take_back(self) -> None:
        """Make our own process group the foreground again."""
        if self.is_lent:
            self.is_lent = False
            with contextlib.suppress(OSError), _no_ttou():
                os.tcsetpgrp(STDIN, os.getpgrp())


def _foreground() -> int:
    try:
        return os.tcgetpgrp(STDIN)
    except OSError:
        return -1


@contextlib.contextmanager
def _no_ttou() -> Iterator[None]:
    """A background process that changes the terminal's foreground would be stopped by SIGTTOU."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
