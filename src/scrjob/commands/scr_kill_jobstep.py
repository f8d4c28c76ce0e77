# SPDX-License-Identifier: BSD-3-Clause
"""``scr_kill_jobstep -l LAUNCHER -j JOBSTEPID``: end a whole job step, wherever its ranks run.

TERM, five seconds, KILL. Exit code 0: it has ended; 1: there is no such step now, it could not be ended,
or the call was wrong; 78: no such launcher, or no such allocation.
"""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import EXIT_FAILURE, complain, make_parser, run_command

PROG = "scr_kill_jobstep"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = make_parser(PROG, "End a job step with all its ranks: TERM, five seconds, KILL.")
    parser.add_argument("-l", "--launcher", required=True, metavar="NAME", help="job launcher")
    parser.add_argument(
        "-j", "--jobstep", "--jobStepId", required=True, metavar="ID", help="e.g. 1234.0"
    )
    given = parser.parse_args(argv)

    from scrjob._context import system_context  # noqa: PLC0415 - not for --help
    from scrjob.launchers.auto import choose_launcher  # noqa: PLC0415 - same

    if not choose_launcher(system_context(), given.launcher).end_step(given.jobstep):
        complain(PROG, f"no step {given.jobstep}: it has ended, or there never was one")
        return EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())
