# SPDX-License-Identifier: BSD-3-Clause
"""XOR over messages: the members of a group encode and restore in a ring, in bounded memory.

Each member of a redundancy group is one rank of a communicator, the rank being the group rank. In each
stripe the blocks of all members, data chunks and one parity block, add up to zero; so a member's block
is the sum of the others'. The sum travels from neighbour to neighbour, each adding its own block, one
piece of ``piece_bytes`` at a time; that is all the memory used, whatever the sizes.

A member that cannot read or write goes on passing messages, and returns its error at the end.

Source: docs/formats/redundancy.md, "stripes" and "XOR".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, Optional

import numpy as np

from scrjob.client.team import FirstError

if TYPE_CHECKING:
    from scrjob.client.team import Communicator

    # (stripe, offset in the member's block of it, bytes)
    Block = Callable[[int, int, memoryview], None]

_TAG = 71


def pieces(chunk: int, piece_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the pieces that a chunk is worked on in."""
    for offset in range(0, chunk, piece_bytes):
        yield offset, min(piece_bytes, chunk - offset)


def encode(
    comm: Communicator, read: Block, write: Block, chunk: int, piece_bytes: int
) -> Optional[Exception]:
    """Give each member its parity block. Collective in the group.

    In hop ``h`` member ``i`` works on stripe ``i - h``; after n-1 hops the sum of stripe ``i`` has
    passed all members but ``i`` and arrives there. Every member reads each of its bytes once.

    Args:
        comm: the group, two members or more.
        read: fills a piece of this member's data in a stripe.
        write: takes a piece of this member's parity, offsets ascending.
        chunk: size of a block in bytes.
        piece_bytes: see above.

    Returns:
        this member's own error, None if there was none.
    """
    own = comm.rank
    members = comm.size
    right, left = (own + 1) % members, (own - 1) % members
    size = min(chunk, piece_bytes)
    buffers = [np.empty(size, dtype=np.uint8) for _ in range(3)]
    trouble = FirstError()
    for offset, length in pieces(chunk, piece_bytes):
        out, inn, term = (buffer[:length] for buffer in buffers)
        for hop in range(1, members):
            target = out if hop == 1 else term
            target[:] = 0
            trouble.run(read, (own - hop) % members, offset, memoryview(target))
            if hop > 1:
                np.bitwise_xor(out, term, out=out)
            comm.Sendrecv(out, right, _TAG, inn, left, _TAG)
            out, inn = inn, out
        trouble.run(write, own, offset, memoryview(out))
    return trouble.error


def restore(
    comm: Communicator,
    missing: int,
    read: Optional[Block],
    write: Optional[Block],
    chunk: int,
    piece_bytes: int,
) -> Optional[Exception]:
    """Give the missing member all of its blocks. Collective in the group.

    The sum starts at the missing member's right neighbour and goes round to its left one and to it.

    Args:
        comm: the group.
        missing: group rank of the member that lost its blocks.
        read: fills a piece of this member's block, data or parity, of a stripe; all members but the
            missing one need it.
        write: takes a piece of a block, stripes ascending, offsets ascending; only the missing one.
        chunk: size of a block in bytes.
        piece_bytes: see the module's text.

    Returns:
        this member's own error, None if there was none.
    """
    own = comm.rank
    members = comm.size
    right, left = (own + 1) % members, (own - 1) % members
    is_start = left == missing
    size = min(chunk, piece_bytes)
    total = np.zeros(size, dtype=np.uint8)
    term = np.zeros(size, dtype=np.uint8)
    trouble = FirstError()
    for stripe in range(members):
        for offset, length in pieces(chunk, piece_bytes):
            piece = total[:length]
            if not is_start or own == missing:
                comm.Recv(piece, left, _TAG)
            if write is not None:
                trouble.run(write, stripe, offset, memoryview(piece))
            if read is None:
                continue
            mine = piece if is_start else term[:length]
            mine[:] = 0
            trouble.run(read, stripe, offset, memoryview(mine))
            if not is_start:
                np.bitwise_xor(piece, mine, out=piece)
            comm.Send(piece, right, _TAG)
    return trouble.error
