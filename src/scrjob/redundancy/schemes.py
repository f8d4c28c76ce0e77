# SPDX-License-Identifier: BSD-3-Clause
"""The redundancy schemes by name, and what each must be able to do.

A further scheme (partner, rs) is one more class in ``SCHEMES``; planning, rebuilding, writing and
headers do not change.

Source: docs/formats/redundancy.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Mapping, NamedTuple, Protocol, Sequence

from scrjob.errors import NotSupportedError
from scrjob.redundancy import stripes, xor

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor
    from scrjob.redundancy.xor import Share, Sink


class Shape(NamedTuple):
    """The measures of one group: a member's descriptor, sizes of the logical files, chunk size in bytes.

    ``chunk`` is 0 for schemes without chunks.
    """

    descriptor: Descriptor
    sizes: Sequence[int]
    chunk: int

    @property
    def n(self) -> int:
        """Return the number of members."""
        return len(self.sizes)


class Outputs(NamedTuple):
    """Where the data and the payload of a lost member are written, each front to back."""

    data: Sink
    payload: Sink


class Scheme(Protocol):
    """What a redundancy scheme knows."""

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell whether these members of a group of ``n`` can be had back from the others."""
        ...

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return the chunk size for logical files of these sizes; 0 if the scheme has no chunks."""
        ...

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return the size of member ``i``'s payload."""
        ...

    def encode(self, shape: Shape, data: Mapping[int, xor.Source], i: int, out: Sink) -> None:
        """Write the payload of member ``i`` from the data of the members."""
        ...

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> None:
        """Write data and payload of all lost members (the keys of ``outputs``) from the others."""
        ...


class Single:
    """No redundancy: a header and nothing behind it."""

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell that nothing may be lost."""
        del n, descriptor
        return not lost

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return 0: there are no chunks."""
        del sizes, descriptor
        return 0

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return 0: there is no payload."""
        del shape, i
        return 0

    def encode(self, shape: Shape, data: Mapping[int, xor.Source], i: int, out: Sink) -> None:
        """Write nothing."""

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> None:
        """Have nothing to restore: ``tolerates`` has refused any loss."""


class Xor:
    """One parity chunk in each member; one lost member comes back."""

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell whether at most one member is lost, and another is there."""
        del descriptor
        return len(lost) <= 1 and n > 1

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return the largest logical file over n-1 chunks, at least 1."""
        return stripes.chunk_bytes(sizes, descriptor.ranks)

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return one chunk."""
        del i
        return shape.chunk

    def encode(self, shape: Shape, data: Mapping[int, xor.Source], i: int, out: Sink) -> None:
        """Write the parity of stripe ``i``."""
        xor.encode_member(data, i, stripes.Layout(shape.n, shape.chunk), out)

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> None:
        """Write the one lost member."""
        layout = stripes.Layout(shape.n, shape.chunk)
        for i, out in outputs.items():
            xor.restore_member(shares, i, layout, out.data, out.payload)


SCHEMES: Mapping[str, Scheme] = {"single": Single(), "xor": Xor()}


def scheme_for(name: str) -> Scheme:
    """Return the scheme with the name that file names and descriptors (in lower case) have.

    Raises:
        NotSupportedError: this version cannot encode or rebuild it.
    """
    found = SCHEMES.get(name)
    if found is None:
        raise NotSupportedError(
            f"redundancy scheme {name.upper()} is not supported by this version of scrjob "
            f"(supported: {', '.join(word.upper() for word in SCHEMES)}); "
            "use the tools of the SCR library for this dataset"
        )
    return found
