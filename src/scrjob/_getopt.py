# SPDX-License-Identifier: BSD-3-Clause
"""Options as the C library's getopt_long takes them, for programs whose callers rely on that.

Long names may be shortened while unique, words that are no options may stand anywhere, an unknown
option is complained about on stderr and left to the caller. (argparse would cost 10 ms as well.)

Source: glibc's getopt_long for the rules and the complaints.
"""

from __future__ import annotations

import sys
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

UNKNOWN = "?"


class Option(NamedTuple):
    """An option of a program.

    ``long``: its long name; ``short``: its letter, "" for none; ``takes``: it has a value; ``whole``: it
    must be written in full. The last is for options that SCR's program does not have: they must not
    make an abbreviation of one that it has ambiguous.
    """

    long: str
    short: str = ""
    takes: bool = False
    whole: bool = False


def getopt_long(
    prog: str,
    argv: Sequence[str],
    options: Sequence[Option],
    others: Optional[list[str]] = None,
) -> Iterator[Tuple[str, str]]:
    """Yield (long name, value) per option, (``UNKNOWN``, word) for one that is wrong.

    Long names may be abbreviated and have ``=value``, letters may be joined; other words are put into
    ``others`` wherever they stand; ``--`` ends the options. Complaints go to stderr.
    """
    words = list(argv)
    others = [] if others is None else others
    while words:
        word = words.pop(0)
        if word == "--":
            others.extend(words)
            return
        if word.startswith("--"):
            yield _long(prog, word, words, options)
        elif word.startswith("-") and word != "-":
            yield from _letters(prog, word, words, options)
        else:
            others.append(word)


def _long(prog: str, word: str, words: list[str], options: Sequence[Option]) -> Tuple[str, str]:
    name, sign, value = word[2:].partition("=")
    found = [option for option in options if option.long == name]
    found = found or [
        option for option in options if option.long.startswith(name) and not option.whole
    ]
    if not found:
        return _wrong(prog, word, f"unrecognized option '--{name}'")
    if len(found) > 1:
        names = " ".join(f"'--{option.long}'" for option in found)
        return _wrong(prog, word, f"option '{word}' is ambiguous; possibilities: {names}")
    option = found[0]
    if not option.takes:
        if sign:
            return _wrong(prog, word, f"option '--{option.long}' doesn't allow an argument")
        return option.long, ""
    if not sign:
        if not words:
            return _wrong(prog, word, f"option '--{option.long}' requires an argument")
        value = words.pop(0)
    return option.long, value


def _letters(
    prog: str, word: str, words: list[str], options: Sequence[Option]
) -> Iterator[Tuple[str, str]]:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = next((option for option in options if option.short == letter), None)
        if option is None:
            yield _wrong(prog, word, f"invalid option -- '{letter}'")
        elif not option.takes:
            yield option.long, ""
        elif letters or words:
            yield option.long, letters or words.pop(0)
            return
        else:
            yield _wrong(prog, word, f"option requires an argument -- '{letter}'")


def _wrong(prog: str, word: str, complaint: str) -> Tuple[str, str]:
    sys.stderr.write(f"{prog}: {complaint}\n")
    return UNKNOWN, word
