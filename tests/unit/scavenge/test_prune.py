# SPDX-License-Identifier: BSD-3-Clause
"""Old checkpoints leave the prefix, and nothing else does; a KILL at any line costs nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Callable, Optional, Sequence

import pytest

from scrjob import prune as module
from scrjob.formats import flush, kvtree, rank2file, summary
from scrjob.formats.dataset import Descriptor, build
from scrjob.formats.index import Index
from scrjob.formats.kvtree import KVTree
from scrjob.prune import prune
from scrjob.scavenge.record import complete_files


class Prefix:
    """Datasets that are complete in a prefix directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index_path = str(home / ".scr" / "index.scr")
        (home / ".scr").mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []

    def index(self) -> Index:
        try:
            return Index.read(self.index_path)
        except FileNotFoundError:
            return Index()

    def hidden(self, number: int) -> Path:
        return self.home / ".scr" / f"scr.dataset.{number}"

    def add(
        self,
        number: int,
        *,
        kind: str = "checkpoint",
        complete: bool = True,
        files: Optional[Sequence[str]] = None,
        current: bool = False,
    ) -> None:
        names = [f"d{number}/sub/a", f"d{number}/b"] if files is None else list(files)
        for name in names:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
        self.hidden(number).mkdir()
        rank2file.write(
            str(self.hidden(number) / "rank2file"),
            {0: rank2file.entry(names[:1]), 1: rank2file.entry(names[1:])},
            2,
        )
        about = build(
            Descriptor(
                number,
                f"it.{number}",
                is_ckpt="checkpoint" in kind,
                is_output="output" in kind,
                created_us=number,
                files=len(names),
                size_bytes=5 * len(names),
            )
        )
        kvtree.write(str(self.hidden(number) / "summary.scr"), summary.build(about, complete=True))
        (self.hidden(number) / "filemap_0").write_bytes(b"")
        index = self.index()
        index.put_complete(number, f"it.{number}", about, complete=complete, when="t")
        if current:
            index.set_current(f"it.{number}")
        index.write(self.index_path)

    def prune(self, newest: int, keep: int) -> list[int]:
        return [row.dataset_id for row in prune(str(self.home), newest, keep, self.said.append)]

    def there(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir() if path.name != ".scr")

    def is_sound(self) -> bool:
        """What is listed as complete, or has a summary with which it could be listed, is complete."""
        listed = {entry.id for entry in self.index().entries() if entry.complete}
        listed |= {
            int(path.parent.name.rpartition(".")[2])
            for path in self.home.glob(".scr/scr.dataset.*/summary.scr")
        }
        return all(complete_files(str(self.home), number) is not None for number in listed)


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    return Prefix(tmp_path / "pre fix")


def test_the_newest_stay_and_all_of_the_others_goes(prefix: Prefix) -> None:
    for number in range(1, 6):
        prefix.add(number)
    assert prefix.prune(5, 2) == [1, 2, 3]
    assert prefix.there() == ["d4", "d5"]
    assert prefix.index().ids() == [4, 5]
    assert sorted(os.listdir(prefix.home / ".scr")) == [
        "index.scr",
        "scr.dataset.4",
        "scr.dataset.5",
    ]
    assert prefix.said[0] == "deleted checkpoint it.1 (dataset 1): the prefix keeps 2"
    assert prefix.is_sound()


def test_output_and_the_current_checkpoint_stay(prefix: Prefix) -> None:
    prefix.add(1, current=True)
    prefix.add(2, kind="output")
    prefix.add(3, kind="checkpoint, output")
    for number in (4, 5, 6):
        prefix.add(number)
    assert prefix.prune(6, 1) == [4, 5]
    assert prefix.there() == ["d1", "d2", "d3", "d6"]
    assert prefix.index().current() == "it.1"


def test_zero_keeps_all_and_newer_ones_are_not_looked_at(prefix: Prefix) -> None:
    for number in range(1, 5):
        prefix.add(number)
    assert prefix.prune(4, 0) == []
    assert prefix.prune(3, 2) == [1]
    assert prefix.there() == ["d2", "d3", "d4"]


def test_what_is_not_there_or_failed_does_not_count(prefix: Prefix) -> None:
    for number in range(1, 6):
        prefix.add(number)
    (prefix.home / "d4/b").unlink()
    index = prefix.index()
    index.mark_failed(3, "it.3", "t")
    index.write(prefix.index_path)
    assert prefix.prune(5, 2) == [1]
    assert prefix.there() == ["d2", "d3", "d4", "d5"]


def test_files_that_another_dataset_has_too_stay(prefix: Prefix) -> None:
    prefix.add(1, files=["same/a", "same/only1"])
    prefix.add(2, files=["same/a", "same/only2"])
    assert prefix.prune(2, 1) == [1]
    assert sorted(os.listdir(prefix.home / "same")) == ["a", "only2"]
    assert prefix.is_sound()


@pytest.mark.parametrize("through", [1, 2])
def test_files_that_another_dataset_knows_by_another_name_stay(
    prefix: Prefix, through: int
) -> None:
    """One of the two goes through a link to the directory."""
    (prefix.home / "data").mkdir(parents=True)
    (prefix.home / "link").symlink_to("data")
    directory = {1: "data", 2: "data", through: "link"}
    prefix.add(1, files=["d1/own", f"{directory[1]}/shared"])
    prefix.add(2, files=["d2/own", f"{directory[2]}/shared"])
    assert prefix.prune(2, 1) == [1]
    assert prefix.there() == ["d2", "data", "link"]
    assert prefix.is_sound()


