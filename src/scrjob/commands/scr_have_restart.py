# SPDX-License-Identifier: BSD-3-Clause
"""scr_have_restart: print the name of the checkpoint that a program would restart from."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import add_prefix, make_parser, run_command

PROG = "scr_have_restart"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the name, nothing if there is none; returns 0."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    from scrjob.have_restart import have_restart  # noqa: PLC0415 - not for --help
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same

    parser = make_parser(
        PROG, "Print the checkpoint to restart from; changes and launches nothing."
    )
    add_prefix(parser)
    args = parser.parse_args(argv)
    jobenv = JobEnv(prefix=args.prefix)
    nodes = jobenv.job_nodes()
    down = jobenv.resmgr.down_nodes() if nodes else {}
    name = have_restart(jobenv, [node for node in nodes if node not in down])
    if name:
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
