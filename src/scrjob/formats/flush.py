# SPDX-License-Identifier: BSD-3-Clause
"""flush.scr: where each dataset of the running job lies. Written by the library's rank 0, no lock.

Source: docs/formats/flush.md.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from scrjob.formats.kvtree import KVTree, as_text

CACHE = "CACHE"
PFS = "PFS"
FLUSHING = "FLUSHING"
SYNC_FLUSHING = "SYNC_FLUSHING"
NO_LOCATION = "NONE"


class FlushEntry(NamedTuple):
    """One dataset; ``locations`` with the most recently added state first."""

    id: int
    name: Optional[str]
    locations: Tuple[str, ...]
    is_ckpt: bool
    is_output: bool
    descriptor: Optional[KVTree]


def ids(tree: KVTree) -> List[int]:
    """Return the ids of all datasets, ascending; ids below 1 are ignored."""
    return [number for number in (tree.child("DATASET") or KVTree()).ints() if number > 0]


def entry(tree: KVTree, dataset_id: int) -> Optional[FlushEntry]:
    """Return what is known of a dataset, None if it is not listed."""
    found = _node(tree, dataset_id)
    if found is None:
        return None
    return FlushEntry(
        id=dataset_id,
        name=found.text("NAME"),
        locations=tuple(map(as_text, found.values("LOCATION"))),
        is_ckpt=found.integer("CKPT") == 1,
        is_output=found.integer("OUTPUT") == 1,
        descriptor=found.child("DSETDESC"),
    )


def list_output(tree: KVTree, before: int = 0) -> List[int]:
    """Return the ids of output datasets, ascending. ``before``: only smaller ones, 0 for all."""
    return [number for number in _filtered(tree, before) if _flag(tree, number, "OUTPUT")]


def list_ckpt(tree: KVTree, before: int = 0) -> List[int]:
    """Return the ids of checkpoints, descending. ``before``: only smaller ones, 0 for all."""
    return [number for number in reversed(_filtered(tree, before)) if _flag(tree, number, "CKPT")]


def _filtered(tree: KVTree, before: int) -> List[int]:
    return [number for number in ids(tree) if before == 0 or number < before]


def _node(tree: KVTree, dataset_id: int) -> Optional[KVTree]:
    return tree.child("DATASET", dataset_id) if dataset_id > 0 else None


def _flag(tree: KVTree, dataset_id: int, key: str) -> bool:
    found = _node(tree, dataset_id)
    return found is not None and found.integer(key) == 1


def need_flush(tree: KVTree, dataset_id: int) -> bool:
    """Tell whether a dataset is listed and not in the prefix."""
    found = _node(tree, dataset_id)
    return found is not None and found.child("LOCATION", PFS) is None


def location(tree: KVTree, dataset_id: int) -> Optional[str]:
    """Return the state added last, "NONE" if all were removed, None if the dataset has no states."""
    found = _node(tree, dataset_id)
    if found is None or "LOCATION" not in found:
        return None
    states = found.values("LOCATION")
    return as_text(states[0]) if states else NO_LOCATION


def latest(tree: KVTree) -> Optional[int]:
    """Return the largest id of any kind, None if there are no datasets."""
    return max(ids(tree), default=None)


def put_dataset(tree: KVTree, dataset_id: int, descriptor: KVTree) -> None:
    """List a dataset that is complete and encoded: it is in cache and nowhere else."""
    found = tree.add("DATASET", dataset_id)
    found.put("NAME", descriptor.value("NAME") or b"")
    found.put("LOCATION", CACHE)
    for key in ("CKPT", "OUTPUT"):
        if descriptor.integer(f"FLAG_{key}"):
            found.put(key, 1)
        else:
            found.unset(key)
    found.set("DSETDESC", descriptor.copy())


def add_location(tree: KVTree, dataset_id: int, state: str) -> None:
    """Add a state to a dataset; lists the dataset if need be."""
    tree.add("DATASET", dataset_id, "LOCATION", state)


def remove_location(tree: KVTree, dataset_id: int, state: str) -> None:
    """Remove a state from a dataset; absent is fine."""
    found = tree.child("DATASET", dataset_id)
    if found is not None:
        found.unset_kv("LOCATION", state)


def remove(tree: KVTree, dataset_id: int) -> None:
    """Remove a dataset; absent is fine."""
    tree.unset_kv("DATASET", dataset_id)


def refill(tree: KVTree, dataset_id: int, descriptor: KVTree) -> bool:
    """Fill what an entry lacks (name, flags, descriptor) and tell whether anything was missing.

    The library makes entries that have only a location after a fetch or a rebuild of the cache;
    without the rest the dataset would not be scavenged. The cache index has the descriptor.
    """
    found = tree.child("DATASET", dataset_id)
    if found is None or found.child("DSETDESC"):
        return False
    states = found.child("LOCATION") or KVTree()
    kept = states.copy()
    put_dataset(tree, dataset_id, descriptor)
    if kept:
        found.set("LOCATION", kept)
    return True
