# SPDX-License-Identifier: BSD-3-Clause
"""What schemes work on: the measures of a group, what members bring, what is written for lost ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor
    from scrjob.redundancy.combine import Sink, Source


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


class Share(NamedTuple):
    """What a member that is there brings: its logical file, and what follows its redundancy header."""

    data: Source
    payload: Source


class Outputs(NamedTuple):
    """Where the data and the payload of a lost member are written; what is beyond its data is dropped."""

    data: Sink
    payload: Sink
