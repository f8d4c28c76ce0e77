# SPDX-License-Identifier: BSD-3-Clause
"""<set>.er.er: whether a redundancy set is encoded. <set>.er.shuffile: which rank owns which file.

A set is ``reddesc`` (application files) or ``reddescmap`` (filemaps). Both files are written by the
lowest rank of a node and needed only for a restart in place; a scavenge leaves them behind.

Source: docs/formats/redundancy-header.md, "state files".
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple

from scrjob.formats.kvtree import KVTree, as_text

STATE_CORRUPT = 1
STATE_ENCODED = 2


def state_name(set_name: str) -> str:
    """Return the name of a set's state file."""
    return f"{set_name}.er.er"


def shuffile_name(set_name: str) -> str:
    """Return the name of a set's ownership file."""
    return f"{set_name}.er.shuffile"


def build_state(state: int) -> KVTree:
    """Return the tree of a state file; ``STATE_CORRUPT`` while an encode or rebuild is at work."""
    return KVTree.of({"STATE": state})


def is_encoded(tree: KVTree) -> bool:
    """Tell whether the set is encoded; anything unclear is not."""
    return tree.integer("STATE") == STATE_ENCODED


def build_shuffile(files: Mapping[int, Sequence[str]]) -> KVTree:
    """Return the tree for world rank -> absolute paths of its files in this set."""
    tree = KVTree()
    for rank, paths in files.items():
        entry = tree.add("RANK", rank)
        entry.set("FILE", KVTree.of({path: {} for path in paths}))
        entry.put("FILES", len(paths))
    return tree


def parse_shuffile(tree: KVTree) -> Dict[int, Optional[Tuple[str, ...]]]:
    """Return world rank -> paths, by ascending rank; None where the count does not match the list."""
    below = tree.child("RANK") or KVTree()
    found: Dict[int, Optional[Tuple[str, ...]]] = {}
    for rank in below.ints():
        entry = below.child(rank) or KVTree()
        paths = tuple(map(as_text, entry.values("FILE")))
        found[rank] = paths if entry.integer("FILES") == len(paths) else None
    return found
