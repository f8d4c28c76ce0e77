# SPDX-License-Identifier: BSD-3-Clause
"""``scr_halt``: ask a running simulation to stop, at once, soon, or at a time; take that back; show it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.commands._shared import (
    EXIT_FAILURE,
    add_verbose,
    complain,
    make_parser,
    one_line,
    run_command,
)
from scrjob.errors import ConfigError, ScrError, UsageError

if TYPE_CHECKING:
    import argparse

    from scrjob.cli import SCRHaltFile

PROG = "scr_halt"
_UNSETTABLE = ("checkpoints", "before", "after", "seconds", "reason")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Change and print the halt settings of each directory; returns 0, 1 if one could not be changed."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    times = {name: _unix_seconds(getattr(args, name)) for name in ("before", "after")}
    for name in ("checkpoints", "seconds"):
        if (getattr(args, name) or 0) < 0:
            raise UsageError(f"--{name} {getattr(args, name)}: expected 0 or more")
    code = 0
    for directory in args.directories or ["."]:
        try:
            _change(os.path.abspath(directory), args, times)
        except (ScrError, OSError) as error:  # the other directories still get their turn
            complain(PROG, f"{directory}: {one_line(error)}")
            code = EXIT_FAILURE
    return code


def _change(prefix: str, args: argparse.Namespace, times: dict[str, Optional[int]]) -> None:
    from scrjob.cli import SCRHaltFile  # noqa: PLC0415 - not for --help

    if not args.list and not args.remove and not os.path.isdir(os.path.join(prefix, ".scr")):
        raise ConfigError(
            "no .scr directory: no job has run here; name the prefix directory of one"
        )
    halt = SCRHaltFile(prefix, verbose=args.verbose)
    if args.list:
        halt.set_list()
    else:
        if args.remove:
            halt.remove()
        collected = _collect(halt, args, times)
        if args.remove and not collected:
            return
    text = halt.execute()
    print(text, end="" if text.endswith("\n") else "\n")
    if args.immediate and not args.list:
        from scrjob.commands._stop_now import stop_now  # noqa: PLC0415 - rarely asked for

        print(stop_now(prefix))


def _collect(halt: SCRHaltFile, args: argparse.Namespace, times: dict[str, Optional[int]]) -> bool:
    """Hand all conditions to ``halt``; False if there are none, which means: halt when possible."""
    collected = False
    for name, value in (
        ("checkpoints", args.checkpoints),
        ("before", times["before"]),
        ("after", times["after"]),
        ("seconds", args.seconds),
    ):
        if value is not None:  # 0 is a condition
            getattr(halt, f"set_{name}")(value)
            collected = True
    for name in _UNSETTABLE:
        if getattr(args, f"unset_{name}"):
            getattr(halt, f"unset_{name}")()
            collected = True
    if args.immediate:
        halt.set_halted()
        collected = True
    return collected


def _unix_seconds(text: Optional[str]) -> Optional[int]:
    if text is None:
        return None
    from scrjob.parsetime import parsetime  # noqa: PLC0415 - only if a time is given

    try:
        return parsetime(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        PROG,
        "Ask the simulations in the given prefix directories to stop. Without a condition: at the next "
        "opportunity. Prints the settings.",
    )
    parser.add_argument(
        "directories",
        nargs="*",
        metavar="DIR",
        help="prefix directories (default: the current one)",
    )
    parser.add_argument(
        "-c", "--checkpoints", type=int, metavar="N", help="stop after N more checkpoints"
    )
    parser.add_argument("-b", "--before", metavar="TIME", help="stop so as to be gone before TIME")
    parser.add_argument(
        "-a", "--after", metavar="TIME", help="stop at the first opportunity after TIME"
    )
    parser.add_argument(
        "-s", "--seconds", type=int, metavar="N", help="stop N seconds before --before or the end"
    )
    parser.add_argument(
        "-i",
        "--immediate",
        action="store_true",
        help="stop now: the supervisor ends the running step",
    )
    parser.add_argument("-l", "--list", action="store_true", help="only print the settings")
    parser.add_argument("-r", "--remove", action="store_true", help="remove all settings")
    for name in _UNSETTABLE:
        parser.add_argument(
            f"--unset-{name}", action="store_true", help=f"forget the {name} setting"
        )
    add_verbose(parser)
    parser.epilog = (
        "TIME: YYYY-MM-DDTHH:MM:SS in the local zone, HH:MM, 3pm, 12/11, '3pm 12/11', +H:MM, now."
    )
    return parser
