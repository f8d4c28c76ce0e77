# SPDX-License-Identifier: BSD-3-Clause
"""Lets somebody outside see where a rank hangs: a signal makes it write its stacks to a file.

Only when ``SCR_STACK_DIR`` names a directory, as ``scr_run`` does: SIGUSR2 then makes the process append
the stacks of all its threads to ``<SCR_STACK_DIR>/<host name>.<pid>.txt``, the pid as the process itself
sees it. The handler is C code and works while Python hangs in a call; a stopped process cannot answer.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import IO

STACK_SIGNAL = signal.SIGUSR2


def arm(directory: str, hostname: str, rank: int, size: int) -> IO[str]:
    """Register the handler; returns the open file, which must stay open as long as it is registered.

    Raises:
        OSError: the file cannot be created.
    """
    path = os.path.join(directory, f"{hostname}.{os.getpid()}.txt")
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the handler
    file.write(f"rank {rank} of {size} on {hostname}, process {os.getpid()}\n")
    file.flush()
    faulthandler.register(STACK_SIGNAL, file=file, all_threads=True, chain=False)
    return file


def disarm(file: IO[str]) -> None:
    """Take the handler away and close its file; the signal does nothing from now on."""
    faulthandler.unregister(STACK_SIGNAL)
    # The default action would end the process, and the signal may be on its way.
    signal.signal(STACK_SIGNAL, signal.SIG_IGN)
    file.close()
