# SPDX-License-Identifier: BSD-3-Clause
"""PARTNER over messages: members keep copies of their left neighbours' data, in bounded memory.

Each member of a redundancy group is one rank of a communicator, the rank being the group rank. Data
goes straight from one member to another, one piece of ``piece_bytes`` at a time. A member that cannot
read or write goes on passing messages, and returns its error at the end.

Source: docs/formats/redundancy.md, "PARTNER".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from scrjob.client.ring import pieces
from scrjob.client.team import FirstError
from scrjob.redundancy.partner import holder, replica_offset

if TYPE_CHECKING:
    from scrjob.client.team import Communicator
    from scrjob.redundancy.shape import Shape

    # Takes an offset and bytes.
    Transfer = Callable[[int, memoryview], None]

_TAG = 73


class Ends(NamedTuple):
    """Where a member reads or writes: its own data, and its payload, the copies of others' data."""

    data: Transfer
    payload: Transfer


def encode(
    comm: Communicator, read: Transfer, write: Transfer, shape: Shape, piece_bytes: int
) -> Optional[Exception]:
    """Give each member the data of its left neighbours. Collective in the group.

    Args:
        comm: the group.
        read: fills a piece of this member's data.
        write: takes a piece of its payload, front to back.
        shape: measures of the group.
        piece_bytes: size of a message, at most.

    Returns:
        this member's own error, None if there was none.
    """
    own, members = comm.rank, comm.size
    largest = max(shape.sizes)
    size = min(largest, piece_bytes)
    out, inn = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    trouble = FirstError()
    for distance in range(1, shape.descriptor.copies + 1):
        right, left = (own + distance) % members, (own - distance) % members
        start = replica_offset(shape, own, distance)
        for offset, _ in pieces(largest, size or 1):
            # A member that has no more sends an empty message: then nobody needs to know who has.
            mine = out[: max(0, shape.sizes[own] - offset)]
            theirs = inn[: max(0, shape.sizes[left] - offset)]
            trouble.run(read, offset, memoryview(mine))
            comm.Sendrecv(mine, right, _TAG, theirs, left, _TAG)
            trouble.run(write, start + offset, memoryview(theirs))
    return trouble.error


class _Copy(NamedTuple):
    """One stretch of bytes that goes from a member that is there to a lost one."""

    source: int
    source_offset: int
    from_payload: bool
    target: int
    target_offset: int
    to_payload: bool
    size: int


def _plan(shape: Shape, lost: Sequence[int]) -> Iterator[_Copy]:
    """Yield what lost members need: their data, then their copies of their neighbours'; in one order."""
    for i in lost:
        for distance in range(shape.descriptor.copies + 1):
            wanted = (i - distance) % shape.n
            far = (
                0 if wanted not in lost else holder(wanted, shape.n, lost, shape.descriptor.copies)
            )
            source = (wanted + far) % shape.n
            yield _Copy(
                source=source,
                source_offset=replica_offset(shape, source, far),
                from_payload=far > 0,
                target=i,
                target_offset=replica_offset(shape, i, distance),
                to_payload=distance > 0,
                size=shape.sizes[wanted],
            )


def restore(
    comm: Communicator,
    lost: Sequence[int],
    read: Optional[Ends],
    write: Optional[Ends],
    shape: Shape,
    piece_bytes: int,
) -> Optional[Exception]:
    """Give the lost members their data and their payload. Collective in the group.

    Args:
        comm: the group.
        lost: group ranks of the members that lost theirs; no run of more than ``replicas``.
        read: fills pieces; all members but the lost ones need it.
        write: takes pieces, data front to back; only lost ones.
        shape: measures of the group.
        piece_bytes: size of a message, at most.

    Returns:
        this member's own error, None if there was none.
    """
    size = min(max(shape.sizes), piece_bytes)
    room = np.zeros(size, dtype=np.uint8)
    trouble = FirstError()
    for copy in _plan(shape, lost):
        for offset, length in pieces(copy.size, size or 1):
            piece = room[:length]
            if comm.rank == copy.source and read is not None:
                end = read.payload if copy.from_payload else read.data
                trouble.run(end, copy.source_offset + offset, memoryview(piece))
                comm.Send(piece, copy.target, _TAG)
            elif comm.rank == copy.target and write is not None:
                comm.Recv(piece, copy.source, _TAG)
                end = write.payload if copy.to_payload else write.data
                trouble.run(end, copy.target_offset + offset, memoryview(piece))
    return trouble.error
