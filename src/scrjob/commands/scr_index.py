# SPDX-License-Identifier: BSD-3-Clause
"""``scr_index``: list and change the index of datasets in a prefix directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob._getopt import UNKNOWN, Option, getopt_long
from scrjob.cli.scr_index import Native
from scrjob.commands._scrtool import kvtree_error, scr_error
from scrjob.commands._shared import printable, run_command
from scrjob.errors import DatasetError, FormatError, ScrError, UnsupportedVersionError
from scrjob.formats import index, paths
from scrjob.formats._numbers import atoi

if TYPE_CHECKING:
    from scrjob.formats.index import Index, IndexEntry

PROG = "scr_index"
OPTIONS = (
    Option("list", "l"),
    Option("build", "b", takes=True),
    Option("add", "a", takes=True),
    Option("drop", "d", takes=True),
    Option("drop-after", takes=True),
    Option("current", "c", takes=True),
    Option("prefix", "p", takes=True),
    Option("json"),
    Option("force"),
    Option("verify"),
    Option("relocate", takes=True),
    Option("help", "h"),
)
NAMED = ("add", "drop", "drop-after", "current")
ACTIONS = ("build", "add", "drop", "drop-after", "current")  # the first that is given is done

USAGE = f"""
  Usage: {PROG} [options]

  Options:
    -l, --list              List indexed datasets (default behavior)
        --json              List all datasets, output included, as JSON
    -b, --build=<id>        Rebuild dataset <id> and add to index
        --force             Build: check all files although a summary says complete
        --verify            Build: read all files, check checksums and redundancy, repair
        --relocate=OLD=NEW  Build: recorded paths below OLD are really below NEW; may be repeated
    -a, --add=<name>        Add dataset <name> to index (requires summary file to exist)
        --drop=<name>       Drop dataset <name> from index (does not delete files); may be repeated
        --drop-after=<name> Drop all datasets after <name> from index (does not delete files)
    -c, --current=<name>    Set <name> as current restart dataset
    -p, --prefix=<dir>      Specify prefix directory (defaults to current working directory)
    -h, --help              Print usage
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 if it was done, for a build only if the dataset is complete, else 1."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    given: dict[str, str] = {}
    drops: list[str] = []
    moves: list[str] = []
    name = ""  # SCR's tool has one place for it: the last one given counts for all actions
    for option, value in getopt_long(PROG, argv, OPTIONS):
        if option in (UNKNOWN, "help"):
            print(USAGE)
            return 1
        given[option] = value
        if option in NAMED:
            name = value
        if option == "drop":
            drops.append(value)
        if option == "relocate":
            moves.append(value)
    # SCR's tool refuses "." and breaks the rank map with any other relative prefix.
    native = Native(paths.reduce_path(os.path.abspath(given.get("prefix", ""))))
    action = next((action for action in ACTIONS if action in given), "list")
    if action == "drop" and len(drops) == 1:
        drops = [name]
    try:
        if action == "build":
            number = atoi(given["build"].encode("utf-8", "surrogateescape"))
            if number <= 0:
                scr_error(f"Invalid dataset id: --build {given['build']!r}")
                return 1
            done = native.build(
                number,
                lambda line: print(printable(line)),
                relocations=moves,
                force="force" in given,
                verify="verify" in given or None,
            )
            return 0 if done else 1
        if action == "add":
            native.add(name, print)
            return 0
        if action == "list":
            return _list(native, as_json="json" in given)
        return _change(native, action, name, drops)
    except FormatError as error:
        _unreadable(native, error)
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.filename != native.path:
            raise
        scr_error(f"Failed to read index file in {native.prefix}")
    except ScrError as error:
        scr_error(str(error))
    return 1


def _change(native: Native, action: str, name: str, drops: list[str]) -> int:
    if action == "current":
        try:
            native.set_current(name)
        except DatasetError:
            scr_error(f"Named dataset is not a checkpoint in index file: {name}")
            return 1
        return 0
    unknown = native.drop(drops) if action == "drop" else native.drop_after(name)
    for one in unknown:
        scr_error(f"Named dataset was not found in index file: {one}")
    return int(bool(unknown))


def _unreadable(native: Native, error: FormatError) -> None:
    path = error.path or native.path
    if isinstance(error, UnsupportedVersionError) and error.offset is None:
        scr_error(f"{str(error)[len(path) + 2 :]} in index file: {path}")
    else:
        kvtree_error(path, error)
    scr_error(f"Failed to read index file in {native.prefix}")


def _list(native: Native, *, as_json: bool) -> int:
    import gc  # noqa: PLC0415 - for this only

    found = native.read(to_change=False)
    gc.freeze()  # or the collector looks at ten thousand datasets again and again, for nothing
    if as_json:
        print(_json(native.prefix, found))
    else:
        print(index.table_text(found))
    return 0


def _json(prefix: str, found: Index) -> str:
    """Return the whole index; times are local, as recorded, ``created`` is Unix seconds."""
    import json  # noqa: PLC0415 - for this only

    current = found.current()
    rows = (json.dumps(_row(entry, current)) for entry in found.entries())
    # One line for each dataset: a program wants the text quickly, a reader wants to see something.
    lines = ",\n".join(rows)
    datasets = f"[\n{lines}\n]" if lines else "[]"
    return (
        f'{{"prefix": {json.dumps(prefix)},\n"current": {json.dumps(current)},\n'
        f'"datasets": {datasets}}}'
    )


def _row(entry: IndexEntry, current: Optional[str]) -> dict[str, object]:
    details = entry.descriptor
    created = details.created_us
    return {
        "id": entry.id,
        "name": details.name,
        "valid": entry.is_valid,
        "complete": entry.complete,
        "checkpoint": details.is_ckpt,
        "output": details.is_output,
        "current": details.name is not None and details.name == current,
        "flushed": entry.flushed,
        "failed": entry.failed,
        "fetched": list(entry.fetched),
        "created": None if created is None else created / 1e6,
        "files": details.files,
        "bytes": details.size_bytes,
        "user": details.user,
        "jobid": details.job_id,
    }
