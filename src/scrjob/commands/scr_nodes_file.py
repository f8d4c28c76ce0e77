# SPDX-License-Identifier: BSD-3-Clause
"""``scr_nodes_file``: print how many nodes the last run used."""

from __future__ import annotations

from typing import Optional, Sequence

from scrjob._getopt import Option, getopt_long
from scrjob.commands._scrtool import read_tree, scr_error
from scrjob.commands._shared import run_command
from scrjob.formats import paths

PROG = "scr_nodes_file"
USAGE = f"\n  Usage:  {PROG} --dir <dir>\n"
OPTIONS = (Option("dir", "d", takes=True), Option("help", "h"))


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 if a number was printed that the file holds, else 1."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    directory = None
    for name, value in getopt_long(PROG, argv, OPTIONS):
        if name == "help":
            print(USAGE)
            return 1
        if name == "dir":
            directory = value
    if directory is None:
        scr_error(f"{PROG}: Must specify directory containing nodes file via '--dir <dir>'")
        return 1
    tree = read_tree(paths.nodes_file(directory))
    if tree is None:
        return 1
    count = tree.text("NODES")
    print("0" if count is None else count)
    return int(count is None)
