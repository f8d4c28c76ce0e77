# SPDX-License-Identifier: BSD-3-Clause
"""What the stand-ins for SCR's small executables share: option parsing and messages as C has them.

SCR's tools print errors on stdout, getopt's complaints on stderr. The `` @ file:line`` tail of SCR's
messages names places in its sources and is left out.

Source: docs/howto/scr-tools.md; glibc's getopt_long for the rules of options.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

from scrjob._clock import SystemClock
from scrjob._fsio import read_bounded
from scrjob.errors import ChecksumError, FormatError, UnsupportedVersionError
from scrjob.formats import kvtree

UNKNOWN = "?"
_LENGTH = struct.Struct(">Q")
_LENGTH_OFFSET = 8


class Option(NamedTuple):
    """An option: its long name, its letter ("" for none), and whether it takes a value."""

    long: str
    short: str = ""
    takes: bool = False


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
    found = found or [option for option in options if option.long.startswith(name)]
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
    print(f"{prog}: {complaint}", file=sys.stderr)
    return UNKNOWN, word


def scr_error(text: str) -> None:
    """Print an error as SCR's tools do: on stdout, with their version and this host's name."""
    print(f"SCR v3.1.0 ERROR: {_host()}: {text}")


def kvtree_error(path: str, error: FormatError) -> None:
    """Print what KVTree prints when it cannot use a file."""
    print(f"KVTree 1.5.0 ERROR: {_host()}: {_complaint(path, error)}")


def _host() -> str:
    return os.uname().nodename  # as gethostname(), without importing socket


def _complaint(path: str, error: FormatError) -> str:
    if isinstance(error, ChecksumError):
        return f"CRC32 mismatch detected in {path}"
    if isinstance(error, UnsupportedVersionError):
        return f"File header does not match expected values in {path}"
    try:
        data = read_bounded(path)
    except (FormatError, OSError):
        return str(error)
    header = kvtree.HEADER.size
    if len(data) < header:
        return f"Invalid header: read {len(data)} bytes but expected {header} in {path}"
    (size,) = _LENGTH.unpack_from(data, _LENGTH_OFFSET)
    if size < header:
        return f"Invalid file size stored in {path}"
    if size > len(data):
        read, expected = len(data) - header, size - header
        return f"Failed to read file {path} (read {read} bytes but expected {expected}: filesize {size})"
    return str(error)


def read_tree(path: str) -> Optional[kvtree.KVTree]:
    """Return the tree in a file; None if it is absent (silently) or damaged (with KVTree's line)."""
    try:
        return kvtree.read_settled(path, SystemClock())
    except FormatError as error:
        kvtree_error(path, error)
    except OSError:
        pass  # KVTree says nothing of a file that it cannot open; each tool does
    return None
