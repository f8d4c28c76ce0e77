# SPDX-License-Identifier: BSD-3-Clause
"""scr_list_down_nodes: which nodes of the allocation must not be used."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import make_parser, run_command

PROG = "scr_list_down_nodes"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the bad nodes, folded, or each with its reason; returns 0."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    from scrjob.hostlist import compress_hosts, expand_hosts  # noqa: PLC0415 - not for --help
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same
    from scrjob.list_down_nodes import list_down_nodes  # noqa: PLC0415 - same

    parser = make_parser(PROG, "Print the nodes of the allocation that must not be used.")
    parser.add_argument("-j", "--joblauncher", required=True, metavar="NAME", help="job launcher")
    parser.add_argument("-r", "--reason", action="store_true", help='print "node: reason" lines')
    parser.add_argument("-f", "--free", action="store_true", help="test free space, not capacity")
    parser.add_argument("-d", "--down", metavar="NODES", default="", help="known as down")
    parser.add_argument("-l", "--log", action="store_true", help="record them in the SCR log")
    parser.add_argument("-s", "--secs", type=float, metavar="N", help="seconds since the run began")
    parser.add_argument("nodes", nargs="*", metavar="NODES", help="test these, default all")
    args = parser.parse_args(argv)
    jobenv = JobEnv(launcher=args.joblauncher)
    jobenv.launcher  # noqa: B018 - an unknown name is an error before anything is done
    log = None
    if args.log:
        from scrjob.cli import SCRLog  # noqa: PLC0415 - only when asked for

        log = SCRLog(jobenv.dir_prefix(), jobenv.job_id(), user=jobenv.user(), param=jobenv.param)
    found = list_down_nodes(
        jobenv,
        expand_hosts(",".join(args.nodes)),
        expand_hosts(args.down),
        free=args.free,
        reason=args.reason,
        log=log,
        secs=args.secs,
    )
    if isinstance(found, dict):
        for node, reason in found.items():
            print(f"{node}: {reason}")
    else:
        print(compress_hosts(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
