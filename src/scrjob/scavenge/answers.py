# SPDX-License-Identifier: BSD-3-Clause
"""What a scavenge has to tell: of each node, and of the dataset."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Sequence

from scrjob.node.copy import NOTHING_CACHED


class NodeCopy(NamedTuple):
    """What one node did.

    Attributes:
        node: its name.
        rc: exit code of the copy, None if the node did not answer in time or was given up.
        files: application files of this node that are complete in the prefix; None if not told.
        bytes: their sizes together; None if not told.
        skipped: files of any kind that an earlier attempt had copied.
        errors: one line for each thing that went wrong.
        crcs: path relative to the prefix -> CRC32 of what it copied.
        damaged: copies in the prefix that have other bytes than were recorded.
        seconds: from the start of the copy to the answer, which may have come together with others'.
        shares: the node that copied for this one, which sees the same cache; "" if none did.
    """

    node: str
    rc: Optional[int]
    files: Optional[int] = None
    bytes: Optional[int] = None
    skipped: int = 0
    errors: Sequence[str] = ()
    crcs: Mapping[str, int] = {}
    damaged: Sequence[str] = ()
    seconds: float = 0.0
    shares: str = ""

    @property
    def brought_any(self) -> bool:
        """Tell whether something of it is in the prefix, as far as is known."""
        return bool(self.files) or (self.files is None and self.rc == 0)

    @property
    def holds_nothing(self) -> bool:
        """Tell whether its cache does not know the dataset."""
        return bool(self.errors) and all(e.startswith(NOTHING_CACHED) for e in self.errors)


class ScavengeResult(NamedTuple):
    """A dataset that is complete, verified and listed.

    Attributes:
        dataset_id: which one.
        name: its name.
        was_there: nothing had to be copied.
        nodes: what each node did.
        rebuilt: paths of the files that were restored from redundancy.
        files: number of all files.
        bytes: their sizes together.
        seconds: how long it took.
        copied_bytes: bytes of application files that the nodes brought.
        copy_seconds: how long the copying of these took.
        repaired: paths of files that had been copied with wrong bytes and were restored.
    """

    dataset_id: int
    name: str
    was_there: bool
    nodes: Sequence[NodeCopy]
    rebuilt: Sequence[str]
    files: int
    bytes: int
    seconds: float
    copied_bytes: int = 0
    copy_seconds: float = 0.0
    repaired: Sequence[str] = ()


def problems(copies: Sequence[NodeCopy]) -> str:
    """Return in one line what went wrong on the nodes."""
    bad = [f"{copy.node}: {copy.errors[0]}" for copy in copies if _is_bad(copy)]
    told = bad[:3] + ([f"and {len(bad) - 3} more nodes"] if len(bad) > 3 else [])  # noqa: PLR2004 - of this line
    nothing = sum(copy.holds_nothing for copy in copies)
    if nothing:
        told.append(f"{nothing} of {len(copies)} nodes have nothing of it in cache")
    return "; ".join(told) or f"{len(copies)} nodes reported no error"


def _is_bad(copy: NodeCopy) -> bool:
    return bool(copy.errors) and not copy.holds_nothing
