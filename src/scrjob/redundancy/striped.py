# SPDX-License-Identifier: BSD-3-Clause
"""What XOR and Reed-Solomon have in common: parity over stripes.

In a stripe each block has a *point*: the data of member j has point j, parity block e has point n+e. A
member that holds parity contributes the value zero at its own point. Any n known points give all others;
with which factors is all that a scheme adds.

Source: docs/formats/redundancy.md, "stripes".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Collection, Iterator, Mapping, NamedTuple, Sequence

from scrjob.redundancy import stripes
from scrjob.redundancy.combine import Span, Target, Task

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor
    from scrjob.redundancy.combine import Sink, Source
    from scrjob.redundancy.shape import Outputs, Shape, Share


class Place(NamedTuple):
    """Where a block of a member lies: in its data or its payload, at which byte; its point in the stripe."""

    is_parity: bool
    offset: int
    point: int


class Striped(ABC):
    """A scheme with chunks and parity."""

    @abstractmethod
    def parity(self, descriptor: Descriptor) -> int:
        """Return the number of parity blocks of each member."""

    @abstractmethod
    def factors(self, known: tuple[int, ...], wanted: int) -> Sequence[int]:
        """Return the factors of the values at n known points in the value at another."""

    def is_possible(self, descriptor: Descriptor) -> bool:
        """Tell whether there can be such a group."""
        n, k = descriptor.ranks, self.parity(descriptor)
        return 1 <= k < n

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell whether at most as many members are lost as there are parity blocks in a stripe."""
        return len(lost) <= min(self.parity(descriptor), n - 1)

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return the largest logical file over n-k chunks, at least 1."""
        return stripes.chunk_bytes(sizes, descriptor.ranks, self.parity(descriptor))

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return the size of the parity blocks."""
        del i
        return self.parity(shape.descriptor) * shape.chunk

    def encode(self, shape: Shape, data: Mapping[int, Source], i: int, out: Sink) -> Iterator[Task]:
        """Give what makes the parity blocks of member ``i``; its own data is not needed."""
        n, k = shape.n, self.parity(shape.descriptor)
        for block in range(k):
            stripe = stripes.parity_stripe(i, block, n)
            factors = self.factors(tuple(range(n)), n + block)
            places = self.places(shape, stripe)
            others = [j for j in range(n) if not places[j].is_parity]
            yield Task(
                shape.chunk,
                [Span(data[j], places[j].offset) for j in others],
                [Target(out, block * shape.chunk, [factors[j] for j in others])],
            )

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> Iterator[Task]:
        """Give what makes the data and the payload of all lost members (the keys of ``outputs``)."""
        for stripe in range(shape.n):
            places = self.places(shape, stripe)
            targets = []
            for i, out in outputs.items():
                sink = out.payload if places[i].is_parity else out.data
                targets.append((sink, places[i]))
            known = self.known(places, shares)
            yield Task(
                shape.chunk,
                [span_of(shares[i], places[i]) for i in known.values()],
                [
                    Target(sink, place.offset, self.restoring(places, known, place.point))
                    for sink, place in targets
                ],
            )

    def places(self, shape: Shape, stripe: int) -> list[Place]:
        """Return where each member's block of a stripe lies."""
        n, k = shape.n, self.parity(shape.descriptor)
        found = []
        for i in range(n):
            role = stripes.role(stripe, i, n, k)
            point = n + role.block if role.is_parity else i
            found.append(Place(role.is_parity, role.block * shape.chunk, point))
        return found

    @staticmethod
    def known(places: Sequence[Place], members: Collection[int]) -> dict[int, int]:
        """Return point -> member for as many blocks of these members as give the whole stripe."""
        points = {places[i].point: i for i in members}
        needed = sum(
            not place.is_parity for place in places
        )  # the others are zero at their own points
        return {point: points[point] for point in sorted(points)[:needed]}

    def restoring(
        self, places: Sequence[Place], known: Mapping[int, int], wanted: int
    ) -> Sequence[int]:
        """Return the factors of the known blocks of a stripe in another."""
        zeros = [i for i, place in enumerate(places) if place.is_parity]
        return self.factors((*zeros, *known), wanted)[len(zeros) :]


def span_of(share: Share, place: Place) -> Span:
    """Return where a member's block of a stripe is read."""
    return Span(share.payload if place.is_parity else share.data, place.offset)
