# SPDX-License-Identifier: BSD-3-Clause
"""PARTNER: each member keeps copies of its left neighbours' logical files, behind each other.

Source: docs/formats/redundancy.md, "PARTNER".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Iterator, Mapping, Sequence

from scrjob.redundancy.combine import Sink, Source, Span, Target, Task

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor
    from scrjob.redundancy.shape import Outputs, Shape, Share


class Partner:
    """Whoever has one of its next right neighbours left, as many as there are replicas, comes back."""

    def is_possible(self, descriptor: Descriptor) -> bool:
        """Tell whether every copy has another member to lie with."""
        return 1 <= (descriptor.replicas or 0) < descriptor.ranks

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell whether no run of lost members, seen as a ring, is longer than the replicas."""
        return all(holder(i, n, lost, descriptor.copies) for i in lost)

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return 0: there are no chunks."""
        del sizes, descriptor
        return 0

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return the size of all copies that member ``i`` keeps."""
        return replica_offset(shape, i, shape.descriptor.copies + 1)

    def encode(self, shape: Shape, data: Mapping[int, Source], i: int, out: Sink) -> Iterator[Task]:
        """Give what copies the logical files of the left neighbours."""
        sources = {j: Span(source, 0) for j, source in data.items()}
        return _payload(shape, sources, i, out)

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> Iterator[Task]:
        """Give what copies the lost members' data back, and their neighbours' copies once more."""
        sources = {j: Span(share.data, 0) for j, share in shares.items()}
        for i in outputs:
            t = holder(i, shape.n, outputs, shape.descriptor.copies)
            keeper = (i + t) % shape.n
            sources[i] = Span(shares[keeper].payload, replica_offset(shape, keeper, t))
        for i, out in outputs.items():
            yield copying(shape.sizes[i], sources[i], out.data, 0)
            yield from _payload(shape, sources, i, out.payload)


def holder(i: int, n: int, lost: Collection[int], replicas: int) -> int:
    """Return how far to the right of ``i`` the nearest copy of its data is that is left; 0 for none."""
    return next((t for t in range(1, min(replicas, n - 1) + 1) if (i + t) % n not in lost), 0)


def replica_offset(shape: Shape, keeper: int, t: int) -> int:
    """Return where in ``keeper``'s payload the copy of its neighbour at distance ``t`` to the left begins."""
    return sum(shape.sizes[(keeper - u) % shape.n] for u in range(1, t))


def copying(length: int, source: Span, sink: Sink, offset: int) -> Task:
    """Return a task that copies bytes."""
    return Task(length, [source], [Target(sink, offset, (1,))])


def _payload(shape: Shape, sources: Mapping[int, Span], i: int, out: Sink) -> Iterator[Task]:
    for t in range(1, shape.descriptor.copies + 1):
        j = (i - t) % shape.n
        yield copying(shape.sizes[j], sources[j], out, replica_offset(shape, i, t))
