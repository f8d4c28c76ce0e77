# SPDX-License-Identifier: BSD-3-Clause
"""``scr_flush_file``: which datasets of the running job exist, and where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob._getopt import UNKNOWN, Option, getopt_long
from scrjob.cli.scr_flush_file import finish_transfer
from scrjob.commands._scrtool import read_tree, scr_error
from scrjob.commands._shared import run_command
from scrjob.errors import DatasetError
from scrjob.formats import flush, paths
from scrjob.formats._numbers import atoi

if TYPE_CHECKING:
    from scrjob.formats.kvtree import KVTree

PROG = "scr_flush_file"
OPTIONS = (
    Option("dir", "d", takes=True),
    Option("list-output", "o"),
    Option("list-ckpt"),
    Option("before", takes=True),
    Option("need-flush", "n", takes=True),
    Option("location", "L", takes=True),
    Option("name", "s", takes=True),
    Option("latest", "l"),
    Option("resume", "r"),
    Option("summary", "S"),
    Option("help", "h"),
)
NO_OPERATION = ("dir", "before")
MAX_OPERATIONS = 2

USAGE = f"""
  Usage:  {PROG} --dir <dir> OPTIONS

  OPTIONS:

  --dir <dir>        Specify prefix directory (required)
  --list-output      Return list of output dataset ids in ascending order
  --list-ckpt        Return list of checkpoint dataset ids in descending order
  --before <id>      Filter list of ids to those before given id
  --need-flush <id>  Exit with 0 if checkpoint needs to be flushed, 1 otherwise
  --location <id>    Print location of specified id
  --name <id>        Print name of specified id
  --resume -r        Resume/finalize a previous or ongoing transfer
  --summary -S       Manually mark a transfer as complete and generate summary.scr
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 for an answer, 1 for none or "no"."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    given: dict[str, str] = {}
    operations = 0
    for name, value in getopt_long(PROG, argv, OPTIONS):
        if name == "help":
            print(USAGE)
            return 1
        if name != UNKNOWN:
            given[name] = value
            operations += name not in NO_OPERATION
    if "dir" not in given:
        scr_error(f"{PROG}: Must specify directory containing flush file via '--dir <dir>'")
        return 1
    if operations > MAX_OPERATIONS:
        scr_error(
            f"{PROG}: Must specify only a single operation per invocation,"
            " e.g. not both --location and --needflush'"
        )
        return 1
    prefix = paths.reduce_path(given["dir"])
    tree = read_tree(paths.flush_file(prefix))
    if tree is None:
        scr_error(f"{PROG}: Failed to read flush file '{paths.flush_file(prefix)}'")
        return 1
    return _answer(given, prefix, tree)


def _answer(given: dict[str, str], prefix: str, tree: KVTree) -> int:
    before = _id(given.get("before", "0"))
    if "list-output" in given:
        return _print(" ".join(map(str, flush.list_output(tree, before))) or None)
    if "list-ckpt" in given:
        return _print(" ".join(map(str, flush.list_ckpt(tree, before))) or None)
    if "need-flush" in given:
        return 0 if flush.need_flush(tree, _id(given["need-flush"])) else 1
    if "location" in given:
        return _print(flush.location(tree, _id(given["location"])))
    if "resume" in given or "summary" in given:
        return _finish(given, prefix, tree)
    if "name" in given:
        return _print(_name(given, tree))
    if "latest" in given:
        latest = flush.latest(tree)
        return _print(None if latest is None else str(latest))
    return 1


def _finish(given: dict[str, str], prefix: str, tree: KVTree) -> int:
    """End a transfer; the id is given by ``--name``."""
    resume = "resume" in given
    if "name" not in given:
        scr_error(f"-{'r' if resume else 'S'} requires you to specify dataset ID with '-s <id>'.")
        return 1
    if resume:
        scr_error(f"{PROG}: Resuming a transfer needs SCR's own {PROG}, which has AXL")
        return 1
    name = _name(given, tree)
    try:
        finish_transfer(prefix, tree, _id(given["name"]))
    except DatasetError as error:
        scr_error(f"{PROG}: {error}")
    except OSError as error:
        scr_error(f"{PROG}: {error.filename}: {error.strerror}")
    else:
        return _print(name)
    scr_error(f"{PROG}: Couldn't write summary file, rc = 1")
    return 1


def _name(given: dict[str, str], tree: KVTree) -> Optional[str]:
    entry = flush.entry(tree, _id(given["name"]))
    return None if entry is None else entry.name


def _id(text: str) -> int:
    return atoi(text.encode("utf-8", "surrogateescape"))


def _print(answer: Optional[str]) -> int:
    if answer is None:
        return 1
    print(answer)
    return 0
