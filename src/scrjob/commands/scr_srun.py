# SPDX-License-Identifier: BSD-3-Clause
"""scr_srun: scr_run with the launcher srun."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands.scr_run import run_with_launcher


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run as the command line says; returns the exit code of docs/exit-codes.md."""
    return run_with_launcher("scr_srun", "srun", argv)


if __name__ == "__main__":
    sys.exit(main())
