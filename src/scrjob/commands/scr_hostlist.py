# SPDX-License-Identifier: BSD-3-Clause
"""``scr_hostlist``: fold, expand, count, cut and combine lists of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob import hostlist
from scrjob.commands._shared import make_parser, run_command

if TYPE_CHECKING:
    import argparse

PROG = "scr_hostlist"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the resulting list; returns 0, or 1 for a list that cannot be read."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    hosts = _combine(args)
    if args.nth is not None:
        # 1 is the first, -1 the last; 0 is neither.
        at = args.nth - 1 if args.nth > 0 else args.nth
        hosts = [hosts[at]] if args.nth and -len(hosts) <= at < len(hosts) else []
    if args.size is not None:
        hosts = hosts[: args.size] if args.size >= 0 else hosts[args.size :]
    if args.count:
        print(len(hosts))
    elif args.expand:
        print(args.delimiter.join(hosts))
    else:
        print(hostlist.compress_hosts(hostlist.sort_hosts(hosts)))
    return 0


def _combine(args: argparse.Namespace) -> list[str]:
    """Return the nodes of all lists without duplicates, in the order of the arguments."""
    hosts = hostlist.expand_hosts(args.hosts[0] if args.hosts else "")
    for other in args.hosts[1:]:
        if args.minus:
            hosts = hostlist.diff_hosts(hosts, other)
        elif args.intersection:
            hosts = hostlist.intersect_hosts(hosts, other)
        else:
            hosts = hosts + hostlist.expand_hosts(other)
    return list(dict.fromkeys(hosts))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        PROG,
        "Print one list made of all HOSTS: folded and sorted, or with -e name by name in the order given.",
    )
    parser.add_argument(
        "hosts", nargs="*", metavar="HOSTS", help="names, folded or not: node[1-3,7]"
    )
    parser.add_argument("-e", "--expand", action="store_true", help="print single names")
    parser.add_argument("-d", "--delimiter", default=",", metavar="C", help="put C between them")
    parser.add_argument("-c", "--count", action="store_true", help="print how many there are")
    parser.add_argument(
        "-n", "--nth", type=int, metavar="N", help="only the Nth node, from the end if negative"
    )
    parser.add_argument(
        "-s", "--size", type=int, metavar="N", help="only the first N nodes, the last if negative"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-m", "--minus", action="store_true", help="first list without the others")
    how.add_argument("-i", "--intersection", action="store_true", help="nodes in all lists")
    return parser
