# SPDX-License-Identifier: BSD-3-Clause
"""The text of SCR's configuration files, and the expansion of values.

One assignment a line, ``KEY=VALUE``, with more assignments on the same line as children of that value::

    STORE=/ssd COUNT=2    # STORE -> /ssd -> COUNT -> 2

docs/configuration.md has the grammar. A line with a fault is reported and skipped; nothing else is lost.

Source: behaviour of the C library 3.1 with the same files; where it loops or crashes (a line without
``=``) the line is reported instead.
"""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple

MAX_TOKEN_BYTES = 1023  # of one key or value, as in the C library

_TOKEN = re.compile(r"[ \t]*(?:(=)|(#.*)|([^ \t=]+)|\Z)", re.DOTALL)
_READ_TIME = re.compile(r"\\(.)|\$([A-Za-z_]*)", re.DOTALL)
_LOOK_UP = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BYTES = re.compile(
    r"\s*([+-]?(?:0x[0-9a-f]*\.?[0-9a-f]*(?:p[+-]?\d+)?|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))"
    r"(?:([kmgtpe])b?)?",
    re.IGNORECASE | re.ASCII,
)
_POWERS = {unit: 1 << (10 * power) for power, unit in enumerate("kmgtpe", 1)}
_BYTES_LIMIT = 1 << 64


class Line(NamedTuple):
    """One good line: its number from 1, and its assignments, the first being the parent of the others."""

    number: int
    pairs: list[tuple[str, str]]


class Problem(NamedTuple):
    """One line that was skipped, and why."""

    number: int
    why: str


def parse_config(
    text: str, environ: Mapping[str, str], *, raw: bool = False
) -> tuple[list[Line], list[Problem]]:
    r"""Return the good lines and the faulty ones.

    Args:
        text: content of the file.
        environ: replaces ``$NAME`` (letters and ``_`` only, at this stage) in values.
        raw: leave values as they are, neither ``\`` nor ``$`` mean anything: app.conf is written so.
    """
    lines: list[Line] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            pairs = _pairs(line)
            if not raw:
                pairs = [(key, _processed(value, environ)) for key, value in pairs]
        except ValueError as error:
            problems.append(Problem(number, str(error)))
            continue
        if pairs:
            lines.append(Line(number, pairs))
    return lines, problems


def expand_variables(value: str, environ: Mapping[str, str]) -> str:
    """Return ``value`` with ``$NAME`` and ``${NAME}`` replaced, undefined ones by nothing.

    What is no such reference (``$``, ``$-``, an unclosed ``${``) stays as it is.
    """
    return _LOOK_UP.sub(lambda found: environ.get(found[1] or found[2], ""), value)


def _pairs(line: str) -> list[tuple[str, str]]:
    words = _words(line)
    pairs = []
    for i in range(0, len(words), 3):
        trio = words[i : i + 3]
        if len(trio) < 2 or trio[0] == "=" or trio[1] != "=":  # noqa: PLR2004 - key and sign
            raise ValueError(f"expected KEY=VALUE at {' '.join(trio)!r}")
        if len(trio) < 3 or trio[2] == "=":  # noqa: PLR2004 - key, sign and value
            raise ValueError(f"no value for {trio[0]!r}")
        pairs.append((trio[0].upper(), trio[2]))
    return pairs


def _words(line: str) -> list[str]:
    words = []
    for found in _TOKEN.finditer(line):
        word = found[1] or found[3]
        if word:
            if len(word.encode("utf-8", "surrogateescape")) > MAX_TOKEN_BYTES:
                raise ValueError(f"a word is longer than {MAX_TOKEN_BYTES} bytes")
            words.append(word)
    return words


def _processed(value: str, environ: Mapping[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[1] is not None:
            return _ESCAPES.get(found[1], found[1])
        name = found[2]
        if not name:
            raise ValueError(f"no name after '$' in {value!r} (write \\${{NAME}} for ${{NAME}})")
        if name not in environ:
            raise ValueError(f"no environment variable {name!r} for {value!r}")
        return environ[name]

    return _READ_TIME.sub(replace, value)


def _number(text: str) -> float:
    if text.isdigit():
        return int(text)  # exact beyond 2**53, where strtod is not
    return float.fromhex(text) if "x" in text.lower() else float(text)


def parse_bytes(text: str) -> int:
    """Return the bytes that a size stands for, fractions cut: ``1.5kb`` gives 1536.

    A number as C's strtod reads it, directly followed by nothing, or k m g t p e (any case, powers of
    1024) and an optional b.

    Raises:
        ValueError: anything else, negative, or 2**64 and more.
    """
    found = _BYTES.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no size: expected a number and perhaps one of k m g t p e")
    number, unit = found[1], (found[2] or "").lower()
    try:
        value = _number(number)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no size: {error}") from error
    value *= _POWERS.get(unit, 1)
    if not 0 <= value < _BYTES_LIMIT:
        raise ValueError(f"{text!r} is no size: expected 0 to 2**64-1 bytes")
    return int(value)
