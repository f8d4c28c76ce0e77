# SPDX-License-Identifier: BSD-3-Clause
"""The datasets in cache, asked from the nodes, and what the flush file forgot of them."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence

from scrjob.errors import FormatError, NotSupportedError
from scrjob.formats import dataset, flush, kvtree
from scrjob.formats.index import Index
from scrjob.node.command import node_command

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

ASK_S = 20.0
SENSELESS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError)
"""What reading the answer of a node raises if it is none of ours."""


class Held(NamedTuple):
    """What nodes have in cache.

    Attributes:
        datasets: id -> descriptor of the complete datasets that any node has; of two of one id the newer.
        places: id -> node -> directory of the dataset on it.
        tokens: id -> node -> what is the same for nodes that see the same directory.
    """

    datasets: dict[int, kvtree.KVTree]
    places: dict[int, dict[str, str]]
    tokens: dict[int, dict[str, str]]

    def copiers(self, dataset_id: int, nodes: Sequence[str]) -> list[list[str]]:
        """Return the nodes in groups, in their order: those of a group see the same cache directory.

        A node of which nothing is known is a group of its own.
        """
        tokens = self.tokens.get(dataset_id, {})
        groups: dict[str, list[str]] = {}
        for node in nodes:
            # A token is hexadecimal digits: it is never taken for a node that is alone.
            groups.setdefault(tokens.get(node) or f"node {node}", []).append(node)
        return list(groups.values())


def ask_what_is_held(
    jobenv: JobEnvironment, *cntldirs: str, nodes: Sequence[str], level: int = logging.WARNING
) -> Held:
    """Return what ``nodes`` have in cache; nothing of those that do not answer.

    Without remote execution nothing is known of any.

    Args:
        jobenv: the job.
        cntldirs: control directories on the nodes.
        nodes: whom to ask.
        level: of what is logged of a node that does not answer, or with nonsense.
    """
    argv = node_command("cached", *cntldirs)
    held = Held({}, {}, {})
    try:
        result = jobenv.rexec.bounded(ASK_S).rexec(argv, list(nodes), jobenv)
    except NotSupportedError as error:
        logger.debug("cached datasets cannot be asked for: %s", error)
        return held
    for node in nodes:
        if result.rc(node) is None:
            why = result.failure(node)
            logger.log(level, "node %s does not say what it has in cache: %s", node, why)
            continue
        if result.stderr(node):
            logger.log(level, "node %s: %s", node, result.stderr(node).strip())
        try:
            for row in json.loads(result.stdout(node) or "[]"):
                _take(held, node, row)
        except SENSELESS as error:
            what = "its list of cached datasets makes no sense"
            logger.log(level, "node %s: %s: %s", node, what, error)
    return held


def _take(held: Held, node: str, row: dict[str, Any]) -> None:
    dataset_id = int(row["id"])
    tree = kvtree.decode(bytes.fromhex(row["descriptor"]), f"answer of {node}")
    about = dataset.parse(tree)
    if not about.complete:
        return
    known = held.datasets.get(dataset_id)
    # A node that was away may hold an older one: the number was used again.
    if known is None or (dataset.parse(known).created_us or 0) < (about.created_us or 0):
        held.datasets[dataset_id] = tree
    # Another one of this number, on a node that was away, shares nothing with those of the others.
    if row.get("path"):
        held.places.setdefault(dataset_id, {})[node] = str(row["path"])
    if row.get("token"):
        held.tokens.setdefault(dataset_id, {})[node] = str(row["token"])


def cached_datasets(jobenv: JobEnvironment, nodes: Sequence[str]) -> dict[int, kvtree.KVTree]:
    """Return the descriptors of the complete datasets that any of ``nodes`` has in cache, by id.

    A node that does not answer adds nothing. Without remote execution the answer is {}.
    """
    return ask_what_is_held(jobenv, *jobenv.dir_control(), nodes=nodes).datasets


def refill_flush_file(jobenv: JobEnvironment, held: Held) -> None:
    """Give entries of flush.scr without name and flags what the caches know; add missing ones.

    The C library makes such entries after a fetch or a rebuild; without the rest no scavenge would
    find them. A damaged flush file is kept as ``flush.scr.damaged`` and made anew.

    Raises:
        OSError: the flush file cannot be read or written.
    """
    if not held.datasets:
        return
    path = flush_path(jobenv)
    try:
        tree = kvtree.read(path)
    except FileNotFoundError:
        tree = kvtree.KVTree()
    except FormatError as error:
        logger.warning("%s; it is made anew from the cache", error)
        os.replace(path, f"{path}.damaged")
        tree = kvtree.KVTree()
    changed = False
    for dataset_id, descriptor in sorted(held.datasets.items()):
        if flush.entry(tree, dataset_id) is None:
            flush.put_dataset(tree, dataset_id, descriptor)
            if _in_prefix(jobenv, dataset_id, descriptor):
                flush.add_location(tree, dataset_id, flush.PFS)
            changed = True
        else:
            changed |= flush.refill(tree, dataset_id, descriptor)
    if changed:
        kvtree.write(path, tree)


def not_in_flush_file(jobenv: JobEnvironment, held: Held) -> dict[int, dataset.Descriptor]:
    """Return what nodes hold, by id, that neither flush.scr names nor the index has as complete."""
    try:
        tree = kvtree.read(flush_path(jobenv))
    except (OSError, FormatError):
        tree = kvtree.KVTree()
    found = {}
    for dataset_id, descriptor in sorted(held.datasets.items()):
        entry = flush.entry(tree, dataset_id)
        named = entry is not None and (entry.name or flush.PFS in entry.locations)
        if not named and not _in_prefix(jobenv, dataset_id, descriptor):
            found[dataset_id] = dataset.parse(descriptor)
    return found


def flush_path(jobenv: JobEnvironment) -> str:
    """Return the path of the flush file."""
    return os.path.join(jobenv.dir_scr(), "flush.scr")


def describe_in_flush_file(
    jobenv: JobEnvironment, dataset_id: int, nodes: Sequence[str], cntldir: str
) -> None:
    """Have flush.scr describe a dataset, as ``refill_flush_file`` does; if it does, leave it alone.

    The program may be running, whose library writes that file, too.

    Raises:
        ScrError: the nodes cannot be asked.
        OSError: as ``refill_flush_file`` does.
    """
    try:
        found = flush.entry(kvtree.read(flush_path(jobenv)), dataset_id)
    except (FileNotFoundError, FormatError):
        found = None
    if found is None or not found.descriptor:
        # By hand also into a prefix that was made anew.
        os.makedirs(jobenv.dir_scr(), exist_ok=True)
        refill_flush_file(jobenv, ask_what_is_held(jobenv, cntldir, nodes=nodes))


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
