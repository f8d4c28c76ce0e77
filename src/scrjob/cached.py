# SPDX-License-Identifier: BSD-3-Clause
"""The datasets in cache, asked from the nodes, and what the flush file forgot of them."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.errors import FormatError, NotSupportedError
from scrjob.formats import dataset, flush, kvtree
from scrjob.formats.index import Index
from scrjob.node.command import node_command

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

ASK_S = 20.0


def cached_datasets(jobenv: JobEnvironment, nodes: Sequence[str]) -> dict[int, kvtree.KVTree]:
    """Return the descriptors of the complete datasets that any of ``nodes`` has in cache, by id.

    A node that does not answer adds nothing. Without remote execution the answer is {}.
    """
    argv = node_command("cached", *jobenv.dir_control())
    try:
        result = jobenv.rexec.bounded(ASK_S).rexec(argv, list(nodes), jobenv)
    except NotSupportedError as error:
        logger.debug("cached datasets cannot be asked for: %s", error)
        return {}
    found: dict[int, kvtree.KVTree] = {}
    for node in nodes:
        if result.rc(node) is None:
            logger.warning(
                "node %s does not say what it has in cache: %s", node, result.failure(node)
            )
            continue
        if result.stderr(node):
            logger.warning("node %s: %s", node, result.stderr(node).strip())
        try:
            for row in json.loads(result.stdout(node) or "[]"):
                tree = kvtree.decode(bytes.fromhex(row["descriptor"]), f"answer of {node}")
                if dataset.parse(tree).complete:
                    found.setdefault(int(row["id"]), tree)
        except (ValueError, KeyError, TypeError, FormatError) as error:
            logger.warning("node %s: its list of cached datasets makes no sense: %s", node, error)
    return found


def refill_flush_file(jobenv: JobEnvironment, nodes: Sequence[str]) -> None:
    """Give entries of flush.scr without name and flags what the cache index knows; add missing ones.

    The C library makes such entries after a fetch or a rebuild; without the rest no scavenge would
    find them. A damaged flush file is kept as ``flush.scr.damaged`` and made anew.
    """
    found = cached_datasets(jobenv, nodes)
    if not found:
        return
    path = os.path.join(jobenv.dir_scr(), "flush.scr")
    try:
        tree = kvtree.read(path)
    except FileNotFoundError:
        tree = kvtree.KVTree()
    except FormatError as error:
        logger.warning("%s; it is made anew from the cache", error)
        os.replace(path, f"{path}.damaged")
        tree = kvtree.KVTree()
    changed = False
    for dataset_id, descriptor in sorted(found.items()):
        if flush.entry(tree, dataset_id) is None:
            flush.put_dataset(tree, dataset_id, descriptor)
            if _in_prefix(jobenv, dataset_id, descriptor):
                flush.add_location(tree, dataset_id, flush.PFS)
            changed = True
        else:
            changed |= flush.refill(tree, dataset_id, descriptor)
    if changed:
        kvtree.write(path, tree)


def _in_prefix(jobenv: JobEnvironment, dataset_id: int, descriptor: kvtree.KVTree) -> bool:
    """Tell whether the index has this very dataset as complete."""
    try:
        entry = Index.read(os.path.join(jobenv.dir_scr(), "index.scr")).entry(dataset_id)
    except (OSError, FormatError):
        return False
    return (
        entry is not None
        and entry.is_valid
        and entry.descriptor.created_us == dataset.parse(descriptor).created_us
    )


def newest_checkpoint(jobenv: JobEnvironment, nodes: Sequence[str]) -> Optional[str]:
    """Return the name of the newest complete checkpoint in cache, None if there is none."""
    for _, tree in sorted(cached_datasets(jobenv, nodes).items(), reverse=True):
        descriptor = dataset.parse(tree)
        if descriptor.is_ckpt and descriptor.name:
            return descriptor.name
    return None
