# SPDX-License-Identifier: BSD-3-Clause
"""``scr_list_dir``: where a job's control and cache directories are on its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.commands._shared import EXIT_FAILURE, add_prefix, make_parser, run_command
from scrjob.jobenv import JobEnv

if TYPE_CHECKING:
    import argparse

PROG = "scr_list_dir"
KINDS = ("control", "cache")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the directories, one a line; returns 0, 1 unless one of control and cache is named."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    if args.kind not in KINDS:
        print(f"One of [{', '.join(KINDS)}] must be specified.")
        return EXIT_FAILURE
    env = JobEnv(prefix=args.prefix)
    directories = env.dir_control(args.base) if args.kind == "control" else env.dir_cache(args.base)
    for directory in directories:
        print(directory)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(PROG, "Print the directories of this job on a node.")
    parser.add_argument("kind", nargs="?", metavar="control|cache", help="which directories")
    parser.add_argument("-b", "--base", action="store_true", help="without user and job id")
    add_prefix(parser)
    return parser
