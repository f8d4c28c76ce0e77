# SPDX-License-Identifier: BSD-3-Clause
"""scr_prerun: prepare the prefix and the allocation for the first run."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import add_prefix, add_verbose, make_parser, run_command
from scrjob.commands._timing import Timing

PROG = "scr_prerun"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the preparations; returns 0, or the exit code of what is missing."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - not for --help
    from scrjob.prerun import prerun  # noqa: PLC0415 - same

    parser = make_parser(PROG, "Prepare the prefix directory and the allocation for the first run.")
    add_prefix(parser)
    add_verbose(parser)
    args = parser.parse_args(argv)
    timing = Timing(PROG, args.verbose)
    prerun(JobEnv(prefix=args.prefix))
    timing.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
