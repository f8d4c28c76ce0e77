# SPDX-License-Identifier: BSD-3-Clause
"""``scr_halt_cntl``: set, unset and list the conditions in a halt file."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence, Union

from scrjob.cli.scr_halt_cntl import listing
from scrjob.commands._scrtool import kvtree_error, scr_error
from scrjob.commands._shared import run_command
from scrjob.errors import FormatError
from scrjob.formats import halt
from scrjob.formats._numbers import atoi

PROG = "scr_halt_cntl"
KEYS = {
    "c": halt.CHECKPOINTS,
    "b": halt.BEFORE,
    "a": halt.AFTER,
    "s": halt.SECONDS,
    "r": halt.REASON,
}

Change = Dict[str, Union[int, str, None]]


class _Request(NamedTuple):
    path: Optional[str]
    only_list: bool
    change: Change


class _BadCallError(Exception):
    """The arguments are wrong; the text is for the user."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Return 0 if the file could be used, else 1."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    try:
        path, only_list, change = _parse(argv)
    except _BadCallError as error:
        scr_error(str(error))
        return 1
    if path is None:
        scr_error("Must specify full path to haltfile via '-f <haltfile>'")
        return 1
    if only_list:
        return _list(path)
    return _change(path, change)


def _list(path: str) -> int:
    try:
        print(listing(path), end="")
    except FormatError as error:
        kvtree_error(path, error)
        print(halt.settings_text(path, halt.Conditions()))
    except OSError as error:
        return _unusable(path, error)
    return 0


def _change(path: str, change: Change) -> int:
    said = halt.changes_text(change)
    if said:
        print(said)
    print()
    try:
        tree = halt.update(
            path,
            lambda found: halt.apply(found, change),
            on_damage=lambda error: kvtree_error(path, error),
        )
    except OSError as error:
        return _unusable(path, error)
    print(halt.settings_text(path, halt.conditions(tree)))
    return 0


def _unusable(path: str, error: OSError) -> int:
    scr_error(f"Opening file for lock: {path}: {error.strerror}")
    print(halt.settings_text(path, halt.Conditions()))
    return 1


def _parse(argv: Sequence[str]) -> _Request:
    """Read SCR's own kind of options: one letter, its value attached or the next word."""
    words = list(argv)
    path: Optional[str] = None
    only_list = False
    given: Change = {}
    dropped = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise _BadCallError(f"Unknown argument {word}")
        letter, rest = word[1:2], word[2:]
        if letter == "l":
            only_list = True
        elif letter == "x":
            if rest[:1] == "f":
                path = ""
            elif rest[:1] in KEYS:
                dropped.append(KEYS[rest[0]])
            elif rest:
                raise _BadCallError(f"Invalid flag -{rest[0]}")
        elif letter == "f" or letter in KEYS:
            if not rest and not words:
                raise _BadCallError(f"Missing value after flag -{letter}")
            value = rest or words.pop(0)
            if letter == "f":
                path = value
            else:
                given[KEYS[letter]] = value if letter == "r" else _integer(value)
        elif letter:
            raise _BadCallError(f"Invalid flag -{letter}")
    return _Request(path, only_list, {**dict.fromkeys(dropped), **given})


def _integer(text: str) -> int:
    return atoi(text.encode("utf-8", "surrogateescape"))
