# SPDX-License-Identifier: BSD-3-Clause
"""The operations on index.scr, against files of the real tools and against their description."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import pytest

from scrjob.errors import DatasetError, FormatError, UnsupportedVersionError
from scrjob.formats import dataset, index, kvtree, summary
from scrjob.formats.index import Index
from scrjob.formats.kvtree import KVTree

if TYPE_CHECKING:
    from goldenimages import Image


def descriptor(number: int, *, ckpt: bool = True, name: Optional[str] = None) -> KVTree:
    return dataset.build(
        dataset.Descriptor(
            id=number,
            name=name or f"d.{number}",
            is_ckpt=ckpt,
            is_output=not ckpt,
            ckpt=number if ckpt else None,
        )
    )


def make(*usable: int, output: tuple[int, ...] = (), current: Optional[str] = None) -> Index:
    made = Index()
    for number in sorted((*usable, *output)):
        tree = descriptor(number, ckpt=number in usable)
        made.put_complete(number, f"d.{number}", tree, complete=True, when="2026-01-02T03:04:05")
    if current:
        made.set_current(current)
    return made


def archived(images: list[Image], archive: str, name: str) -> Optional[bytes]:
    found = [image.data for image in images if (image.archive, image.name) == (archive, name)]
    return found[0] if found else None


def test_build_writes_the_bytes_of_scr_index(images: list[Image]) -> None:
    checked = 0
    for image in images:
        if image.name != "index.scr" or "_built_" not in image.archive:
            continue
        before = archived(images, image.archive.replace("2_built", "1_copied"), "index.scr")
        made = Index(kvtree.decode(before or b"").reversed())
        facts = summary.parse(kvtree.decode(archived(images, image.archive, "summary.scr") or b""))
        assert facts.descriptor is not None
        assert facts.name is not None
        number = dataset.parse(facts.descriptor).id
        entry = Index(kvtree.decode(image.data)).entry(number)
        assert entry is not None
        assert entry.flushed is not None
        if facts.complete is None:
            continue
        made.put_complete(
            number, facts.name, facts.descriptor, complete=facts.complete, when=entry.flushed
        )
        if "VERSION" not in made.tree:
            made.tree.put("VERSION", 2)
        assert kvtree.encode(made.tree) == image.data, image
        checked += 1
    assert checked > 20


def test_set_current_after_a_build_writes_the_bytes_of_scr_index(
    images: list[Image], tmp_path: Path
) -> None:
    (image,) = (i for i in images if i.case == "failrun" and i.name == "index.scr")
    (found,) = (i for i in images if i.case == "failrun" and i.name == "summary.scr")
    facts = summary.parse(kvtree.decode(found.data))
    assert facts.descriptor is not None
    path = str(tmp_path / "index.scr")
    made = Index()
    when = "2026-11-22T07:47:37"
    made.put_complete(15, "ckpt.15", facts.descriptor, complete=True, when=when)
    made.write(path)
    again = Index.read(path)
    again.set_current("ckpt.15")
    again.write(path)
    assert Path(path).read_bytes() == image.data


def test_every_read_turns_the_order(tmp_path: Path) -> None:
    path = str(tmp_path / "index.scr")
    make(1, 2).write(path)
    before = kvtree.read(path)
    Index.read(path).write(path)
    after = kvtree.read(path)
    assert before == after
    assert list(after) == list(reversed(list(before)))
    Index.read(path).write(path)
    assert kvtree.encode(kvtree.read(path)) == kvtree.encode(before)


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", UnsupportedVersionError, "Failed to find file format version"),
        (
            kvtree.encode(KVTree.of({"VERSION": 3})),
            UnsupportedVersionError,
            "version 3 but expected 2",
        ),
        (kvtree.encode(KVTree.of({"VERSION": 2}))[:-1], FormatError, "truncated"),
    ],
)
def test_read_refuses(tmp_path: Path, content: bytes, error: type[Exception], text: str) -> None:
    path = tmp_path / "index.scr"
    path.write_bytes(content)
    with pytest.raises(error, match=text):
        Index.read(str(path))


def test_absent_index_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Index.read(str(tmp_path / "index.scr"))


def test_remove_of_current_falls_back_to_an_older_usable_checkpoint() -> None:
    made = make(1, 3, 5, 7, output=(4,), current="d.5")
    made.mark_failed(3, "d.3", "x")
    assert made.remove("d.5")
    assert made.current() == "d.1"
    assert made.ids() == [1, 3, 4, 7]


def test_remove_of_the_only_checkpoint_leaves_no_current() -> None:
    made = make(2, output=(1,), current="d.2")
    assert made.remove("d.2")
    assert made.current() is None
    assert "CURRENT" not in made.tree


def test_remove_of_another_keeps_current() -> None:
    made = make(1, 2, 3, current="d.3")
    assert made.remove("d.2")
    assert made.current() == "d.3"


def test_remove_of_an_unknown_name_drops_a_current_of_that_name() -> None:
    made = make(1)
    made.tree.put("CURRENT", "ghost")
    assert not made.remove("ghost")
    assert "CURRENT" not in made.tree
    made.set_current("d.1")
    assert not made.remove("ghost")
    assert made.current() == "d.1"


def test_remove_later_moves_current_too() -> None:
    """SCR 3.1 leaves CURRENT dangling here, and the next run then makes up a dataset -1."""
    made = make(1, 2, 5, 9, output=(7,), current="d.9")
    made.remove_later(2)
    assert made.ids() == [1, 2]
    assert made.current() == "d.2"


def test_remove_later_drops_entries_without_a_name() -> None:
    made = make(1)
    made.tree.add("DSET", 4).put("COMPLETE", 1)
    made.remove_later(1)
    assert made.ids() == [1]


def test_dangling_current_and_impossible_ids_are_ignored() -> None:
    made = make(1)
    made.tree.put("CURRENT", "ghost")
    made.mark_failed(-1, "ghost", "x")
    assert made.current() is None
    assert made.ids() == [1]
    assert made.remove("ghost")
    assert made.tree.child("DSET", -1) is None
    assert "CURRENT" not in made.tree


@pytest.mark.parametrize("name", ["ghost", "d.2"])
def test_set_current_wants_a_checkpoint(name: str) -> None:
    made = make(1, output=(2,), current="d.1")
    with pytest.raises(DatasetError, match=name):
        made.set_current(name)
    assert made.current() == "d.1"


def test_set_current_takes_an_incomplete_or_failed_one() -> None:
    made = make(1)
    made.set_dataset(2, "d.2", descriptor(2), complete=False)
    made.mark_failed(2, "d.2", "x")
    made.set_current("d.2")
    assert made.current() == "d.2"
    made.unset_current()
    assert made.current() is None


def test_latest_usable_passes_over_failed_incomplete_and_output() -> None:
    made = make(1, 2, 3, output=(9,))
    made.set_dataset(5, "d.5", descriptor(5), complete=False)
    made.mark_failed(3, "d.3", "x")
    found = made.latest_usable()
    assert found is not None
    assert found.id == 2
    found = made.latest_usable(2)
    assert found is not None
    assert found.id == 1
    assert made.latest_usable(1) is None
    made.clear_failed(3)
    found = made.latest_usable()
    assert found is not None
    assert found.id == 3
    made.clear_failed(77)


def test_failed_without_a_time_is_failed() -> None:
    made = make(1)
    made.tree.add("DSET", 1, "FAILED")
    entry = made.entry(1)
    assert entry is not None
    assert not entry.is_valid


def test_fetch_attempts_add_up() -> None:
    made = make(1)
    made.mark_fetched(1, "d.1", "a")
    made.mark_fetched(1, "d.1", "b")
    made.mark_fetched(1, "d.1", "b")
    entry = made.entry(1)
    assert entry is not None
    assert sorted(entry.fetched) == ["a", "b"]


def test_numbers_for_the_next_dataset() -> None:
    made = make(1, 6, output=(8,))
    assert made.oldest() == 1
    assert made.max_ids() == (8, 6, 6)
    assert Index().oldest() is None
    assert Index().max_ids() == (0, 0, 0)
    assert Index().entry(1) is None


def test_table() -> None:
    made = Index()
    made.put_complete(
        8, "both", descriptor(8, name="both"), complete=True, when="2026-01-01T00:00:00"
    )
    made.set_dataset(9, "nocomp", descriptor(9, name="nocomp"), complete=False)
    made.put_complete(
        10, "ckpt.10", descriptor(10, name="ckpt.10"), complete=True, when="2026-11-22T07:14:49"
    )
    made.mark_failed(10, "ckpt.10", "2026-11-22T07:15:00")
    made.put_complete(7, "out", descriptor(7, name="out", ckpt=False), complete=True, when="x")
    made.tree.add("DSET", 3).set("DSET", KVTree.of({"FLAG_CKPT": 1}))
    made.set_current("both")
    assert index.table_text(made).splitlines() == [
        "DSET VALID FLUSHED             CUR NAME",
        "  10 NO    2026-11-22T07:14:49     ckpt.10",
        "   9 NO                            nocomp",
        "   8 YES   2026-01-01T00:00:00   * both",
        "   3 NO                            UNKNOWN_NAME",
    ]


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    assert index.timestamp(1.9) == "1970-01-01T03:00:01"


def test_table_of_ten_thousand_is_quick(images: list[Image]) -> None:
    made = make(*range(1, 2001))
    began = time.process_time()
    index.table_text(made)
    assert time.process_time() - began < 0.5
