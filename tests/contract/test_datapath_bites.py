# SPDX-License-Identifier: BSD-3-Clause
"""The contract of the data path is tested too: each fault fails the tests that are about it, no others."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, Callable, Sequence

import pytest

import datapath
from datapathworld import ExecutableWorld, NativeWorld, World
from scrjob import cli
from scrjob.cli.scr_copy import CopyReport
from scrjob.formats import index, paths
from scrjob.testing.contracts import DataPathContract

Golden = Callable[[str], Path]


class NothingIsWrong(cli.SCRCopy):
    def report(self, result: Any, node: str) -> CopyReport:
        return super().report(result, node)._replace(rc=0, errors=())


class SparesAreErrors(cli.SCRCopy):
    def report(self, result: Any, node: str) -> CopyReport:
        found = super().report(result, node)
        return found._replace(errors=tuple(f"scr_copy: {error}" for error in found.errors))


class AnotherDataset(cli.SCRCopy):
    def command(self, cntldir: str, dset: Any, **options: Any) -> list[str]:
        return super().command(cntldir, int(dset) + 1, **options)


class Elsewhere(cli.SCRCopy):
    def command(self, *args: Any, **options: Any) -> list[str]:
        return [word.replace("/a prefix", "/another") for word in super().command(*args, **options)]


class AlwaysComplete(cli.SCRIndex):
    def build(self, dset: Any) -> bool:
        super().build(dset)
        return True


class NeverListed(cli.SCRIndex):
    def build(self, dset: Any) -> bool:
        done = super().build(dset)
        if done:
            os.unlink(paths.index_file(self.prefix))
        return done


class MakesCurrent(cli.SCRIndex):
    def build(self, dset: Any) -> bool:
        done = super().build(dset)
        if done:
            path = paths.index_file(self.prefix)
            found = index.Index.read(path)
            found.set_current(found.entries()[0].descriptor.name or "")
            found.write(path)
        return done


class AlwaysAgain(cli.SCRIndex):
    def build(self, dset: Any) -> bool:
        done = super().build(dset)
        if done:
            for name in os.listdir(paths.dataset_dir(self.prefix, int(dset))):
                os.utime(os.path.join(paths.dataset_dir(self.prefix, int(dset)), name))
        return done


class Scrambles(cli.SCRIndex):
    def build(self, dset: Any) -> bool:
        done = super().build(dset)
        path = Path(self.prefix) / "ckpt.1" / "rank_0.0.dat"
        path.write_bytes(path.read_bytes()[::-1])
        return done


class CurrentIsFine(cli.SCRIndex):
    def current(self, name: str) -> bool:
        super().current(name)
        return True


class AddsNothing(cli.SCRIndex):
    def add(self, dset: str) -> bool:
        return os.path.exists(paths.summary_file(self.prefix, 1))


COPIED = "test_each_node_copies_what_it_holds"
AGAIN = "test_a_second_copy_changes_nothing"
SPARE = "test_a_spare_says_that_it_holds_nothing"
BUILT = "test_the_build_brings_back_what_is_covered"
LISTED = "test_only_what_is_whole_is_listed"
NOT_CURRENT = "test_a_build_makes_nothing_current"
SECOND = "test_a_second_build_changes_no_file"
ADDED = "test_what_was_built_can_be_added"
OTHER = "test_another_dataset_cannot_be_built"

FAULTS: Sequence[tuple[type, set[str]]] = [
    (NothingIsWrong, {SPARE}),
    (SparesAreErrors, {SPARE}),
    (AnotherDataset, {COPIED, AGAIN, SPARE}),
    (Elsewhere, {COPIED}),
    (AlwaysComplete, {OTHER}),
    (NeverListed, {BUILT, LISTED, NOT_CURRENT, ADDED}),
    (MakesCurrent, {NOT_CURRENT}),
    (AlwaysAgain, {SECOND}),
    (Scrambles, {BUILT, SECOND, OTHER}),
    (AddsNothing, {ADDED}),
]


def failing(make: Callable[[Path], World], place: Path) -> set[str]:
    """Return the tests of the contract that a world fails."""
    failed = set()
    for name, method in inspect.getmembers(DataPathContract(), inspect.ismethod):
        try:
            method(make(place / name))
        except (AssertionError, OSError):
            failed.add(name)
    return failed


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_fault_is_found(fault: type, expected: set[str], golden: Golden, tmp_path: Path) -> None:
    case = datapath.load(golden("xor_4"))
    name = fault.__mro__[1].__name__

    def make(place: Path) -> World:
        place.mkdir()
        return NativeWorld(case, "node3", place, **{name: fault})

    assert failing(make, tmp_path) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(AlwaysComplete, {BUILT, LISTED, OTHER, NOT_CURRENT, ADDED}), (CurrentIsFine, {LISTED})],
)
def test_a_fault_is_found_where_nothing_can_be_had_back(
    fault: type, expected: set[str], golden: Golden, tmp_path: Path
) -> None:
    case = datapath.load(golden("xor_4"))

    def make(place: Path) -> World:
        place.mkdir()
        return NativeWorld(case, "node2+node3", place, SCRIndex=fault)

    assert failing(make, tmp_path) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["scr_copy", "--cntldir", "CNTL", "--id", "1", "--prefix", "PREFIX", "--buf", "1048576"],
        [
            "scr_copy",
            "--id",
            "1",
            "--cntldir",
            "CNTL",
            "--prefix",
            "PREFIX",
            "--buf",
            "1048576",
            "--crc",
        ],
        ["scr_index", "--prefix", "PREFIX", "--build", "1"],
    ],
)
def test_the_stand_ins_know_recorded_calls_only(
    words: list[str], golden: Golden, tmp_path: Path
) -> None:
    world = ExecutableWorld(datapath.load(golden("xor_4")), "node3", tmp_path)
    known = {"CNTL": world.cntldir, "PREFIX": world.prefix}
    tool, *args = [known.get(word, word) for word in words]
    context = world.on("node1")
    done = context.runner.run([str(world.bin_dir / tool), *args], timeout_s=60, env=context.environ)
    assert done.returncode == 97
    assert "nearest is ['--" in done.stderr
