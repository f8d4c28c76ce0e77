# SPDX-License-Identifier: BSD-3-Clause
"""What copies a cached dataset to the prefix, builds and lists it there must do."""

from __future__ import annotations

import os
from typing import Any, Protocol, Sequence

from scrjob.formats import dataset, flush, index, kvtree, paths, rank2file, summary
from scrjob.formats.kvtree import KVTree


class DataPathWorld(Protocol):
    """A job that has ended with a dataset in cache, whose copy and build were recorded.

    Some of its nodes may be lost. The prefix holds SCR's files of the running job only.
    """

    prefix: str
    dataset_id: int
    nodes: Sequence[str]
    """The nodes that are left."""
    spare: str
    """A node that never had a part of the dataset."""
    is_covered: bool
    """Whether redundancy covers what was lost."""

    def copy(self, node: str) -> tuple[Any, list[str]]:
        """Copy what a node holds; return an object like ``CopyReport``, and what was said to people.

        The lines have ``node`` for the name of the host.
        """
        ...

    def index(self) -> Any:
        """Return an object like ``scrjob.cli.SCRIndex``."""
        ...

    def put_copies(self) -> None:
        """Bring the prefix to where all nodes that are left have copied."""
        ...

    def recorded_lines(self, node: str) -> list[str]:
        """Return what was said of the node's copy."""
        ...

    def copied(self) -> dict[str, bytes]:
        """Return path below the prefix -> bytes of all files after the copies."""
        ...

    def built(self) -> dict[str, bytes]:
        """Return the same after the build."""
        ...


class DataPathContract:
    """Inherit it and supply the fixture ``world``."""

    def test_each_node_copies_what_it_holds(self, world: DataPathWorld) -> None:
        os.makedirs(paths.dataset_dir(world.prefix, world.dataset_id), exist_ok=True)
        for node in world.nodes:
            report, lines = world.copy(node)
            assert (report.rc, report.errors, report.damaged) == (0, (), ())
            assert not report.is_spare
            assert lines == world.recorded_lines(node)
        assert _files(world.prefix) == world.copied()

    def test_a_second_copy_changes_nothing(self, world: DataPathWorld) -> None:
        world.put_copies()
        for node in world.nodes:
            report, _ = world.copy(node)
            assert report.rc == 0
        assert _files(world.prefix) == world.copied()

    def test_a_spare_says_that_it_holds_nothing(self, world: DataPathWorld) -> None:
        os.makedirs(paths.dataset_dir(world.prefix, world.dataset_id), exist_ok=True)
        before = _files(world.prefix)
        report, lines = world.copy(world.spare)
        why = f"Failed to find cache directory for dataset id {world.dataset_id}"
        assert (report.rc, report.errors) == (1, (why,))
        assert report.is_spare
        assert lines == [f"scr_copy: {world.spare}: {why}"]
        assert _files(world.prefix) == before

    def test_the_build_brings_back_what_is_covered(self, world: DataPathWorld) -> None:
        """And tells where it cannot; then all copies are still what they were."""
        world.put_copies()
        found = world.index()
        assert found.build(world.dataset_id) is world.is_covered
        for path, data in (world.built() if world.is_covered else world.copied()).items():
            if not _is_made_by_the_build(path):
                with open(os.path.join(world.prefix, path), "rb") as file:
                    assert file.read() == data, path
        if world.is_covered:
            assert set(_files(world.prefix)) == set(world.built())
            _check_metadata(world)

    def test_only_what_is_whole_is_listed(self, world: DataPathWorld) -> None:
        world.put_copies()
        name = _name(world)
        found = world.index()
        done = found.build(world.dataset_id)
        assert _is_listed(world, name) is done is world.is_covered
        assert found.current(name) is done

    def test_a_build_makes_nothing_current(self, world: DataPathWorld) -> None:
        world.put_copies()
        found = world.index()
        if found.build(world.dataset_id):
            listed = index.Index.read(paths.index_file(world.prefix))
            assert listed.current() is None
            found.current(_name(world))
            assert f"* {_name(world)}" in found.list()

    def test_a_second_build_changes_no_file(self, world: DataPathWorld) -> None:
        world.put_copies()
        found = world.index()
        done = found.build(world.dataset_id)
        before = _times(world.prefix)
        assert found.build(str(world.dataset_id)) is done
        assert _times(world.prefix) == before

    def test_another_dataset_cannot_be_built(self, world: DataPathWorld) -> None:
        world.put_copies()
        before = _files(world.prefix)
        assert world.index().build(world.dataset_id + 1) is False
        assert _files(world.prefix) == before

    def test_what_was_built_can_be_added(self, world: DataPathWorld) -> None:
        """The index may be lost; the summaries are there."""
        world.put_copies()
        found = world.index()
        if found.build(world.dataset_id):
            os.unlink(paths.index_file(world.prefix))
            assert found.add(_name(world)) is True
            assert _is_listed(world, _name(world))
        else:
            assert found.add(_name(world)) is False or not _is_listed(world, _name(world))


def _files(top: str) -> dict[str, bytes]:
    """Return path -> bytes of all files below a directory."""
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def _times(top: str) -> dict[str, tuple[int, int]]:
    """Return path -> (inode, time of change) of all files but the index, which tells when it was written."""
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if path != paths.index_file(top):
                status = os.stat(path)
                found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def _is_made_by_the_build(path: str) -> bool:
    """Tell whether the order of keys, which has no meaning, is the builder's own."""
    name = os.path.basename(path)
    return path.startswith(".scr/") and (
        name in ("index.scr", "summary.scr") or name.startswith("rank2file")
    )


def _name(world: DataPathWorld) -> str:
    entry = flush.entry(kvtree.read(paths.flush_file(world.prefix)), world.dataset_id)
    assert entry is not None
    assert entry.name is not None
    return entry.name


def _is_listed(world: DataPathWorld, name: str) -> bool:
    """Tell whether the index has the dataset as complete."""
    try:
        listed = index.Index.read(paths.index_file(world.prefix))
    except FileNotFoundError:
        return False
    entry = listed.entry(world.dataset_id)
    return entry is not None and entry.is_valid and listed.id_of(name) == world.dataset_id


def _check_metadata(world: DataPathWorld) -> None:
    """The files that the build makes say what they must."""
    found = summary.parse(kvtree.read(paths.summary_file(world.prefix, world.dataset_id)))
    assert found.complete
    told = dataset.parse(found.descriptor or KVTree())
    listed = rank2file.read(paths.rank2file(world.prefix, world.dataset_id))
    assert listed.missing() == []
    files = [name for rank in listed.entries.values() for name in rank2file.files(rank)]
    assert len(files) == len(set(files)) == told.files
    sizes = [os.path.getsize(os.path.join(world.prefix, name)) for name in files]
    assert sum(sizes) == told.size_bytes
