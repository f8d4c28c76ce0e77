# SPDX-License-Identifier: BSD-3-Clause
"""How C reads numbers from text: never an error, always some value.

SCR stores every scalar as text and reads it back with these functions of the C library; a file that
makes SCR see 0 must make us see 0.

Source: C17 section 7.22.1 (atoi, strtod, strtol, strtoul); 64-bit long, 32-bit int.
"""

from __future__ import annotations

import re

_INT_BITS = 32
_LONG_BITS = 64
_SURELY_INT = 10  # fewer digits always fit 32 bits
_SURELY_LONG = 19  # and fewer than this 64
_NOUGHT = ord("0")
PLAIN_INT = rb"[0-9]{1,9}"
PLAIN_LONG = rb"(?!0[0-9])[0-9]{1,18}"
"""Patterns of what ``atoi``, and ``strtoul``, read as ``int`` does."""

_BLANKS = rb"[ \t\n\v\f\r]*"
_ATOI = re.compile(_BLANKS + rb"([+-]?[0-9]+)")
_BASE0 = re.compile(
    _BLANKS + rb"([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))",
)
_REAL = re.compile(
    _BLANKS + rb"([+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan))",
    re.IGNORECASE,
)


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _clamp(value: int) -> int:
    return max(-(1 << (_LONG_BITS - 1)), min(value, (1 << (_LONG_BITS - 1)) - 1))


def atoi(text: bytes) -> int:
    """Return a 32-bit int: leading blanks and a sign are taken, larger numbers wrap, no number is 0."""
    if text.isdigit() and len(text) < _SURELY_INT:
        return int(text)
    match = _ATOI.match(text)
    if match is None:
        return 0
    # glibc's atoi is (int) strtol(): first the limits of long, then the low 32 bits.
    return _signed(_clamp(_decimal(match[1])), _INT_BITS)


def _decimal(digits: bytes) -> int:
    # int() refuses thousands of digits on new Pythons; beyond 64 bits only the sign matters here.
    sign = -1 if digits[:1] == b"-" else 1
    digits = digits.lstrip(b"+-").lstrip(b"0")
    return sign * (int(digits or b"0") if len(digits) <= _LONG_BITS else 1 << _LONG_BITS)


def _base0(text: bytes) -> int:
    match = _BASE0.match(text)
    if match is None:
        return 0
    sign, hexadecimal, octal, decimal = match.groups()
    if hexadecimal:
        value = int(hexadecimal, 16)
    elif octal:
        value = int(octal, 8)
    else:
        value = _decimal(decimal)
    return -value if sign == b"-" else value


def _is_plain(text: bytes) -> bool:
    """Tell whether a number, as nearly all are, is decimal without a doubt and fits."""
    return text.isdigit() and len(text) < _SURELY_LONG and (text[0] != _NOUGHT or len(text) == 1)


def strtoul(text: bytes) -> int:
    """Return an unsigned 64-bit number; ``0x`` means hexadecimal, a leading 0 octal; too large: the limit."""
    if _is_plain(text):
        return int(text)
    value = _base0(text)
    top = (1 << _LONG_BITS) - 1
    return top if abs(value) > top else value & top


def strtoll(text: bytes) -> int:
    """Return a signed 64-bit number; ``0x`` means hexadecimal, a leading 0 octal; too large: the limit."""
    return int(text) if _is_plain(text) else _clamp(_base0(text))


def strtod(text: bytes) -> float:
    """Return a double; no number is 0."""
    match = _REAL.match(text)
    return float(match[1]) if match else 0.0
