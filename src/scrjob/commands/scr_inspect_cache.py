# SPDX-License-Identifier: BSD-3-Clause
"""``scr_inspect_cache FILE``: which ranks' files are whole in this node's cache, one line each.

FILE is a cache index or the control directory that it is in. Exit code 0; 1 if it cannot be read.
"""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import run_command
from scrjob.node import inspect

PROG = "scr_inspect_cache"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, inspect.main, argv)


if __name__ == "__main__":
    sys.exit(main())
