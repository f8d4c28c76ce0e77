# SPDX-License-Identifier: BSD-3-Clause
"""The redundancy schemes by name, and what each must be able to do.

A further scheme is one more class in ``SCHEMES``; planning, rebuilding, writing and headers do not
change. Schemes move no bytes: they say what is to be combined, and ``combine.run`` does it.

Source: docs/formats/redundancy.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Iterator, Mapping, Protocol, Sequence

from scrjob.errors import NotSupportedError
from scrjob.redundancy.partner import Partner
from scrjob.redundancy.reed_solomon import ReedSolomon
from scrjob.redundancy.xor import Xor

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor
    from scrjob.redundancy.combine import Sink, Source, Task
    from scrjob.redundancy.shape import Outputs, Shape, Share


class Scheme(Protocol):
    """What a redundancy scheme knows."""

    def is_possible(self, descriptor: Descriptor) -> bool:
        """Tell whether there can be a group of so many members with so much redundancy."""
        ...

    def tolerates(self, n: int, lost: Collection[int], descriptor: Descriptor) -> bool:
        """Tell whether these members of a group of ``n`` can be had back from the others."""
        ...

    def chunk_bytes(self, sizes: Sequence[int], descriptor: Descriptor) -> int:
        """Return the chunk size for logical files of these sizes; 0 if the scheme has no chunks."""
        ...

    def payload_bytes(self, shape: Shape, i: int) -> int:
        """Return the size of member ``i``'s payload."""
        ...

    def encode(self, shape: Shape, data: Mapping[int, Source], i: int, out: Sink) -> Iterator[Task]:
        """Give what makes the payload of member ``i`` from the data of the members."""
        ...

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> Iterator[Task]:
        """Give what makes data and payload of all lost members (the keys of ``outputs``) from the others."""
        ...


class Single:
    """No redundancy: a header and nothing behind it."""

    def is_possible(self, descriptor: Descriptor) -> bool:
        """Tell that any group can do without."""
        del descriptor
        return True

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

    def encode(self, shape: Shape, data: Mapping[int, Source], i: int, out: Sink) -> Iterator[Task]:
        """Give nothing."""
        del shape, data, i, out
        return iter(())

    def restore(
        self, shape: Shape, shares: Mapping[int, Share], outputs: Mapping[int, Outputs]
    ) -> Iterator[Task]:
        """Give nothing: ``tolerates`` has refused any loss."""
        del shape, shares, outputs
        return iter(())


SCHEMES: Mapping[str, Scheme] = {
    "single": Single(),
    "partner": Partner(),
    "xor": Xor(),
    "rs": ReedSolomon(),
}


def scheme_for(name: str) -> Scheme:
    """Return the scheme with the name that file names and descriptors (in lower case) have.

    Raises:
        NotSupportedError: there is none of this name.
    """
    found = SCHEMES.get(name)
    if found is None:
        raise NotSupportedError(
            f"redundancy scheme {name.upper()} is not supported by this version of scrjob "
            f"(supported: {', '.join(word.upper() for word in SCHEMES)})"
        )
    return found
