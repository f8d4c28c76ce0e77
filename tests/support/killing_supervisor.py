# SPDX-License-Identifier: BSD-3-Clause
"""scr_run that is killed at a known line: ``killing_supervisor.py POINT ARGUMENTS OF SCR_RUN...``.

POINT is ``before PHASE`` or ``after PHASE`` of the state file, or ``copied`` in the scavenge.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Optional

from scrjob.commands import scr_run
from scrjob.scavenge.transaction import Transaction
from scrjob.supervisor import state


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    point = sys.argv[1]
    save = state.JobState.save
    note = Transaction.note

    def killing_save(self: Any, phase: Optional[str] = None) -> None:
        if point == f"before {phase}":
            die()
        save(self, phase)
        if point == f"after {phase}":
            die()

    def killing_note(self: Any, what: str, *args: Any, **options: Any) -> None:
        note(self, what, *args, **options)
        if point == what:
            die()

    state.JobState.save = killing_save  # type: ignore[method-assign]
    Transaction.note = killing_note  # type: ignore[method-assign]
    return scr_run.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
