# SPDX-License-Identifier: BSD-3-Clause
"""XOR: in each stripe the bytes of all members, data chunks and one parity block, add up to zero.

So any block of a stripe is the sum of the other members' blocks.

Source: docs/formats/redundancy.md, "XOR".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.redundancy.striped import Striped

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor


class Xor(Striped):
    """One parity chunk in each member; one lost member comes back."""

    def parity(self, descriptor: Descriptor) -> int:
        """Return 1."""
        del descriptor
        return 1

    def factors(self, known: tuple[int, ...], wanted: int) -> Sequence[int]:
        """Return ones: all is a plain sum."""
        del wanted
        return (1,) * len(known)
