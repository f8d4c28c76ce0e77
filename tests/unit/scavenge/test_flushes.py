# SPDX-License-Identifier: BSD-3-Clause
"""Lesson B5: a scavenge does not race an asynchronous flush, and completes one that had finished.

The prefix is that of a real run with such flushes; dataset 6 was flushed, 5 only lies in cache.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest

from archives import unpack
from cachedworld import Cached, CachedNodes
from scripted_cluster import Cluster
from scrjob.errors import ScavengeError, UnrecoverableError
from scrjob.formats import flush, kvtree, paths
from scrjob.formats.index import Index
from scrjob.postrun import save_datasets
from scrjob.scavenge import ScavengeResult, scavenge_dataset
from scrjob.scavenge.flushes import LOOK_S


class Run:
    """The prefix after the job died in the middle of its flush of dataset 6: all done but the marks."""

    def __init__(self, home: Path, scratch: Path) -> None:
        with tarfile.open(home / "prefix.tar") as file:
            unpack(file, scratch)
        (self.prefix,) = scratch.rglob("meta_async")
        self.cluster = Cluster(self.prefix, ["n1"], [])
        self.path = paths.flush_file(str(self.prefix))
        self.hidden = self.prefix / ".scr" / "scr.dataset.6"
        self.mark(flush.FLUSHING)
        (self.hidden / "summary.scr").unlink()
        index = self.index()
        descriptor = kvtree.read(self.path).child("DATASET", 6, "DSETDESC")
        assert descriptor is not None
        index.remove("ckpt.6")
        index.set_dataset(6, "ckpt.6", descriptor, complete=False)
        index.write(paths.index_file(str(self.prefix)))

    def mark(self, *marks: str) -> None:
        tree = kvtree.read(self.path)
        flush.remove_location(tree, 6, flush.PFS)
        for mark in marks:
            flush.add_location(tree, 6, mark)
        kvtree.write(self.path, tree)

    def index(self) -> Index:
        return Index.read(paths.index_file(str(self.prefix)))

    def jobenv(self, **environ: str) -> Any:
        env = self.cluster.jobenv(SCR_HEARTBEAT="0", SCR_BIN_DIR="", **environ)
        self.nodes = CachedNodes(self.cluster, [Cached(6, lost=True)])
        env.rexec = self.nodes
        return env

    def scavenge(self, *, flush_ended: bool = True, **environ: str) -> ScavengeResult:
        env = self.jobenv(**environ)
        return scavenge_dataset(env, ["n1"], 6, "/cntl", flush_ended=flush_ended)

    def is_marked(self) -> bool:
        entry = flush.entry(kvtree.read(self.path), 6)
        listed = self.index().entry(6)
        assert entry is not None
        assert listed is not None
        return (
            flush.PFS in entry.locations
            and not {flush.FLUSHING, flush.SYNC_FLUSHING} & set(entry.locations)
            and listed.is_valid
            and (self.hidden / "summary.scr").exists()
        )


@pytest.fixture
def run(golden: Callable[[str], Path], tmp_path: Path) -> Run:
    return Run(golden("meta_async"), tmp_path)


@pytest.mark.parametrize("mark", [flush.FLUSHING, flush.SYNC_FLUSHING])
def test_finished_but_unmarked_flush_is_completed_without_any_copying(run: Run, mark: str) -> None:
    run.mark()
    tree = kvtree.read(run.path)
    flush.remove_location(tree, 6, flush.FLUSHING)
    flush.add_location(tree, 6, mark)
    kvtree.write(run.path, tree)
    done = run.scavenge()
    assert (done.was_there, done.files, done.bytes) == (True, 4, 16430)
    assert run.nodes.copies == []
    assert run.is_marked()


def test_postrun_makes_it_current(run: Run) -> None:
    done = save_datasets(run.jobenv(), [], None, lambda _line: None)
    assert done.newest_safe
    assert [row.how for row in done.datasets if row.dataset_id == 6] == [
        "was complete in the prefix"
    ]
    assert run.index().current() == "ckpt.6"
    assert run.is_marked()


@pytest.mark.parametrize("damage", ["short", "absent", "old", "fewer", "no list"])
def test_a_flush_that_died_in_the_middle_is_scavenged_like_any_other(run: Run, damage: str) -> None:
    path = run.prefix / "ckpt.6" / "rank_2.ckpt"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "absent":
        path.unlink()
    elif damage == "old":  # of another dataset of this number
        os.utime(path, (1, 1))
    elif damage == "fewer":
        tree = kvtree.read(run.path)
        tree.child("DATASET", 6, "DSETDESC").put("FILES", 5)
        kvtree.write(run.path, tree)
    else:
        (run.hidden / "rank2file").unlink()
    with pytest.raises(UnrecoverableError):  # no node has it here
        run.scavenge()
    assert run.nodes.copies == [6]
    assert not (run.hidden / "summary.scr").exists()
    listed = run.index().entry(6)
    assert listed is not None
    assert not listed.is_valid


def test_flush_of_a_program_that_may_run_is_left_alone(run: Run) -> None:
    with pytest.raises(ScavengeError, match="--flush-ended"):
        run.scavenge(flush_ended=False)
    assert run.nodes.copies == []
    assert not run.is_marked()


def test_flush_that_may_go_on_after_the_job_is_left_alone(run: Run) -> None:
    with pytest.raises(ScavengeError, match="scr_poststage completes it"):
        run.scavenge(SCR_FLUSH_POSTSTAGE="1")
    assert run.nodes.copies == []


@pytest.mark.parametrize("place", ["ckpt.6/rank_2.ckpt", ".scr/scr.dataset.6/new", "ckpt.6/new"])
def test_files_that_move_are_left_alone(run: Run, place: str) -> None:
    """Whatever the flush file and the state of the job say."""
    clock = run.cluster.clock

    def write(seconds: float) -> None:
        assert seconds == LOOK_S
        with (run.prefix / place).open("ab") as file:
            file.write(b"more")

    clock.sleep = write  # type: ignore[method-assign]
    with pytest.raises(ScavengeError, match="have changed within the last 2 s"):
        run.scavenge()
    assert run.nodes.copies == []
    assert not run.is_marked()
