# SPDX-License-Identifier: BSD-3-Clause
"""``scr_copy``: copy what this node holds of a dataset to the prefix; see ``node.copy_main``."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import run_command
from scrjob.node import copy_main


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code: 0 all copied, 1 something is missing or failed."""
    return run_command("scr_copy", copy_main.main, argv)


if __name__ == "__main__":
    sys.exit(main())