def test_nothing_goes_while_the_files_of_another_dataset_are_not_known(prefix: Prefix) -> None:
    for number in (1, 2, 3):
        prefix.add(number)
    part = prefix.hidden(2) / "rank2file.0.0"
    prefix.hidden(2).joinpath("summary.scr").unlink()
    part.write_bytes(b"\0" * 40)
    assert prefix.prune(3, 1) == []
    assert "not known" in prefix.said[-1]
    part.unlink()
    assert prefix.prune(3, 1) == []
    assert prefix.there() == ["d1", "d2", "d3"]


@pytest.mark.parametrize("mark", [flush.FLUSHING, flush.SYNC_FLUSHING])
def test_nothing_goes_while_a_flush_writes_nobody_knows_which_files(
    prefix: Prefix, mark: str
) -> None:
    for number in (1, 2, 3):
        prefix.add(number)
    tree = KVTree()
    flush.put_dataset(tree, 4, KVTree.of({"ID": 4, "NAME": "it.4", "FLAG_CKPT": 1}))
    flush.add_location(tree, 4, mark)
    kvtree.write(str(prefix.home / ".scr" / "flush.scr"), tree)
    assert prefix.prune(3, 1) == []
    assert "dataset 4 is being flushed" in prefix.said[-1]
    flush.remove_location(tree, 4, mark)
    kvtree.write(str(prefix.home / ".scr" / "flush.scr"), tree)
    assert prefix.prune(3, 1) == [1, 2]


def test_names_that_lead_out_of_the_prefix(prefix: Prefix, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_bytes(b"12345")
    prefix.add(1, files=["d1/a"])
    os.symlink(outside, prefix.home / "way")
    os.symlink(victim, prefix.home / "d1/link")
    os.mkfifo(prefix.home / "d1/fifo")
    rank2file.write(
        str(prefix.hidden(1) / "rank2file"),
        {
            0: rank2file.entry(
                [
                    *("../outside/victim", "way/victim", "d1/link", "d1/fifo", "d1/a", str(victim)),
                    *(".scr/index.scr", ".scr/scr.dataset.2/summary.scr"),
                ]
            )
        },
        1,
    )
    prefix.add(2)
    assert prefix.prune(2, 1) == [1]
    assert victim.read_bytes() == b"12345"
    assert prefix.index().ids() == [2]
    assert prefix.is_sound()
    assert sorted(os.listdir(prefix.home / "d1")) == ["fifo", "link"]


def test_only_what_could_be_deleted_is_kept_in_memory(prefix: Prefix) -> None:
    prefix.add(11, files=["d11/a", "d11/b"])
    prefix.add(12, files=["d11/a", "d12/b", "d12/c"])
    assert module._files_of_others(str(prefix.home), [11], module._follower()) == {
        str(prefix.home / "d11/a")
    }


def test_directories_of_others_and_foreign_files_stay(prefix: Prefix) -> None:
    prefix.add(1, files=["all/x/1", "all/1"])
    prefix.add(2, files=["all/2"])
    (prefix.home / "all" / "x" / "mine").write_text("kept")
    (prefix.hidden(1) / "notes").mkdir()
    assert prefix.prune(2, 1) == [1]
    assert sorted(os.listdir(prefix.home / "all")) == ["2", "x"]
    assert os.listdir(prefix.hidden(1)) == ["notes"]


class KilledError(BaseException):
    """The process ends here."""


def _killing(function: Callable[..., object], count: list[int]) -> Callable[..., object]:
    def call(*args: object, **options: object) -> object:
        count[0] -= 1
        if count[0] < 0:
            raise KilledError
        return function(*args, **options)

    return call


@pytest.mark.parametrize("moment", range(40))
def test_kill_at_any_moment(prefix: Prefix, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is listed lacks a file, and the next pruning ends the work."""
    for number in (1, 2, 3):
        prefix.add(number)
    left = [moment]
    with monkeypatch.context() as patched:
        for owner, name in (
            (module.os, "unlink"),
            (module.os, "rmdir"),
            (module, "atomic_write"),
            (module.Index, "write"),
            (module, "fsync_dir"),
        ):
            patched.setattr(owner, name, _killing(getattr(owner, name), left))
        try:
            prefix.prune(3, 1)
            assert moment > 25
        except KilledError:
            pass
    assert prefix.is_sound()
    assert 3 in prefix.index().ids()
    prefix.add(4)
    prefix.prune(4, 1)
    assert prefix.there() == ["d4"]
    # An empty directory may stay: it could as well be that of a dataset that begins.
    assert [path.parent.name for path in (prefix.home / ".scr").glob("*/*")] == [
        "scr.dataset.4"
    ] * 4


def test_number_that_is_used_anew_before_its_deletion_went_on(prefix: Prefix) -> None:
    prefix.add(1)
    prefix.add(2)
    (prefix.hidden(2) / "scrjob.pruning.json").write_text('{"dataset": 2, "name": "it.2"}')
    assert prefix.prune(2, 2) == []
    assert not (prefix.hidden(2) / "scrjob.pruning.json").exists()
    assert prefix.there() == ["d1", "d2"]


def test_a_file_that_cannot_be_deleted_is_an_error_and_the_dataset_is_off_the_list(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix.add(1)
    prefix.add(2)
    real = os.unlink

    def refuse(path: str) -> None:
        if os.path.basename(path) == "b":
            raise OSError(errno.EACCES, "Permission denied", path)
        real(path)

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "unlink", refuse)
        with pytest.raises(PermissionError):
            prefix.prune(2, 1)
    assert prefix.index().ids() == [2]
    assert prefix.is_sound()
    assert prefix.prune(2, 1) == [1]
    assert prefix.there() == ["d2"]
