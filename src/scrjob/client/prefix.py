# SPDX-License-Identifier: BSD-3-Clause
"""SCR's files in the prefix directory, as the library keeps them. Only rank 0 calls any of this.

flush.scr and index.scr are always read, changed and replaced as a whole; halt.scr is changed in place
under its lock.

Source: docs/formats/flush.md, docs/formats/index.md, docs/formats/halt.md.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Callable, Iterable, NamedTuple, Optional, Sequence

from scrjob._fsio import atomic_write
from scrjob.errors import DatasetError, FormatError
from scrjob.formats import flush, halt, kvtree, nodes, paths, rank2file, summary
from scrjob.formats.index import Index, timestamp
from scrjob.formats.kvtree import KVTree
from scrjob.redundancy.paths import make_dirs

if TYPE_CHECKING:
    from scrjob.formats.cindex import CachedDataset
    from scrjob.protocols import Clock

logger = logging.getLogger(__name__)

DIRECTORY_MODE = 0o777  # before the umask, as the C library makes them


class Candidate(NamedTuple):
    """A checkpoint in the prefix that a restart may use."""

    id: int
    name: str


class Stored(NamedTuple):
    """What is needed to fetch a dataset: descriptor, and each rank's files relative to the prefix."""

    descriptor: KVTree
    files: list[list[str]]


