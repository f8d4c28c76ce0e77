# SPDX-License-Identifier: BSD-3-Clause
"""index.scr: the datasets in the prefix, and which checkpoint to restart from.

Written by the library's rank 0 and by scr_index, no lock; always read, changed, written. ``Index``
has the primitive operations of both. Two faults of SCR 3.1 are not repeated: dropping later datasets
also moves CURRENT, and a CURRENT that names no dataset, or ids below 1, are ignored.

Source: docs/formats/index.md.
"""

from __future__ import annotations

import time
from typing import List, NamedTuple, Optional, Tuple

from scrjob.errors import DatasetError, UnsupportedVersionError
from scrjob.formats import dataset, kvtree
from scrjob.formats.kvtree import KVTree, as_text

VERSION = 2
NO_LIMIT = -1


class IndexEntry(NamedTuple):
    """One dataset of the index. Times are as recorded: local, ``YYYY-MM-DDTHH:MM:SS``."""

    id: int
    descriptor: dataset.Descriptor
    complete: bool
    failed: Optional[str]
    flushed: Optional[str]
    fetched: Tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Tell whether all files are there and no restart from it failed."""
        return self.complete and self.failed is None

    @property
    def is_usable(self) -> bool:
        """Tell whether a job may restart from it by itself."""
        return self.is_valid and self.descriptor.is_ckpt


def timestamp(now: float) -> str:
    """Return Unix seconds as the index records them: local time, no zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(int(now)))


