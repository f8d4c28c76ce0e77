# SPDX-License-Identifier: BSD-3-Clause
"""CRC32 of file data: ISA-L's if it is installed, three times as fast, else zlib's; same numbers.

A C extension does not import from a zip, so in the zipapp of the node programs isal is taken from the
interpreter's own packages, if they have it.
"""

from __future__ import annotations

import functools
import os

try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this machine, or the interpreter of a bare node
    from zlib import crc32

__all__ = ["combine", "crc32", "rest_of"]

_POLYNOMIAL = (
    0xEDB88320  # of CRC32, its bits reversed: the highest bit of a number is the factor of x^0
)
_ONE = 1 << 31
_READ_BYTES = 4 << 20


def rest_of(fd: int) -> int:
    """Return the CRC32 of all that can still be read from a descriptor, which is left open.

    Raises:
        OSError: reading failed.
    """
    crc = 0
    buffer = memoryview(bytearray(_READ_BYTES))
    while True:
        got = os.readv(fd, [buffer])
        if got == 0:
            return crc
        crc = crc32(buffer[:got], crc)


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC32 of two pieces behind each other, from those of each.

    Args:
        first: CRC32 of the first piece.
        second: CRC32 of the second piece.
        second_length: bytes of the second piece.
    """
    power = _ONE
    exponent = 3  # the second piece moves the first by 8 bits a byte, 2^3
    while second_length:
        if second_length & 1:
            power = _multiply(_square(exponent), power)
        second_length >>= 1
        exponent += 1
    return _multiply(power, first) ^ second


@functools.cache
def _square(exponent: int) -> int:
    """Return x^(2^exponent) modulo the polynomial."""
    if exponent == 0:
        return 1 << 30
    root = _square(exponent - 1)
    return _multiply(root, root)


def _multiply(a: int, b: int) -> int:
    """Return the product of two polynomials over GF(2) modulo that of CRC32."""
    product = 0
    bit = _ONE
    while bit:
        if a & bit:
            product ^= b
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
        bit >>= 1
    return product