class Prefix:
    """The prefix directory.

    Args:
        path: absolute.
        clock: for times in the index.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def prepare(self, app_conf: str) -> None:
        """Make ``.scr`` and record what the program set."""
        make_dirs(paths.scr_dir(self.path), DIRECTORY_MODE)
        data = app_conf.encode("utf-8", "surrogateescape")
        atomic_write(os.path.join(paths.scr_dir(self.path), "app.conf"), data)

    def write_nodes(self, count: int) -> None:
        """Record how many nodes the run uses."""
        kvtree.write(paths.nodes_file(self.path), nodes.build(count))

    # Where datasets are.

    def _flush_file(self) -> KVTree:
        try:
            return kvtree.read(paths.flush_file(self.path))
        except FileNotFoundError:
            return KVTree()
        except FormatError as error:
            logger.warning("starting a new flush file: %s", error)
            return KVTree()

    def change_flush(self, *changes: Callable[[KVTree], object]) -> None:
        """Apply changes to the flush file."""
        tree = self._flush_file()
        for change in changes:
            change(tree)
        kvtree.write(paths.flush_file(self.path), tree)

    def locate(self, dataset_id: int, *add: str, remove: Sequence[str] = ()) -> None:
        """Add and remove states of a dataset."""

        def change(tree: KVTree) -> None:
            for state in add:
                flush.add_location(tree, dataset_id, state)
            for state in remove:
                flush.remove_location(tree, dataset_id, state)

        self.change_flush(change)

    def flushed(self, ids: Iterable[int]) -> set[int]:
        """Return those of the datasets that are in the prefix."""
        tree = self._flush_file()
        entries = [flush.entry(tree, number) for number in ids]
        return {entry.id for entry in entries if entry is not None and flush.PFS in entry.locations}

    def match_cache(self, cached: Sequence[CachedDataset]) -> None:
        """Make the flush file list just what is in cache, with names and flags."""
        tree = self._flush_file()
        for number in set(flush.ids(tree)) - {entry.id for entry in cached}:
            flush.remove(tree, number)
        for entry in cached:
            flush.add_location(tree, entry.id, flush.CACHE)
            for state in (flush.FLUSHING, flush.SYNC_FLUSHING):
                flush.remove_location(tree, entry.id, state)
            flush.refill(tree, entry.id, entry.descriptor or KVTree())
        kvtree.write(paths.flush_file(self.path), tree)

    # The index.

    def index(self) -> Index:
        """Return the index, an empty one if there is none.

        Raises:
            FormatError: it is damaged; it is left alone, it may be all that is known of old datasets.
        """
        try:
            return Index.read(paths.index_file(self.path))
        except FileNotFoundError:
            return Index()

    def change_index(self, *changes: Callable[[Index], object]) -> None:
        """Apply changes to the index."""
        index = self.index()
        for change in changes:
            change(index)
        index.write(paths.index_file(self.path))

    def now(self) -> str:
        """Return the time as the index records it."""
        return timestamp(self._clock.now())

    def announce(self, dataset_id: int, name: str, descriptor: KVTree) -> None:
        """List a dataset whose files are about to be written: not complete."""
        make_dirs(paths.dataset_dir(self.path, dataset_id), DIRECTORY_MODE)
        self.change_index(
            lambda index: index.remove(name),
            lambda index: index.set_dataset(dataset_id, name, descriptor, complete=False),
        )

    def publish(
        self, dataset_id: int, name: str, descriptor: KVTree, files: Sequence[Sequence[str]]
    ) -> None:
        """List a dataset whose files are all in the prefix; a checkpoint becomes the current one.

        Not if a newer one is that: this one was flushed late.

        Args:
            dataset_id: its id.
            name: its name.
            descriptor: complete.
            files: each rank's paths, relative to the prefix.
        """
        entries = {rank: rank2file.entry(names) for rank, names in enumerate(files)}
        rank2file.write(paths.rank2file(self.path, dataset_id), entries, len(files))
        kvtree.write(
            paths.summary_file(self.path, dataset_id), summary.build(descriptor, complete=True)
        )
        index = self.index()
        index.put_complete(dataset_id, name, descriptor, complete=True, when=self.now())
        current = index.current()
        newest = 0 if current is None else index.id_of(current) or 0
        if descriptor.integer("FLAG_CKPT") and newest <= dataset_id:
            index.set_current(name)
        index.write(paths.index_file(self.path))

    def candidate(self, below: Optional[int]) -> Optional[Candidate]:
        """Return the checkpoint to try next and record the attempt, None if there is none left.

        CURRENT comes first; else the newest usable one, with an id under ``below`` unless that is None.
        """
        index = self.index()
        name = index.current()
        number = None if name is None else index.id_of(name)
        if number is None or (below is not None and number >= below):
            entry = index.latest_usable() if below is None else index.latest_usable(below)
            name, number = (entry.descriptor.name, entry.id) if entry else (None, None)
        if name is None or number is None:
            return None
        index.mark_fetched(number, name, self.now())
        index.write(paths.index_file(self.path))
        return Candidate(number, name)

    def stored(self, dataset_id: int) -> Stored:
        """Return what is needed to fetch a dataset.

        Raises:
            FormatError, OSError: its metadata cannot be read.
            DatasetError: it is no checkpoint, or files are not listed for every rank.
        """
        found = summary.parse(kvtree.read(paths.summary_file(self.path, dataset_id)))
        if found.descriptor is None or found.descriptor.integer("CKPT") is None:
            raise DatasetError(f"dataset {dataset_id}: its summary describes no checkpoint")
        table = rank2file.read(paths.rank2file(self.path, dataset_id))
        if table.missing():
            raise DatasetError(
                f"dataset {dataset_id}: no files listed for ranks {table.missing()[:9]}"
            )
        return Stored(
            found.descriptor, [rank2file.files(table.entries[r]) for r in range(table.ranks)]
        )

    def fail(self, dataset_id: int, name: str) -> None:
        """Record that a restart from a dataset failed, if it is listed at all."""
        index = self.index()
        if index.id_of(name) == dataset_id:
            if index.current() == name:
                index.unset_current()
            index.mark_failed(dataset_id, name, self.now())
            index.write(paths.index_file(self.path))

    # Halting.

    def check_halt(self, memory: KVTree, decrement: int) -> KVTree:
        """Do the library's update of the halt file; returns what it says now.

        A file that cannot be written must not stop the program: what is remembered stands.
        """
        try:
            return halt.program_update(paths.halt_file(self.path), memory, decrement=decrement)
        except OSError as error:
            logger.warning("cannot update the halt file: %s", error)
            return memory
