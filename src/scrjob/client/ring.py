# SPDX-License-Identifier: BSD-3-Clause
"""XOR and Reed-Solomon over messages: a group encodes and restores in a ring, in bounded memory.

Each member of a redundancy group is one rank of a communicator, the rank being the group rank. In each
stripe every block, data or parity, is a sum of others, each times a coefficient. The sums that are
wanted travel together from neighbour to neighbour, each adding its own block, one piece at a time:
two messages of ``piece_bytes`` and one piece of a block are all the memory used, whatever the sizes.

A member that cannot read or write goes on passing messages, and returns its error at the end.

Source: docs/formats/redundancy.md, "stripes", "XOR" and "Reed-Solomon".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, Optional, Sequence

import numpy as np

from scrjob.client.team import FirstError
from scrjob.redundancy.kernels import accumulate

if TYPE_CHECKING:
    from scrjob.client.team import Bytes, Communicator

    # (stripe or number of a block, offset in the block, bytes)
    Block = Callable[[int, int, memoryview], None]
    # Coefficients of one sum, by group rank; of several sums.
    Row = Sequence[int]
    Rows = Sequence[Row]

_TAG = 71


def pieces(size: int, piece_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the pieces that ``size`` bytes are worked on in."""
    for offset in range(0, size, piece_bytes):
        yield offset, min(piece_bytes, size - offset)


class _Bundle:
    """Room for the pieces of several sums, which are one message."""

    def __init__(self, sums: int, piece: int) -> None:
        self._room: Bytes = np.zeros(sums * piece, dtype=np.uint8)
        self._sums = sums
        self._length = piece

    def begin(self, length: int) -> None:
        """Take pieces of this length from now on."""
        self._length = length

    def message(self, sums: Optional[int] = None) -> Bytes:
        """Return the first so many sums as one message, all by default."""
        return self._room[: (self._sums if sums is None else sums) * self._length]

    def piece(self, number: int) -> Bytes:
        """Return one sum."""
        return self._room[number * self._length :][: self._length]

    def add(self, rows: Rows, member: int, data: Bytes) -> None:
        """Add a member's block to each sum."""
        sums = [self.piece(number) for number in range(self._sums)]
        accumulate(sums, [row[member] for row in rows], data)


def encode(
    comm: Communicator, read: Block, write: Block, rows: Rows, chunk: int, piece_bytes: int
) -> Optional[Exception]:
    """Give each member its parity blocks. Collective in the group.

    With n members and k parity blocks each: in hop ``h`` member ``i`` works on stripe ``i - h``. So the
    sums of a stripe start at the right of the last member that holds parity in it, pass the n-k members
    that have data, and then those that hold parity: each keeps its block and passes on the others.
    Every member reads each of its bytes once.

    Args:
        comm: the group.
        read: fills a piece of this member's data in a stripe.
        write: takes a piece of one of this member's parity blocks, by its number (0 to k-1); the
            offsets of a block ascend.
        rows: coefficients of the k parity blocks, k < n.
        chunk: size of a block in bytes.
        piece_bytes: size of a message, at most (if it is k at least).

    Returns:
        this member's own error, None if there was none.
    """
    own, members, blocks = comm.rank, comm.size, len(rows)
    right, left = (own + 1) % members, (own - 1) % members
    size = min(chunk, max(1, piece_bytes // blocks))
    out, inn = _Bundle(blocks, size), _Bundle(blocks, size)
    room = np.zeros(size, dtype=np.uint8)
    trouble = FirstError()
    for offset, length in pieces(chunk, size):
        out.begin(length)
        inn.begin(length)
        out.message()[:] = 0
        data = room[:length]
        for hop in range(1, members - blocks + 1):
            trouble.run(read, (own - hop) % members, offset, memoryview(data))
            out.add(rows, own, data)
            comm.Sendrecv(out.message(), right, _TAG, inn.message(), left, _TAG)
            out, inn = inn, out
        for block in reversed(range(blocks)):
            trouble.run(write, block, offset, memoryview(out.piece(block)))
            if block:
                comm.Sendrecv(out.message(block), right, _TAG, inn.message(block), left, _TAG)
                out, inn = inn, out
    return trouble.error


def restore(
    comm: Communicator,
    lost: Sequence[int],
    read: Optional[Block],
    write: Optional[Block],
    rows: Callable[[int], Rows],
    chunk: int,
    piece_bytes: int,
) -> Optional[Exception]:
    """Give the lost members all of their blocks. Collective in the group.

    The sums go through the members that are there, in ascending order; the last gives each lost member
    its own.

    Args:
        comm: the group.
        lost: group ranks of the members that lost their blocks.
        read: fills a piece of this member's block, data or parity, of a stripe; all members but the
            lost ones need it.
        write: takes a piece of a block, stripes ascending, offsets ascending; only lost ones.
        rows: gives for a stripe the coefficients that make the blocks of the lost members, in their order.
        chunk: size of a block in bytes.
        piece_bytes: size of a message, at most (if it is the number of lost members at least).

    Returns:
        this member's own error, None if there was none.
    """
    size = min(chunk, max(1, piece_bytes // len(lost)))
    chain = [i for i in range(comm.size) if i not in lost]
    if write is not None:
        return _take(comm, chain[-1], write, chunk, size)
    trouble = FirstError()
    at = chain.index(comm.rank)
    bundle = _Bundle(len(lost), size)
    room = np.zeros(size, dtype=np.uint8)
    for stripe in range(comm.size):
        factors = rows(stripe)
        for offset, length in pieces(chunk, size):
            bundle.begin(length)
            if at == 0:
                bundle.message()[:] = 0
            else:
                comm.Recv(bundle.message(), chain[at - 1], _TAG)
            if read is not None and any(row[comm.rank] for row in factors):
                data = room[:length]
                trouble.run(read, stripe, offset, memoryview(data))
                bundle.add(factors, comm.rank, data)
            if at + 1 < len(chain):
                comm.Send(bundle.message(), chain[at + 1], _TAG)
            else:
                for number, member in enumerate(lost):
                    comm.Send(bundle.piece(number), member, _TAG)
    return trouble.error


def _take(
    comm: Communicator, source: int, write: Block, chunk: int, size: int
) -> Optional[Exception]:
    """Write what the last member that is there sends."""
    trouble = FirstError()
    room = np.zeros(size, dtype=np.uint8)
    for stripe in range(comm.size):
        for offset, length in pieces(chunk, size):
            comm.Recv(room[:length], source, _TAG)
            trouble.run(write, stripe, offset, memoryview(room[:length]))
    return trouble.error
