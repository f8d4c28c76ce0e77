# SPDX-License-Identifier: BSD-3-Clause
"""What combines blocks of bytes: NumPy, and ISA-L for products where it is installed.

Importing this imports NumPy. An object here belongs to one thread; its results are valid until its next
call.

Source: docs/formats/redundancy.md, "Reed-Solomon".
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Callable, Protocol, Sequence

import numpy as np

from scrjob.redundancy import isal
from scrjob.redundancy.gf256 import ELEMENTS, POLYNOMIAL, multiply_add, product_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scrjob.redundancy.combine import Span

BITS = 8
LOOKED_UP = 2  # products in a sum, for which tables are faster
LOW = int(sys.byteorder == "big")  # which byte of a pair is the lower half of the number
_CARRY = np.uint8(POLYNOMIAL & 0xFF)


class Multiplier(Protocol):
    """Makes sums of products."""

    def prepare(self, factors: Sequence[Sequence[int]]) -> None:
        """Take the factors of the sources, a row for each sum."""
        ...

    def combine(self, sources: Sequence[Span], offset: int, length: int) -> list[memoryview]:
        """Return the sums over ``length`` bytes at ``offset`` of the sources."""
        ...


class Adder:
    """Adds blocks: exclusive or."""

    def __init__(self, block_bytes: int) -> None:
        self._sum = np.empty(block_bytes, dtype=np.uint8)
        self._term = np.empty(block_bytes, dtype=np.uint8)
        self._sum_view = memoryview(self._sum)
        self._term_view = memoryview(self._term)

    def combine(self, sources: Sequence[Span], offset: int, length: int) -> list[memoryview]:
        """Return the sum over ``length`` bytes at ``offset`` of the sources; of none it is zero."""
        result = self._sum_view[:length]
        if not sources:
            self._sum[:length] = 0
            return [result]
        first, *others = sources
        first.source.readinto(first.offset + offset, result)
        if others:
            total, term, view = self._sum[:length], self._term[:length], self._term_view[:length]
            for source, start in others:
                source.readinto(start + offset, view)
                np.bitwise_xor(total, term, out=total)
        return [result]


class NumpyMultiplier:
    """Sums of products with nothing but NumPy, in one of two ways.

    A product is the sum of the doubled, redoubled ... block for the bits of its factor. So blocks are
    first added up by bit, for all sources, and each sum of bits is then doubled once per bit: 7
    doublings of four passes for a sum, however many sources there are. For few products looking each pair
    of bytes up in a table is faster, at the cost of some 14 passes for each.
    """

    def __init__(self, targets: int, block_bytes: int) -> None:
        even = block_bytes + block_bytes % 2
        self._term = np.zeros(even, dtype=np.uint8)
        self._term_view = memoryview(self._term)
        self._spare = np.zeros(even, dtype=np.uint8)
        self._sums = np.empty((targets, BITS, even), dtype=np.uint8)
        self._factors: Sequence[Sequence[int]] = ()
        self._looked_up: list[bool] = []

    def prepare(self, factors: Sequence[Sequence[int]]) -> None:
        """Take the factors of the sources, a row for each sum."""
        self._factors = factors
        self._looked_up = [sum(factor > 1 for factor in row) <= LOOKED_UP for row in factors]

    def combine(self, sources: Sequence[Span], offset: int, length: int) -> list[memoryview]:
        """Return the sums over ``length`` bytes at ``offset`` of the sources."""
        view = self._term_view[:length]
        used = [0] * len(self._factors)
        for number, (source, start) in enumerate(sources):
            source.readinto(start + offset, view)
            for row, factors in enumerate(self._factors):
                factor = factors[number]
                if self._looked_up[row] and factor > 1:
                    self._look_up(factor, length)
                    used[row] = self._add(self._spare, row, 1, used[row], length)
                else:
                    used[row] = self._add(self._term, row, factor, used[row], length)
        return [
            memoryview(self._join(self._sums[row, :, :length], bits))
            for row, bits in enumerate(used)
        ]

    def _look_up(self, factor: int, length: int) -> None:
        """Put the product of the block that was read into the spare one."""
        pairs = (length + 1) // 2
        np.take(
            pair_table(factor),
            self._term.view(np.uint16)[:pairs],
            out=self._spare.view(np.uint16)[:pairs],
            mode="clip",  # else NumPy makes a copy first
        )

    def _add(self, block: NDArray[np.uint8], row: int, bits: int, used: int, length: int) -> int:
        """Add a block to the sums of these bits; returns which bits have a sum now."""
        for bit in range(BITS):
            if bits >> bit & 1:
                total = self._sums[row, bit, :length]
                if used >> bit & 1:
                    np.bitwise_xor(total, block[:length], out=total)
                else:
                    total[:] = block[:length]
        return used | bits

    def _join(self, sums: NDArray[np.uint8], used: int) -> NDArray[np.uint8]:
        """Return the sum of the rows, each times two to the power of its number."""
        highest = used.bit_length() - 1
        if highest < 0:
            sums[0] = 0
            return sums[0]
        total = sums[highest]
        for bit in reversed(range(highest)):
            double(total, self._spare[: len(total)])
            if used >> bit & 1:
                np.bitwise_xor(total, sums[bit], out=total)
        return total


def double(block: NDArray[np.uint8], spare: NDArray[np.uint8]) -> None:
    """Multiply a block by 2 in place; ``spare`` is as large, and changed."""
    np.less(block.view(np.int8), 0, out=spare.view(np.bool_))
    np.multiply(spare, _CARRY, out=spare)
    np.add(block, block, out=block)
    np.bitwise_xor(block, spare, out=block)


@functools.lru_cache(maxsize=64)
def pair_table(factor: int) -> NDArray[np.uint16]:
    """Return the products of a factor with all pairs of bytes; 128 KiB."""
    products = np.frombuffer(product_table(factor), dtype=np.uint8)
    table = np.empty((ELEMENTS, ELEMENTS, 2), dtype=np.uint8)
    table[..., LOW] = products[np.newaxis, :]
    table[..., 1 - LOW] = products[:, np.newaxis]
    return table.reshape(-1).view(np.uint16)


class IsalMultiplier:
    """Sums of products by ISA-L, which has instructions for them."""

    def __init__(self, library: isal.Library, targets: int, block_bytes: int) -> None:
        self._library = library
        self._term = np.empty(block_bytes, dtype=np.uint8)
        self._term_view = memoryview(self._term)
        self._sums = [np.empty(block_bytes, dtype=np.uint8) for _ in range(targets)]
        self._views = [memoryview(total) for total in self._sums]
        self._factors: Sequence[Sequence[int]] = ()
        self._update: isal.Update

    def prepare(self, factors: Sequence[Sequence[int]]) -> None:
        """Take the factors of the sources, a row for each sum."""
        if factors != self._factors:
            self._factors = factors
            addresses = [total.ctypes.data for total in self._sums[: len(factors)]]
            self._update = self._library.update(
                factors, self._term.ctypes.data, addresses, begins=True
            )

    def combine(self, sources: Sequence[Span], offset: int, length: int) -> list[memoryview]:
        """Return the sums over ``length`` bytes at ``offset`` of the sources."""
        rows = len(self._factors)
        view = self._term_view[:length]
        for number, (source, start) in enumerate(sources):
            source.readinto(start + offset, view)
            self._update(number, length)
        return [total[:length] for total in self._views[:rows]]


def fastest_multiplier() -> Callable[[int, int], Multiplier]:
    """Return what makes the fastest multiplier that works here."""
    library = isal.load()
    if library is None:
        return NumpyMultiplier

    def make(targets: int, block_bytes: int) -> Multiplier:
        return IsalMultiplier(library, targets, block_bytes)

    return make


def accumulate(
    sums: Sequence[NDArray[np.uint8]], factors: Sequence[int], data: NDArray[np.uint8]
) -> None:
    """Add the products of one block and a factor for each sum to the sums, in place.

    For those who do not have all blocks of a stripe at hand.

    Args:
        sums: as many bytes each as ``data``; contiguous, writable.
        factors: 0 to 255.
        data: the block, contiguous.
    """
    library = isal.load() if any(factor > 1 for factor in factors) else None
    if library is None:
        for total, factor in zip(sums, factors):
            multiply_add(total, factor, data)
    elif len(data):
        addresses = [total.ctypes.data for total in sums]
        library.update([[factor] for factor in factors], data.ctypes.data, addresses)(0, len(data))
