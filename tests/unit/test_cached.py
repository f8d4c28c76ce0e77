# SPDX-License-Identifier: BSD-3-Clause
"""What a second start in an allocation lost of flush.scr comes back from the caches: a real run's entries."""

from __future__ import annotations

import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from archives import unpack
from scrjob.cached import Held, refill_flush_file
from scrjob.formats import flush, kvtree

Golden = Callable[[str], Path]


class Prefix:
    """The prefix of a run with a node death, whose caches hold datasets 14 and 15; 15 was scavenged."""

    def __init__(self, golden: Golden, tmp_path: Path) -> None:
        with tarfile.open(golden("failrun") / "prefix.tar") as archive:
            unpack(archive, tmp_path)
        (self.flush,) = tmp_path.rglob("flush.scr")
        self.before = kvtree.read(str(self.flush))
        found = {number: flush.entry(self.before, number) for number in (14, 15)}
        descriptors = {number: entry.descriptor for number, entry in found.items() if entry}
        self.held = Held({n: tree for n, tree in descriptors.items() if tree}, {}, {})
        scr = self.flush.parent
        self.env: Any = SimpleNamespace(
            dir_scr=lambda: str(scr), dir_prefix=lambda: str(scr.parent)
        )

    def refilled(self) -> kvtree.KVTree:
        refill_flush_file(self.env, self.held)
        return kvtree.read(str(self.flush))


@pytest.fixture
def prefix(golden: Golden, tmp_path: Path) -> Prefix:
    return Prefix(golden, tmp_path)


def test_entries_of_which_only_the_location_was_left(prefix: Prefix) -> None:
    """As the library makes them when it rebuilds its cache after the first flush.scr was removed."""
    tree = kvtree.KVTree()
    for number in (14, 15):
        flush.add_location(tree, number, flush.CACHE)
    kvtree.write(str(prefix.flush), tree)
    assert flush.list_ckpt(tree) == []
    after = prefix.refilled()
    assert after == prefix.before
    assert flush.list_ckpt(after) == [15, 14]


def test_entries_that_are_not_there_and_what_the_index_knows(prefix: Prefix) -> None:
    prefix.flush.unlink()
    after = prefix.refilled()
    assert [flush.need_flush(after, number) for number in (14, 15)] == [True, False]
    flush.remove_location(after, 15, flush.PFS)
    assert after == prefix.before


def test_what_is_complete_is_not_written_again(prefix: Prefix) -> None:
    status = prefix.flush.stat()
    prefix.refilled()
    assert prefix.flush.stat().st_mtime_ns == status.st_mtime_ns
    assert prefix.flush.stat().st_ino == status.st_ino
