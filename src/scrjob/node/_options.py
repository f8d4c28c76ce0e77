# SPDX-License-Identifier: BSD-3-Clause
"""Options as the C library's getopt_long takes them, for programs whose callers rely on that.

Long names may be shortened while unique, unknown options are complained about and skipped, words
that are no options may stand anywhere. (argparse would cost 10 ms on each node as well.)
"""

from __future__ import annotations

from typing import Callable, Iterator, Mapping, Optional, Sequence, Tuple


def scan_options(
    prog: str,
    argv: Sequence[str],
    *,
    takes_value: Mapping[str, bool],
    short: Mapping[str, str],
    complain: Callable[[str], None],
) -> Iterator[Tuple[str, str]]:
    """Yield (long name, value) for each known option in order; value "" for those without one.

    Args:
        prog: the program's name for messages.
        argv: arguments without the program.
        takes_value: long name -> whether a value follows.
        short: letter -> long name.
        complain: gets one line for each option that is unknown, ambiguous or lacks its value.
    """
    words = iter(argv)
    for word in words:
        if word == "--":
            return
        if word.startswith("--"):
            typed, equals, given = word[2:].partition("=")
            name = _full_name(prog, typed, takes_value, complain)
            if name is None:
                continue
            if not takes_value[name]:
                if equals:
                    complain(f"{prog}: option '--{name}' doesn't allow an argument")
                else:
                    yield name, ""
                continue
            value = given if equals else next(words, None)
            if value is None:
                complain(f"{prog}: option '--{name}' requires an argument")
            else:
                yield name, value
        elif word.startswith("-") and word != "-":
            yield from _cluster(
                prog, word[1:], words, takes_value=takes_value, short=short, complain=complain
            )


def _full_name(
    prog: str, typed: str, takes_value: Mapping[str, bool], complain: Callable[[str], None]
) -> Optional[str]:
    if typed in takes_value:
        return typed
    fits = [name for name in takes_value if name.startswith(typed)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        names = " ".join(f"'--{name}'" for name in fits)
        complain(f"{prog}: option '--{typed}' is ambiguous; possibilities: {names}")
    else:
        complain(f"{prog}: unrecognized option '--{typed}'")
    return None


def _cluster(
    prog: str,
    letters: str,
    words: Iterator[str],
    *,
    takes_value: Mapping[str, bool],
    short: Mapping[str, str],
    complain: Callable[[str], None],
) -> Iterator[Tuple[str, str]]:
    """Take apart ``-abc``: letters without values, the last one perhaps with the rest as its value."""
    for place, letter in enumerate(letters):
        name = short.get(letter)
        if name is None:
            complain(f"{prog}: invalid option -- '{letter}'")
        elif not takes_value[name]:
            yield name, ""
        else:
            value = letters[place + 1 :] or next(words, None)
            if value is None:
                complain(f"{prog}: option requires an argument -- '{letter}'")
            else:
                yield name, value
            return
