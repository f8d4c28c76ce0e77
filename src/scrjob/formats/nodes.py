# SPDX-License-Identifier: BSD-3-Clause
"""nodes.scr: how many nodes the last run used. Written by the library, replaced as a whole.

Source: docs/formats/nodes.md.
"""

from __future__ import annotations

from typing import Optional

from scrjob.formats.kvtree import KVTree


def build(count: int) -> KVTree:
    """Return the tree that says ``count`` nodes."""
    return KVTree.of({"NODES": count})


def count(tree: KVTree) -> Optional[int]:
    """Return the number of nodes, None if the tree does not say."""
    return tree.integer("NODES") if tree.value("NODES") is not None else None
