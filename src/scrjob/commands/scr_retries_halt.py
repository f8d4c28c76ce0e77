# SPDX-License-Identifier: BSD-3-Clause
"""``scr_retries_halt``: exit 0 if a condition in the halt file forbids another run, else 1."""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob._clock import SystemClock
from scrjob._getopt import Option, getopt_long
from scrjob.cli.scr_retries_halt import hit_lines
from scrjob.commands._scrtool import kvtree_error, scr_error
from scrjob.commands._shared import run_command
from scrjob.errors import FormatError
from scrjob.formats import halt, paths

PROG = "scr_retries_halt"
USAGE = f"\n  Usage:  {PROG} --dir <dir>\n"
OPTIONS = (Option("dir", "d", takes=True), Option("help", "h"))
HALT = 0
CONTINUE = 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 to halt, 1 to go on."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    directory = None
    for name, value in getopt_long(PROG, argv, OPTIONS):
        if name == "help":
            print(USAGE)
            return CONTINUE
        if name == "dir":
            directory = value
    if directory is None:
        scr_error(f"{PROG}: Must specify directory containing halt file via '--dir <dir>'")
        return HALT
    path = paths.halt_file(directory)
    try:
        found = halt.conditions(halt.read(path))
    except FileNotFoundError:
        print(f"{PROG}: CONTINUE RUN: No halt file found.")
        return CONTINUE
    except FormatError as error:
        kvtree_error(path, error)
        return CONTINUE
    except OSError:
        print(f"{PROG}: HALT RUN: Failed to open existing halt file.")
        return HALT
    lines = hit_lines(found, now=SystemClock().now())
    for line in lines:
        print(line)
    return HALT if lines else CONTINUE
