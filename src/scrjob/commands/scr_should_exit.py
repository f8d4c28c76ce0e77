# SPDX-License-Identifier: BSD-3-Clause
"""scr_should_exit: should no further run be started? Exit code 0: stop, 1: go on."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import add_prefix, add_verbose, make_parser, run_command

PROG = "scr_should_exit"
STOP = 0
GO_ON = 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Decide; returns 0 to stop, 1 to go on, and 78 or 64 if the question makes no sense."""
    return run_command(PROG, _run, argv, usage_exit=64)


def _run(argv: list[str]) -> int:
    from scrjob.hostlist import expand_hosts  # noqa: PLC0415 - not for --help
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same
    from scrjob.should_exit import exit_reason, min_nodes  # noqa: PLC0415 - same

    parser = make_parser(PROG, "Exit with 0 if no further run should be started, else with 1.")
    add_prefix(parser)
    parser.add_argument("--down", metavar="NODES", default="", help="nodes that cannot be used")
    parser.add_argument("--min-nodes", type=int, metavar="N", help="nodes that a run needs")
    parser.add_argument("--runs", type=int, metavar="N", help="runs that are left")
    add_verbose(parser)
    args = parser.parse_args(argv)
    jobenv = JobEnv(prefix=args.prefix)
    if args.runs is not None and args.runs <= 0 and args.runs != -1:
        reason: Optional[str] = f"runs_remaining={args.runs}"
    else:
        needed = args.min_nodes if args.min_nodes is not None else min_nodes(jobenv)
        reason = exit_reason(jobenv, expand_hosts(args.down), needed)
    if reason and args.verbose:
        print(reason)
    return STOP if reason else GO_ON


if __name__ == "__main__":
    sys.exit(main())
