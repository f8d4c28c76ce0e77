# SPDX-License-Identifier: BSD-3-Clause
"""The datasets in cache: the same table on every rank, and each node's cache index.

Changing the table is done by all ranks together; the lowest rank of each node keeps its files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from typing import TYPE_CHECKING, Optional

from scrjob.client import layout
from scrjob.errors import FormatError
from scrjob.formats import cindex, er, kvtree, redset_header
from scrjob.formats.cindex import CachedDataset
from scrjob.formats.kvtree import KVTree
from scrjob.redundancy.paths import make_dirs

if TYPE_CHECKING:
    from scrjob.client.layout import Layout
    from scrjob.client.team import Team

logger = logging.getLogger(__name__)

DATASET_MODE = 0o700


class Cache:
    """The table. ``datasets``: by ascending id. ``current``: name already handled from SCR_CURRENT."""

    def __init__(self, team: Team, places: Layout) -> None:
        self._team = team
        self._places = places
        self.datasets: dict[int, CachedDataset] = {}
        self.current: Optional[str] = None

    def load(self) -> None:
        """Take what the nodes' indexes say, all together. Collective.

        A node that has none, or a damaged one, adds nothing: its files are found through the others'.
        """
        found: dict[int, CachedDataset] = {}
        own = self._own_datasets() if self._team.is_leader else {}
        for others, current in self._team.comm.allgather((own, self.current)):
            self.current = self.current or current
            for number, entry in others.items():
                if number not in found or _version(entry) > _version(found[number]):
                    found[number] = entry
        self.datasets = dict(sorted(found.items()))
        with self._team.together("deleting what is left of other runs"):
            for number, entry in own.items():
                # A node that was away may hold an older dataset under a number that was used again.
                if _version(entry)[1] != _version(found[number])[1]:
                    _delete(entry.path or "")

    def _own_datasets(self) -> dict[int, CachedDataset]:
        tree = self._read_own()
        self.current = cindex.current(tree)
        found = {}
        for number, entry in cindex.datasets(tree).items():
            if entry.path is None or not self._places.owns(entry.path):
                logger.warning("dataset %d in cache: %r is no place of ours", number, entry.path)
            else:
                found[number] = entry
        return found

    def _read_own(self) -> KVTree:
        try:
            return kvtree.read(self._places.cindex)
        except FileNotFoundError:
            return KVTree()
        except (FormatError, OSError) as error:
            logger.warning("cannot read the cache index: %s", error)
            return KVTree()

    def put(self, dataset_id: int, descriptor: KVTree, *, is_bypass: bool) -> CachedDataset:
        """Add a dataset, or bring its descriptor up to date, on every node. Collective."""
        known = self.datasets.get(dataset_id)
        path = (known.path if known else None) or self._places.dataset(dataset_id)
        entry = CachedDataset(dataset_id, path, is_bypass, descriptor)
        self.datasets[dataset_id] = entry
        self.datasets = dict(sorted(self.datasets.items()))
        self.store()
        return entry

    def store(self) -> None:
        """Write the table to every node. Collective."""
        tree = KVTree()
        for entry in self.datasets.values():
            cindex.put_dataset(
                tree,
                entry.id,
                path=entry.path or "",
                is_bypass=entry.is_bypass,
                descriptor=entry.descriptor or KVTree(),
            )
        if self.current is not None:
            cindex.set_current(tree, self.current)
        with self._team.together("writing the cache index"):
            if self._team.is_leader:
                kvtree.write(self._places.cindex, tree)

    def make_directories(self, path: str, *, fresh: bool) -> None:
        """Make a dataset's directories on every node; ``fresh``: without what may lie there. Collective."""
        with self._team.together("making the dataset's directory in cache"):
            if self._team.is_leader:
                if fresh and os.path.lexists(path):
                    shutil.rmtree(path)
                make_dirs(layout.hidden(path), DATASET_MODE)

    def remove(self, dataset_id: int) -> None:
        """Delete a dataset from the cache of every node. Collective."""
        entry = self.datasets.pop(dataset_id)
        with self._team.together("deleting a dataset from cache"):
            if self._team.is_leader and entry.path is not None:
                _delete(entry.path)
        self.store()

    def newest_checkpoint(self) -> Optional[CachedDataset]:
        """Return the complete checkpoint with the highest id, None if there is none."""
        return next(
            (entry for entry in reversed(list(self.datasets.values())) if is_checkpoint(entry)),
            None,
        )


def is_checkpoint(entry: CachedDataset) -> bool:
    """Tell whether a dataset is a complete checkpoint."""
    return entry.details is not None and entry.details.is_ckpt and bool(entry.details.complete)


def _version(entry: CachedDataset) -> tuple[bool, int]:
    """Return what tells two datasets of one number apart: complete before open, then the newer."""
    details = entry.details
    return (False, 0) if details is None else (bool(details.complete), details.created_us or 0)


def _delete(path: str) -> None:
    """Delete a dataset's directory; its states first, so that half a dataset is never taken for one."""
    for set_name in (redset_header.MAP_SET, redset_header.DATA_SET):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(layout.hidden(path), er.state_name(set_name)))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
