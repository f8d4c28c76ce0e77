# SPDX-License-Identifier: BSD-3-Clause
"""Finishing the flushes that a job left behind: what is complete, what is left alone, in which order."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import pytest

from poststageworld import left_behind
from scrjob._context import RealContext
from scrjob._process import CommandResult
from scrjob.errors import FormatError, ScavengeError, ScrError
from scrjob.formats import dataset, flush, kvtree, paths, rank2file, summary
from scrjob.formats.index import Index
from scrjob.poststage import UnfinishedTransferError, check_files, finish_all
from scrjob.testing.fakes import FakeClock

Golden = Callable[[str], Path]


@pytest.fixture
def prefix(golden: Golden, tmp_path: Path) -> Path:
    """Give a prefix in which 4 and 6 are unfinished; 2 is current."""
    return left_behind(golden("meta_async"), tmp_path / "it's a place", [4, 6])


def context(runner: Any = None) -> RealContext:
    return RealContext({}, runner, FakeClock(1795333800.0), "login1")


def finish(prefix: Path, runner: Any = None, bin_dir: str = "") -> dict[int, Optional[str]]:
    """Return id -> why it is not complete, None if it is; in the order in which they were looked at."""
    done = finish_all(str(prefix), context(runner), bin_dir=bin_dir)
    return {one.dataset_id: None if one.error is None else str(one.error) for one in done}


def index_of(prefix: Path) -> Index:
    return Index.read(paths.index_file(str(prefix)))


def listed(prefix: Path) -> dict[int, bool]:
    return {entry.id: entry.is_usable for entry in index_of(prefix).entries()}


def change_flush(prefix: Path, change: Callable[[kvtree.KVTree], object]) -> None:
    path = paths.flush_file(str(prefix))
    tree = kvtree.read(path)
    change(tree)
    kvtree.write(path, tree)


def test_all_that_is_whole_is_finished_the_newest_first(prefix: Path) -> None:
    """Lesson A20: the established command crashes, and would leave current at the oldest checkpoint."""
    assert index_of(prefix).current() == "ckpt.2"
    assert list(finish(prefix).items()) == [(6, None), (4, None)]
    assert index_of(prefix).current() == "ckpt.6"
    assert listed(prefix) == {6: True, 4: True, 2: True}
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [5]
    for number in (4, 6):
        found = summary.parse(kvtree.read(paths.summary_file(str(prefix), number)))
        assert found.complete
        assert found.descriptor is not None
        assert dataset.parse(found.descriptor).ckpt == number


def test_output_sets_come_first(prefix: Path) -> None:
    def mark(tree: kvtree.KVTree) -> None:
        tree.add("DATASET", 4).put("OUTPUT", 1)

    change_flush(prefix, mark)
    assert list(finish(prefix)) == [4, 6]
    assert index_of(prefix).current() == "ckpt.6"


def test_pure_output_never_becomes_current(prefix: Path) -> None:
    def mark(tree: kvtree.KVTree) -> None:
        entry = tree.add("DATASET", 6)
        entry.put("OUTPUT", 1)
        entry.unset("CKPT")
        entry.add("DSETDESC").put("FLAG_CKPT", 0)

    change_flush(prefix, mark)
    assert finish(prefix) == {6: None, 4: None}
    assert index_of(prefix).current() == "ckpt.4"


def test_nothing_was_left(prefix: Path) -> None:
    finish(prefix)
    before = (prefix / ".scr/index.scr").read_bytes()
    assert finish(prefix) == {}
    (prefix / ".scr/flush.scr").unlink()
    assert finish(prefix) == {}
    assert (prefix / ".scr/index.scr").read_bytes() == before


def test_no_prefix_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        finish(tmp_path)


def test_a_damaged_flush_file_is_an_error(prefix: Path) -> None:
    (prefix / ".scr/flush.scr").write_bytes(b"damaged" * 9)
    with pytest.raises(FormatError):
        finish(prefix)


def damage_missing(prefix: Path) -> None:
    (prefix / "ckpt.6/rank_3.ckpt").unlink()


def damage_no_directory(prefix: Path) -> None:
    shutil.rmtree(prefix / "ckpt.6")


def damage_short(prefix: Path) -> None:
    path = prefix / "ckpt.6/rank_1.ckpt"
    os.truncate(path, path.stat().st_size - 1)


def damage_link(prefix: Path) -> None:
    path = prefix / "ckpt.6/rank_1.ckpt"
    path.rename(prefix / "elsewhere")
    path.symlink_to(prefix / "elsewhere")


def damage_fifo(prefix: Path) -> None:
    (prefix / "ckpt.6/rank_1.ckpt").unlink()
    os.mkfifo(prefix / "ckpt.6/rank_1.ckpt")


def damage_no_list(prefix: Path) -> None:
    (prefix / ".scr/scr.dataset.6/rank2file").unlink()


def damage_list(prefix: Path) -> None:
    (prefix / ".scr/scr.dataset.6/rank2file.0.0").write_bytes(b"x" * 40)


def damage_fewer_ranks(prefix: Path) -> None:
    base = paths.rank2file(str(prefix), 6)
    found = rank2file.read(base)
    rank2file.write(base, {rank: found.entries[rank] for rank in (0, 1, 2)}, 4)


def damage_fewer_files(prefix: Path) -> None:
    base = paths.rank2file(str(prefix), 6)
    found = rank2file.read(base)
    rank2file.write(base, {**found.entries, 2: rank2file.entry([])}, 4)


def damage_outside(prefix: Path) -> None:
    (prefix.parent / "outside").write_bytes(b"")
    base = paths.rank2file(str(prefix), 6)
    found = rank2file.read(base)
    rank2file.write(base, {**found.entries, 2: rank2file.entry(["../outside"])}, 4)


def damage_link_out(prefix: Path) -> None:
    (prefix / "ckpt.6").rename(prefix.parent / "outside")
    (prefix / "ckpt.6").symlink_to(prefix.parent / "outside")


def damage_absolute(prefix: Path) -> None:
    base = paths.rank2file(str(prefix), 6)
    found = rank2file.read(base)
    rank2file.write(base, {**found.entries, 2: rank2file.entry(["/etc/passwd"])}, 4)


def damage_old(prefix: Path) -> None:
    """A file of the same name and size, of the dataset that had the name before."""
    os.utime(prefix / "ckpt.6/rank_1.ckpt", (1795333000, 1795333000))


def damage_no_descriptor(prefix: Path) -> None:
    change_flush(prefix, lambda tree: tree.add("DATASET", 6).unset("DSETDESC"))


def damage_no_numbers(prefix: Path) -> None:
    change_flush(prefix, lambda tree: tree.add("DATASET", 6).add("DSETDESC").unset("SIZE"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_missing, "1 of 4 files are not there, the first is 'ckpt.6/rank_3.ckpt'"),
        (damage_no_directory, "4 of 4 files are not there"),
        (damage_short, "expected 4 files of 16430 bytes together, got 4 of 16429"),
        (damage_link, "rank_1.ckpt: Too many levels of symbolic links"),
        (damage_fifo, "rank_1.ckpt: not a regular file"),
        (damage_no_list, "rank2file: there is no list of its files"),
        (damage_list, "rank2file.0.0: "),
        (damage_fewer_ranks, "lists the files of 3 of 4 ranks"),
        (damage_fewer_files, "expected 4 files of 16430 bytes together, got 3 of "),
        (damage_outside, "is no absolute path without '..'"),
        (damage_link_out, "leads out of the prefix directory"),
        (damage_absolute, "'/etc' is outside of the prefix directory"),
        (damage_no_descriptor, "flush.scr does not describe it"),
        (damage_no_numbers, "its descriptor tells neither number, size nor age"),
        (damage_old, "'ckpt.6/rank_1.ckpt' is older than the dataset"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_whole_is_left_alone(
    damage: Callable[[Path], None], why: str, prefix: Path
) -> None:
    """And does not keep the others from being finished."""
    damage(prefix)
    done = finish(prefix)
    assert list(done) == [6, 4]
    assert why in str(done[6])
    assert done[6] is not None
    assert done[4] is None
    assert listed(prefix) == {4: True, 2: True}
    assert index_of(prefix).current() == "ckpt.4"
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [5, 6]
    assert not (prefix / ".scr/scr.dataset.6/summary.scr").exists()


def test_the_missing_files_are_named(prefix: Path) -> None:
    damage_no_directory(prefix)
    done = finish_all(str(prefix), context(), bin_dir="")
    assert isinstance(done[0].error, UnfinishedTransferError)
    assert sorted(done[0].error.missing) == [f"ckpt.6/rank_{rank}.ckpt" for rank in range(4)]


def test_current_never_moves_back(prefix: Path) -> None:
    """A restart may have gone on from a later checkpoint."""
    index = index_of(prefix)
    descriptor = dataset.build(dataset.Descriptor(9, "ckpt.9", is_ckpt=True, ckpt=9))
    index.put_complete(9, "ckpt.9", descriptor, complete=True, when="2026-11-22T07:44:49")
    index.set_current("ckpt.9")
    index.write(paths.index_file(str(prefix)))
    assert finish(prefix) == {6: None, 4: None}
    assert index_of(prefix).current() == "ckpt.9"


def test_what_the_index_has_already_is_not_listed_again(prefix: Path) -> None:
    """Listing the current dataset anew would make an older one current for a moment."""
    kept = (prefix / ".scr/flush.scr").read_bytes()
    finish(prefix)
    (prefix / ".scr/flush.scr").write_bytes(kept)
    (prefix / ".scr/index.scr").chmod(0o640)  # a file that was replaced has another mode
    assert finish(prefix) == {6: None, 4: None}
    assert (prefix / ".scr/index.scr").stat().st_mode & 0o777 == 0o640
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [5]


def test_an_older_dataset_of_the_same_name(prefix: Path) -> None:
    """SCR's --add gives up when two summaries have the name."""
    descriptor = kvtree.read(paths.summary_file(str(prefix), 2)).child("DSET")
    assert descriptor is not None
    old = descriptor.copy()
    old.put("NAME", "ckpt.6")
    kvtree.write(paths.summary_file(str(prefix), 2), summary.build(old, complete=True))
    assert finish(prefix) == {6: None, 4: None}
    assert index_of(prefix).id_of("ckpt.6") == 6


