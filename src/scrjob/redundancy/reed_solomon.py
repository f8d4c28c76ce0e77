# SPDX-License-Identifier: BSD-3-Clause
"""RS, Reed-Solomon: k parity blocks in each member; any k lost members come back.

Source: docs/formats/redundancy.md, "Reed-Solomon".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.redundancy import gf256
from scrjob.redundancy.striped import Striped

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor


class ReedSolomon(Striped):
    """The blocks of a stripe are the values of a polynomial over the field of 256 elements."""

    def parity(self, descriptor: Descriptor) -> int:
        """Return the k of the descriptor."""
        return descriptor.parity or 0

    def factors(self, known: tuple[int, ...], wanted: int) -> Sequence[int]:
        """Return the coefficients of interpolation."""
        return gf256.interpolation(known, wanted)

    def is_possible(self, descriptor: Descriptor) -> bool:
        """Tell whether the field has a point for each member and each parity block."""
        fits = descriptor.ranks + self.parity(descriptor) <= gf256.ELEMENTS
        return fits and super().is_possible(descriptor)
