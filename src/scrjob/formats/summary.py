# SPDX-License-Identifier: BSD-3-Clause
"""summary.scr: one dataset in the prefix, written when its files are there. Replaced as a whole.

Source: docs/formats/summary-rank2file.md.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from scrjob.formats.kvtree import KVTree

VERSION = 6


class Summary(NamedTuple):
    """``complete``: all files are there; None if the file does not say, as after a failed build."""

    descriptor: Optional[KVTree]
    complete: Optional[bool]
    version: Optional[int]

    @property
    def name(self) -> Optional[str]:
        """Return the dataset's name."""
        return None if self.descriptor is None else self.descriptor.text("NAME")


def build(descriptor: KVTree, *, complete: bool) -> KVTree:
    """Return the tree of a summary; ``COMPLETE`` is left out when the dataset is not."""
    tree = KVTree()
    tree.put("VERSION", VERSION)
    if complete:
        tree.put("COMPLETE", 1)
    tree.set("DSET", descriptor.copy())
    return tree


def parse(tree: KVTree) -> Summary:
    """Return what a summary says; keys that old builds left in it are ignored."""
    complete = tree.integer("COMPLETE")
    return Summary(
        descriptor=tree.child("DSET"),
        complete=None if complete is None else complete == 1,
        version=tree.integer("VERSION"),
    )