class KilledError(Exception):
    pass


@pytest.mark.parametrize("nth", range(1, 10))
def test_killed_at_any_write_and_done_again(
    nth: int, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is on disk at any moment: what is current is complete, and a second call ends it."""
    writes = 0
    write = kvtree.write

    def dying(path: str, tree: kvtree.KVTree) -> None:
        nonlocal writes
        writes += 1
        if writes == nth:
            raise KilledError
        write(path, tree)

    with monkeypatch.context() as patch:
        patch.setattr(kvtree, "write", dying)
        with pytest.raises(KilledError):
            finish(prefix)
    index = index_of(prefix)
    present = index.entry(index.id_of(index.current() or "") or 0)
    assert present is not None
    assert present.is_usable
    assert set(finish(prefix).values()) <= {None}
    assert index_of(prefix).current() == "ckpt.6"
    assert listed(prefix) == {6: True, 4: True, 2: True}
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [5]


def test_a_full_disk_is_told_per_dataset(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, tree: kvtree.KVTree) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(kvtree, "write", full)
    done = finish(prefix)
    assert list(done) == [6, 4]
    assert str(done[6]).endswith("summary.scr: No space left on device")


# With the executables of a site.


class Executables:
    """A runner in whose world scr_flush_file and scr_index work, by our own code."""

    def __init__(self, prefix: Path, *, resume_rc: int = 0, index_rc: int = 0) -> None:
        self.prefix = str(prefix)
        self.resume_rc = resume_rc
        self.index_rc = index_rc
        self.asked: list[str] = []

    def run(self, argv: Sequence[str], **_options: Any) -> CommandResult:
        from scrjob.cli import SCRFlushFile, SCRIndex

        tool = os.path.basename(argv[0])
        assert list(argv[1:3]) == ["--prefix" if tool == "scr_index" else "--dir", self.prefix]
        words = argv[3:]
        self.asked.append(" ".join([tool, *words]))
        if "--resume" in words:
            code = self.resume_rc
            if code == 0:
                number = int(words[-1])
                for state in Path(paths.dataset_dir(self.prefix, number)).glob("*.state_file"):
                    state.unlink()
                    Path(f"{self.prefix}/ckpt.{number}/rank_0.part").rename(
                        f"{self.prefix}/ckpt.{number}/rank_0.ckpt"
                    )
        elif "--summary" in words:
            native = SCRFlushFile(self.prefix, context=context(), bin_dir="")
            code = int(not native.write_summary(words[-1]))
        else:
            option, _, value = words[0].partition("=")
            index = SCRIndex(self.prefix, context=context(), bin_dir="")
            code = self.index_rc or int(not getattr(index, option[2:])(value))
        return CommandResult(argv, code, "", "", 0.0)


def on_its_way(prefix: Path, number: int) -> None:
    """Have a transfer of rank 0 unfinished: the transfer library keeps a state and another name."""
    (prefix / f".scr/scr.dataset.{number}/rank_0.state_file").write_bytes(b"")
    (prefix / f"ckpt.{number}/rank_0.ckpt").rename(prefix / f"ckpt.{number}/rank_0.part")


def test_the_sites_executables_finish_the_transfer(prefix: Path) -> None:
    on_its_way(prefix, 6)
    runner = Executables(prefix)
    assert finish(prefix, runner, "/scr/bin") == {6: None, 4: None}
    assert runner.asked == [
        "scr_flush_file --resume --name 6",
        "scr_index --build=6",
        "scr_index --current=ckpt.6",
        "scr_flush_file --summary --name 6",
        "scr_index --build=4",
        "scr_flush_file --summary --name 4",
    ]
    assert index_of(prefix).current() == "ckpt.6"
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [5]


def test_without_the_transfer_library_it_is_told_what_is_missing(prefix: Path) -> None:
    on_its_way(prefix, 6)
    done = finish(prefix)
    assert "1 of 4 files are not there, the first is 'ckpt.6/rank_0.ckpt'" in str(done[6])


def test_the_state_of_a_transfer_is_enough_to_look_at_it(prefix: Path) -> None:
    """A restart may have lost the mark in flush.scr; what only is in cache has no such state."""
    change_flush(prefix, lambda tree: flush.remove_location(tree, 6, flush.FLUSHING))
    assert list(finish(prefix)) == [4]
    (prefix / ".scr/scr.dataset.6/rank_0.state_file").write_bytes(b"")
    assert finish(prefix) == {6: None}
    assert index_of(prefix).current() == "ckpt.6"
    change_flush(prefix, lambda tree: flush.add_location(tree, 6, flush.PFS))
    assert finish(prefix) == {}


def test_a_transfer_that_cannot_be_finished(prefix: Path) -> None:
    on_its_way(prefix, 6)
    runner = Executables(prefix, resume_rc=1)
    done = finish(prefix, runner, "/scr/bin")
    assert done == {6: "SCR's scr_flush_file could not finish the transfer", 4: None}
    assert index_of(prefix).current() == "ckpt.4"


def test_an_index_that_cannot_be_changed_keeps_the_entry(prefix: Path) -> None:
    runner = Executables(prefix, index_rc=1)
    done = finish(prefix, runner, "/scr/bin")
    assert done[6] == "its files are there, but it could not be entered into the index"
    assert flush.ids(kvtree.read(paths.flush_file(str(prefix)))) == [4, 5, 6]


def test_errors_are_of_the_kind_that_commands_tell(prefix: Path) -> None:
    damage_missing(prefix)
    descriptor = flush.entry(kvtree.read(paths.flush_file(str(prefix))), 6)
    assert descriptor is not None
    assert descriptor.descriptor is not None
    with pytest.raises(ScavengeError) as caught:
        check_files(str(prefix), 6, descriptor.descriptor)
    assert isinstance(caught.value, ScrError)
    assert caught.value.exit_code == 73
