# SPDX-License-Identifier: BSD-3-Clause
"""cindex.scrinfo: the datasets in a node's cache. Written by the lowest rank of each node.

``PATH`` is the authority on where a dataset lies: never compose that path.

Source: docs/formats/cache.md, "cache index".
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

from scrjob.formats import dataset
from scrjob.formats.kvtree import KVTree


class CachedDataset(NamedTuple):
    """A dataset in cache; ``path`` is its directory, None if the entry does not say."""

    id: int
    path: Optional[str]
    is_bypass: bool
    descriptor: Optional[KVTree]

    @property
    def details(self) -> Optional[dataset.Descriptor]:
        """Return the parsed descriptor, None if the entry has none."""
        return None if self.descriptor is None else dataset.parse(self.descriptor)


def datasets(tree: KVTree) -> Dict[int, CachedDataset]:
    """Return all datasets by ascending id; ids below 1 are ignored."""
    below = tree.child("DSET") or KVTree()
    found = {}
    for number in below.ints():
        entry = below.child(number)
        if number > 0 and entry is not None:
            found[number] = CachedDataset(
                id=number,
                path=entry.text("PATH"),
                is_bypass=entry.integer("BYPASS") == 1,
                descriptor=entry.child("DSETDESC"),
            )
    return found


def put_dataset(
    tree: KVTree, dataset_id: int, *, path: str, is_bypass: bool, descriptor: KVTree
) -> None:
    """Add a dataset, or bring its entry up to date."""
    entry = tree.add("DSET", dataset_id)
    entry.put("PATH", path)
    entry.put("BYPASS", int(is_bypass))
    entry.set("DSETDESC", descriptor.copy())


def remove_dataset(tree: KVTree, dataset_id: int) -> None:
    """Remove a dataset; absent is fine."""
    tree.unset_kv("DSET", dataset_id)


def current(tree: KVTree) -> Optional[str]:
    """Return the name of SCR_CURRENT that was handled already, None if there was none."""
    return tree.text("CURRENT")


def set_current(tree: KVTree, name: str) -> None:
    """Record that the wish of SCR_CURRENT has been handled."""
    tree.put("CURRENT", name)
