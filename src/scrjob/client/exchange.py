# SPDX-License-Identifier: BSD-3-Clause
"""One redundancy group at work over messages: each scheme by its own pattern, in bounded memory.

The geometry is that of ``scrjob.redundancy``; how bytes travel is in ``ring`` and ``replicas``.

Source: docs/formats/redundancy.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Sequence

from scrjob.client import replicas, ring
from scrjob.client.replicas import Ends
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.striped import Striped
from scrjob.redundancy.stripes import role

if TYPE_CHECKING:
    from scrjob.client.ring import Rows
    from scrjob.client.team import Communicator
    from scrjob.redundancy.combine import Sink, Source
    from scrjob.redundancy.shape import Outputs, Shape, Share


class Nothing:
    """Stands for a file that could not be opened: takes and gives nothing, so that messages go on."""

    def readinto(self, offset: int, view: memoryview) -> None:
        """Leave the bytes as they are."""

    def write(self, offset: int, view: memoryview) -> None:
        """Drop the bytes."""


NOTHING = Nothing()


def encode(
    comm: Communicator, shape: Shape, data: Source, out: Sink, piece_bytes: int
) -> Optional[Exception]:
    """Give each member of a group its payload. Collective in the group.

    Args:
        comm: the group, its ranks are the group ranks.
        shape: its measures.
        data: this member's logical file.
        out: takes its payload.
        piece_bytes: bytes exchanged at a time.

    Returns:
        this member's own error, None if there was none.
    """
    scheme = scheme_for(shape.descriptor.type)
    if isinstance(scheme, Striped):
        rows = parity_rows(scheme, shape)

        def read(stripe: int, offset: int, view: memoryview) -> None:
            block = role(stripe, comm.rank, shape.n, len(rows)).block
            data.readinto(block * shape.chunk + offset, view)

        def write(block: int, offset: int, view: memoryview) -> None:
            out.write(block * shape.chunk + offset, view)

        return ring.encode(comm, read, write, rows, shape.chunk, piece_bytes)
    return replicas.encode(comm, data.readinto, out.write, shape, piece_bytes)


def restore(
    comm: Communicator,
    shape: Shape,
    lost: Sequence[int],
    share: Optional[Share],
    outputs: Optional[Outputs],
    piece_bytes: int,
) -> Optional[Exception]:
    """Give the lost members of a group their data and payload. Collective in the group.

    Args:
        comm: the group, its ranks are the group ranks.
        shape: its measures.
        lost: group ranks; no more than the scheme tolerates.
        share: what this member has; None if it is lost.
        outputs: where this member's data and payload go; None if it is not lost.
        piece_bytes: bytes exchanged at a time.

    Returns:
        this member's own error, None if there was none.
    """
    source = None if share is None else Ends(share.data.readinto, share.payload.readinto)
    sink = None if outputs is None else Ends(outputs.data.write, outputs.payload.write)
    scheme = scheme_for(shape.descriptor.type)
    if isinstance(scheme, Striped):
        read = None if source is None else _blocks(scheme, shape, comm.rank, source)
        write = None if sink is None else _blocks(scheme, shape, comm.rank, sink)
        rows = rebuild_rows(scheme, shape, lost)
        return ring.restore(comm, lost, read, write, rows, shape.chunk, piece_bytes)
    return replicas.restore(comm, lost, source, sink, shape, piece_bytes)


def _blocks(scheme: Striped, shape: Shape, own: int, ends: Ends) -> ring.Block:
    """Return what reads or writes a member's block of a stripe, data or parity."""
    parity = scheme.parity(shape.descriptor)
    roles = [role(stripe, own, shape.n, parity) for stripe in range(shape.n)]

    def block(stripe: int, offset: int, view: memoryview) -> None:
        mine = roles[stripe]
        transfer = ends.payload if mine.is_parity else ends.data
        transfer(mine.block * shape.chunk + offset, view)

    return block


def parity_rows(scheme: Striped, shape: Shape) -> Rows:
    """Return the factors of the members' data in each parity block of a stripe."""
    n = shape.n
    points = tuple(range(n))
    return [scheme.factors(points, n + e) for e in range(scheme.parity(shape.descriptor))]


def rebuild_rows(scheme: Striped, shape: Shape, lost: Sequence[int]) -> Callable[[int], Rows]:
    """Return what gives for a stripe the factors of the other members' blocks in those of the lost ones."""
    others = [i for i in range(shape.n) if i not in lost]

    def rows(stripe: int) -> Rows:
        places = scheme.places(shape, stripe)
        known = scheme.known(places, others)
        found = []
        for i in lost:
            row = [0] * shape.n
            for member, factor in zip(
                known.values(), scheme.restoring(places, known, places[i].point)
            ):
                row[member] = factor
            found.append(row)
        return found

    return rows
