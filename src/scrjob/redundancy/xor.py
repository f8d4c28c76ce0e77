# SPDX-License-Identifier: BSD-3-Clause
"""XOR: in each stripe the bytes of all members, data chunks and one parity block, add up to zero.

So encoding and restoring are one operation: a member's block of a stripe is the sum of the other
members' blocks. Memory use is two blocks of ``BLOCK_BYTES``, whatever the sizes and the number of
members. NumPy is imported when bytes are combined, not before.

Source: docs/formats/redundancy.md, "XOR".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable, Iterator, Mapping, NamedTuple, Protocol

from scrjob.redundancy.stripes import role

if TYPE_CHECKING:
    from scrjob.redundancy.stripes import Layout

BLOCK_BYTES = 1 << 20
"""Bytes that are combined at a time: large enough for NumPy, small enough for caches and nodes."""


class Source(Protocol):
    """Bytes that can be read anywhere: a logical file, or the parity after a header."""

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``."""
        ...


class Sink(Protocol):
    """Bytes that are written front to back."""

    def write(self, offset: int, view: memoryview) -> None:
        """Write ``view`` at ``offset``."""
        ...


class Share(NamedTuple):
    """What a member that is there brings: its logical file and its parity."""

    data: Source
    parity: Source


Read = Callable[[int, memoryview], None]
Write = Callable[[int, memoryview], None]


class Blocks:
    """The two buffers of a combination; make one and use it for all stripes."""

    def __init__(self, size: int = BLOCK_BYTES) -> None:
        import numpy as np  # noqa: PLC0415 - 70 ms, only for those who combine bytes

        self.size = size
        self._xor = np.bitwise_xor
        self._sum = np.empty(size, dtype=np.uint8)
        self._term = np.empty(size, dtype=np.uint8)

    def add_up_to_zero(self, reads: Iterable[Read], offset: int, length: int) -> bool:
        """Tell whether the sum of ``length`` (<= size) bytes at ``offset`` of all sources is zero."""
        self.combine(reads, offset, length)
        return not self._sum[:length].any()

    def combine(self, reads: Iterable[Read], offset: int, length: int) -> memoryview:
        """Return the sum of ``length`` (<= size) bytes at ``offset`` of all sources.

        The result is valid until the next call.
        """
        total = self._sum[:length]
        term = self._term[:length]
        total[:] = 0
        for read in reads:
            read(offset, memoryview(term))
            self._xor(total, term, out=total)
        return memoryview(total)


def encode_member(data: Mapping[int, Source], i: int, layout: Layout, out: Sink) -> None:
    """Write the parity block of member ``i`` from the data of the others.

    Args:
        data: logical files by group rank; that of ``i`` is not needed.
        i: group rank of the member whose parity is made: that of stripe i.
        layout: measures of the group, n >= 2.
        out: gets one chunk.
    """
    reads = [
        _shifted(data[j].readinto, role(i, j, layout.n).block * layout.chunk)
        for j in range(layout.n)
        if j != i
    ]
    _pump(Blocks(), reads, layout.chunk, out.write)


def restore_member(
    shares: Mapping[int, Share], i: int, layout: Layout, data_out: Sink, parity_out: Sink
) -> None:
    """Write the data and the parity of the missing member ``i`` from all other members.

    Args:
        shares: the others, by group rank.
        i: group rank of the missing member.
        layout: measures of the group, n >= 2.
        data_out: gets n-1 chunks front to back; drops the padding.
        parity_out: gets one chunk.
    """
    blocks = Blocks()
    for stripe in range(layout.n):
        reads = [_block(shares[j], stripe, j, layout) for j in range(layout.n) if j != i]
        is_parity, block = role(stripe, i, layout.n)
        write = parity_out.write if is_parity else data_out.write
        _pump(blocks, reads, layout.chunk, _shifted(write, block * layout.chunk))


def damaged_stripes(shares: Mapping[int, Share], layout: Layout) -> list[int]:
    """Return the stripes of a complete group whose blocks do not add up to zero."""
    blocks = Blocks()
    bad = []
    for stripe in range(layout.n):
        reads = [_block(shares[j], stripe, j, layout) for j in range(layout.n)]
        if not all(
            blocks.add_up_to_zero(reads, offset, length)
            for offset, length in _steps(layout.chunk, blocks.size)
        ):
            bad.append(stripe)
    return bad


def _block(share: Share, stripe: int, i: int, layout: Layout) -> Read:
    """Return a reader of member ``i``'s block of a stripe; offset 0 is the block's first byte."""
    is_parity, block = role(stripe, i, layout.n)
    source = share.parity if is_parity else share.data
    return _shifted(source.readinto, block * layout.chunk)


def _shifted(function: Callable[[int, memoryview], None], base: int) -> Read:
    return lambda offset, view: function(base + offset, view)


def _steps(chunk: int, size: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, chunk, size):
        yield offset, min(size, chunk - offset)


def _pump(blocks: Blocks, reads: list[Read], chunk: int, write: Write) -> None:
    for offset, length in _steps(chunk, blocks.size):
        write(offset, blocks.combine(reads, offset, length))