class Index:
    """The operations on an index.

    Args:
        tree: what the file holds, changed in place; None for a new index.
    """

    def __init__(self, tree: Optional[KVTree] = None) -> None:
        self.tree = KVTree() if tree is None else tree

    @classmethod
    def read(cls, path: str, *, to_change: bool = True) -> Index:
        """Return the index in a file.

        ``to_change=False`` leaves out what only matters for the bytes of a changed file.

        Raises:
            UnsupportedVersionError: it has no version, or not 2; also an empty file.
            FormatError and children: it is damaged.
            OSError: it cannot be read; FileNotFoundError if absent.
        """
        tree = kvtree.read(path)
        if to_change:
            # SCR reads into a temporary tree first: its second merge turns the order at every level.
            tree = tree.reversed()
        version = tree.integer("VERSION")
        if version is None:
            raise UnsupportedVersionError("Failed to find file format version", path=path)
        if version != VERSION:
            raise UnsupportedVersionError(
                f"Found file format version {version} but expected {VERSION}", path=path
            )
        return cls(tree)

    def write(self, path: str) -> None:
        """Replace the file.

        Raises:
            OSError: nothing was changed.
        """
        if "VERSION" not in self.tree:
            self.tree.put("VERSION", VERSION)
        kvtree.write(path, self.tree)

    # Questions.

    def ids(self) -> List[int]:
        """Return the ids of all datasets, ascending."""
        return [number for number in (self.tree.child("DSET") or KVTree()).ints() if number > 0]

    def id_of(self, name: str) -> Optional[int]:
        """Return the id of a named dataset, None if the name is not known."""
        found = self.tree.child("NAME", name)
        number = None if found is None else found.integer("DSET")
        return number if number is not None and number > 0 else None

    def entry(self, dataset_id: int) -> Optional[IndexEntry]:
        """Return what is known of a dataset, None if it is not listed."""
        found = self.tree.child(b"DSET", dataset_id)
        if found is None:
            return None
        failed = found.values(b"FAILED")
        return IndexEntry(
            id=dataset_id,
            descriptor=dataset.parse(found.child(b"DSET") or KVTree()),
            complete=found.integer(b"COMPLETE") == 1,
            failed=as_text(failed[0]) if failed else ("" if b"FAILED" in found else None),
            flushed=found.text(b"FLUSHED"),
            fetched=tuple(map(as_text, found.values(b"FETCHED"))),
        )

    def entries(self) -> List[IndexEntry]:
        """Return all datasets, newest first."""
        found = (self.entry(number) for number in reversed(self.ids()))
        return [entry for entry in found if entry is not None]

    def current(self) -> Optional[str]:
        """Return the name of the checkpoint to restart from, None if none is set or it is not known."""
        name = self.tree.text("CURRENT")
        return name if name is not None and self.id_of(name) is not None else None

    def latest_usable(self, limit: int = NO_LIMIT) -> Optional[IndexEntry]:
        """Return the newest checkpoint that a job may restart from, with an id below ``limit``."""
        for number in reversed(self.ids()):
            if limit == NO_LIMIT or number < limit:
                entry = self.entry(number)
                if entry is not None and entry.is_usable:
                    return entry
        return None

    def oldest(self) -> Optional[int]:
        """Return the smallest id, None if the index is empty."""
        return min(self.ids(), default=None)

    def max_ids(self) -> Tuple[int, int, int]:
        """Return the largest id, the largest checkpoint counter and the id that has it; 0 for none."""
        numbers = self.ids()
        counters = [
            (entry.descriptor.ckpt or 0, entry.id)
            for entry in self.entries()
            if entry.descriptor.is_ckpt
        ]
        counter, holder = max(counters, default=(0, 0))
        return (numbers[-1] if numbers else 0), counter, holder

    # Changes.

    def remove(self, name: str) -> bool:
        """Remove a dataset and tell whether it was known; its files stay.

        If it was CURRENT, the newest usable older checkpoint becomes CURRENT.
        """
        number = self._recorded_id(name)
        if number is None:
            self.tree.unset_kv("CURRENT", name)
            return False
        self.tree.unset_kv("NAME", name)
        self.tree.unset_kv("DSET", number)
        if self.tree.text("CURRENT") == name:
            self.tree.unset("CURRENT")
            older = self.latest_usable(number) if number > 0 else None
            if older is not None and older.descriptor.name is not None:
                self.tree.put("CURRENT", older.descriptor.name)
        return True

    def _recorded_id(self, name: str) -> Optional[int]:
        found = self.tree.child("NAME", name)
        return None if found is None else found.integer("DSET")

    def remove_later(self, dataset_id: int) -> None:
        """Remove all datasets with a larger id; CURRENT as in ``remove``."""
        for number in self.ids():
            if number > dataset_id:
                entry = self.entry(number)
                name = None if entry is None else entry.descriptor.name
                if name is None or not self.remove(name):
                    self.tree.unset_kv("DSET", number)

    def set_current(self, name: str) -> None:
        """Make a checkpoint the one to restart from, whether it is complete or not.

        Raises:
            DatasetError: no checkpoint of that name is listed.
        """
        number = self.id_of(name)
        entry = None if number is None else self.entry(number)
        if entry is None or not entry.descriptor.is_ckpt:
            raise DatasetError(f"{name}: no checkpoint of that name in the index")
        self.tree.put("CURRENT", name)

    def unset_current(self) -> None:
        """Forget which checkpoint to restart from."""
        self.tree.unset("CURRENT")

    def set_dataset(
        self, dataset_id: int, name: str, descriptor: KVTree, *, complete: bool
    ) -> None:
        """List a dataset, or bring it up to date."""
        entry = self.tree.add("DSET", dataset_id)
        entry.set("DSET", descriptor.reversed())
        entry.put("COMPLETE", int(complete))
        self._name(dataset_id, name)

    def mark_flushed(self, dataset_id: int, name: str, when: str) -> None:
        """Record when all files of a dataset had reached the prefix."""
        self.tree.add("DSET", dataset_id).put("FLUSHED", when)
        self._name(dataset_id, name)

    def mark_failed(self, dataset_id: int, name: str, when: str) -> None:
        """Record that a restart from a dataset failed; it is never used again by itself."""
        self.tree.add("DSET", dataset_id).put("FAILED", when)
        self._name(dataset_id, name)

    def clear_failed(self, dataset_id: int) -> None:
        """Forget that a restart from a dataset failed."""
        entry = self.tree.child("DSET", dataset_id)
        if entry is not None:
            entry.unset("FAILED")

    def mark_fetched(self, dataset_id: int, name: str, when: str) -> None:
        """Record an attempt to fetch a dataset."""
        self.tree.add("DSET", dataset_id, "FETCHED", when)
        self._name(dataset_id, name)

    def _name(self, dataset_id: int, name: str) -> None:
        self.tree.add("NAME", name).put("DSET", dataset_id)

    def put_complete(
        self, dataset_id: int, name: str, descriptor: KVTree, *, complete: bool, when: str
    ) -> None:
        """List a dataset afresh after a flush, build or add: whatever was known of the name goes."""
        self.remove(name)
        self.set_dataset(dataset_id, name, descriptor, complete=complete)
        self.mark_flushed(dataset_id, name, when)


_HEADING = "DSET VALID FLUSHED             CUR NAME"
_UNKNOWN_NAME = "UNKNOWN_NAME"


def table_text(index: Index) -> str:
    """Return the table of checkpoints, newest first, without a final newline."""
    current = index.current()
    lines = [_HEADING]
    below = index.tree.child(b"DSET") or KVTree()
    # Only what the table needs: an index of ten thousand datasets is listed in a moment.
    for number in reversed(index.ids()):
        found = below.child(number)
        descriptor = None if found is None else found.child(b"DSET")
        if found is None or descriptor is None or not descriptor.integer(b"FLAG_CKPT"):
            continue
        valid = "YES" if found.integer(b"COMPLETE") == 1 and b"FAILED" not in found else "NO"
        name = descriptor.text(b"NAME")
        star = "*" if name is not None and name == current else ""
        shown = _UNKNOWN_NAME if name is None else name
        flushed = found.text(b"FLUSHED") or ""
        lines.append(f"{number:4d} {valid:<5} {flushed:<19} {star:>3} {shown}")
    return "\n".join(lines)
