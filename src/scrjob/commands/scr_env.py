# SPDX-License-Identifier: BSD-3-Clause
"""``scr_env``: single facts about this job for scripts, and the plugins that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.commands._shared import add_prefix, make_parser, run_command

if TYPE_CHECKING:
    import argparse

    from scrjob.jobenv import JobEnv

PROG = "scr_env"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the facts asked for, without a line end; returns 0, 1 if one cannot be told."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    if args.plugins:
        _print_plugins()
        return 0
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - not for --help

    facts = _facts(args, JobEnv(prefix=args.prefix))
    print("\n".join(facts), end="")
    return 0


def _facts(args: argparse.Namespace, env: JobEnv) -> list[str]:
    facts = []
    if args.user:
        facts.append(env.user())
    if args.jobid:
        facts.append(env.job_id())
    if args.endtime:
        facts.append(str(env.resmgr.end_time()))
    if args.nodes:
        facts.append(",".join(env.job_nodes()))
    if args.down:
        facts.append(",".join(env.resmgr.down_nodes()))
    if args.runnodes:
        facts.append(str(env.runnode_count()))
    return facts


def _print_plugins() -> None:
    """Print a table of all plugins, each tried, so that a site sees why one is not taken."""
    from scrjob.launchers.auto import LAUNCHERS  # noqa: PLC0415 - loads every plugin
    from scrjob.nodetests.nodetests import NODE_TESTS  # noqa: PLC0415 - same
    from scrjob.remoteexec.auto import REMOTE_EXECS  # noqa: PLC0415 - same
    from scrjob.resmgrs.auto import RESOURCE_MANAGERS  # noqa: PLC0415 - same

    rows = [("KIND", "NAME", "STATUS", "FROM")]
    for registry in (RESOURCE_MANAGERS, LAUNCHERS, REMOTE_EXECS, NODE_TESTS):
        for plugin in registry.describe():
            status = "fails" if plugin.error else "ok"
            origin = plugin.error or f"{plugin.target} ({plugin.origin})"
            rows.append((registry.kind, plugin.name, status, origin))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        print("  ".join([*cells, row[3]]))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(PROG, "Print facts about this job; several are put on lines of their own.")
    add_prefix(parser)
    parser.add_argument("-u", "--user", action="store_true", help="user name in SCR's directories")
    parser.add_argument("-j", "--jobid", action="store_true", help="job id")
    parser.add_argument(
        "-e",
        "--endtime",
        action="store_true",
        help="end of the allocation: Unix seconds, 0 unknown, -1 none",
    )
    parser.add_argument("-n", "--nodes", action="store_true", help="nodes of the job")
    parser.add_argument(
        "-d", "--down", action="store_true", help="nodes that the resource manager calls bad"
    )
    parser.add_argument(
        "-r", "--runnodes", action="store_true", help="number of nodes of the last run"
    )
    parser.add_argument(
        "--plugins", action="store_true", help="print all plugins and whether they load"
    )
    return parser
