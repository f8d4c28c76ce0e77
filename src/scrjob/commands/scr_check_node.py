# SPDX-License-Identifier: BSD-3-Clause
"""``scr_check_node``: are this node's control and cache directories fit for use?"""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob.commands._shared import run_command
from scrjob.node import check


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print PASS or the first reason against it; returns 0 or 1."""
    return run_command(check.PROG, check.main, argv)
