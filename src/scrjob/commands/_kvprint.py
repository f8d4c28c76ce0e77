# SPDX-License-Identifier: BSD-3-Clause
"""``scr_print`` and ``kvtree_print``: show a KVTree file. One program, two defaults."""

from __future__ import annotations

from typing import Iterator

from scrjob._getopt import UNKNOWN, Option, getopt_long
from scrjob.commands._scrtool import kvtree_error
from scrjob.errors import FormatError
from scrjob.formats import kvtree
from scrjob.formats.kvtree import KVTree, as_text

OPTIONS = (Option("mode", "m", takes=True), Option("help", "h"))
TREE = "tree"
KEYVAL = "keyval"

USAGE = """
Usage: {prog} [options] <file>

  Options:
    -m, --mode <mode>  Specify print format: "tree" or "keyval" (default {mode})
    -h, --help         Print usage
"""


def run(prog: str, argv: list[str], *, mode: str, is_sorted: bool) -> int:
    """Print the file; returns 0, or 1 for a wrong call or a file that cannot be read."""
    usage = USAGE.format(prog=prog, mode=mode)
    files: list[str] = []
    for name, value in getopt_long(prog, argv, OPTIONS, others=files):
        if name == UNKNOWN:
            return _refuse(f"Unknown option: `{value}'", usage)
        if name == "help":
            print(usage)
            return 0
        mode = value
    if mode not in (TREE, KEYVAL):
        return _refuse(f"Invalid mode name: `{mode}'", usage)
    if len(files) != 1:
        return _refuse("Missing file name or too many files", usage)
    try:
        tree = kvtree.read(files[0])
    except FormatError as error:
        kvtree_error(files[0], error)
    except OSError:
        pass
    else:
        if is_sorted:
            tree.sort_all()
        for line in lines(tree, keyval=mode == KEYVAL):
            print(line)
        return 0
    print(f"ERROR: Failed to read file: `{files[0]}'")
    return 1


def _refuse(why: str, usage: str) -> int:
    print(f"ERROR: {why}")
    print(usage)
    return 1


def lines(tree: KVTree, *, keyval: bool, indent: str = "  ") -> Iterator[str]:
    """Yield the lines that show a tree; the reader has bounded its depth."""
    for key, below in tree.items():
        text = as_text(key)
        value = tree.value(key)
        if keyval and value is not None and not below.child(value):
            yield f"{indent}{text} = {as_text(value)}"
        else:
            yield f"{indent}{text}"
            yield from lines(below, keyval=keyval, indent=indent + "  ")
