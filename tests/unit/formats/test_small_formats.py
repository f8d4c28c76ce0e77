# SPDX-License-Identifier: BSD-3-Clause
"""flush.scr, summaries, maps of ranks, redundancy headers, state files, paths: rules and damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import (
    cindex,
    dataset,
    er,
    filemap,
    flush,
    kvtree,
    nodes,
    paths,
    rank2file,
    redset_header,
    summary,
)
from scrjob.formats._cursor import Cursor
from scrjob.formats.kvtree import KVTree


def descriptor(number: int, *, ckpt: bool = True, output: bool = False) -> KVTree:
    return dataset.build(dataset.Descriptor(number, f"d.{number}", is_ckpt=ckpt, is_output=output))


# Flush file.


def flush_tree() -> KVTree:
    tree = KVTree()
    flush.put_dataset(tree, 3, descriptor(3))
    flush.put_dataset(tree, 5, descriptor(5, ckpt=False, output=True))
    flush.put_dataset(tree, 10, descriptor(10, output=True))
    flush.add_location(tree, 11, flush.PFS)
    tree.add("DATASET", -1)
    tree.add("DATASET", "junk")
    return tree


def test_lists_of_datasets() -> None:
    tree = flush_tree()
    assert flush.ids(tree) == [3, 5, 10, 11]
    assert flush.list_ckpt(tree) == [10, 3]
    assert flush.list_output(tree) == [5, 10]
    assert flush.list_ckpt(tree, 10) == [3]
    assert flush.list_output(tree, 10) == [5]
    assert flush.list_ckpt(tree, -1) == []
    assert flush.latest(tree) == 11
    assert flush.latest(KVTree()) is None


def test_states_of_a_dataset() -> None:
    tree = flush_tree()
    assert flush.need_flush(tree, 3)
    assert flush.location(tree, 3) == "CACHE"
    flush.add_location(tree, 3, flush.SYNC_FLUSHING)
    assert flush.location(tree, 3) == "SYNC_FLUSHING"
    flush.add_location(tree, 3, flush.PFS)
    flush.remove_location(tree, 3, flush.SYNC_FLUSHING)
    assert flush.location(tree, 3) == "PFS"
    assert not flush.need_flush(tree, 3)
    entry = flush.entry(tree, 3)
    assert entry is not None
    assert entry.locations == ("PFS", "CACHE")
    flush.put_dataset(tree, 3, descriptor(3))
    assert flush.need_flush(tree, 3)


def test_dataset_without_states() -> None:
    tree = KVTree.of({"DATASET": {"1": {}, "2": {"LOCATION": {}}}})
    assert flush.location(tree, 1) is None
    assert flush.location(tree, 2) == "NONE"
    assert flush.need_flush(tree, 1)
    flush.remove_location(tree, 1, "PFS")
    flush.remove_location(tree, 9, "PFS")
    assert flush.location(tree, 9) is None


@pytest.mark.parametrize("number", [0, -1, 99])
def test_dataset_that_cannot_be(number: int) -> None:
    tree = flush_tree()
    assert flush.entry(tree, number) is None
    assert not flush.need_flush(tree, number)
    assert flush.location(tree, number) is None


def test_flags_are_one_or_nothing() -> None:
    tree = KVTree.of({"DATASET": {"1": {"CKPT": 2, "OUTPUT": 0}}})
    assert flush.list_ckpt(tree) == []
    assert flush.list_output(tree) == []


def test_removing_the_last_dataset_leaves_an_empty_file() -> None:
    tree = KVTree()
    flush.put_dataset(tree, 3, descriptor(3))
    flush.remove(tree, 3)
    flush.remove(tree, 3)
    assert not tree


def test_entry_of_a_rebuilt_cache_is_refilled() -> None:
    """Without the rest of the entry the dataset would not be seen by a scavenge."""
    tree = KVTree()
    flush.add_location(tree, 4, flush.CACHE)
    flush.add_location(tree, 4, flush.PFS)
    assert flush.list_ckpt(tree) == []
    assert flush.refill(tree, 4, descriptor(4))
    assert flush.list_ckpt(tree) == [4]
    entry = flush.entry(tree, 4)
    assert entry is not None
    assert (entry.name, entry.locations) == ("d.4", ("PFS", "CACHE"))
    assert not flush.refill(tree, 4, descriptor(5))
    assert not flush.refill(tree, 9, descriptor(9))


def test_refill_of_an_entry_without_states_says_cache() -> None:
    tree = KVTree.of({"DATASET": {"4": {}}})
    assert flush.refill(tree, 4, descriptor(4))
    assert flush.location(tree, 4) == "CACHE"


# Summary, nodes, cache index, filemap, state.


def test_summary_of_a_failed_build_is_not_complete() -> None:
    tree = summary.build(descriptor(3), complete=False)
    found = summary.parse(tree)
    assert (found.complete, found.name, found.version) == (None, "d.3", 6)
    assert "COMPLETE" not in tree
    assert summary.parse(KVTree.of({"COMPLETE": 0})).complete is False
    assert summary.parse(KVTree()) == summary.Summary(None, None, None)
    assert summary.parse(KVTree()).name is None


def test_nodes() -> None:
    assert nodes.count(KVTree.of({"NODES": {"3": {}, "4": {}}})) is None
    assert nodes.count(KVTree()) is None
    assert nodes.count(nodes.build(7)) == 7


def test_cache_index() -> None:
    tree = KVTree.of({"DSET": {"7": {"PATH": "/a b"}, "0": {"PATH": "x"}}})
    assert cindex.datasets(tree) == {7: cindex.CachedDataset(7, "/a b", False, None)}
    assert cindex.datasets(tree)[7].details is None
    cindex.put_dataset(tree, 8, path="/c", is_bypass=True, descriptor=descriptor(8))
    assert cindex.datasets(tree)[8].is_bypass
    cindex.remove_dataset(tree, 7)
    cindex.remove_dataset(tree, 7)
    assert list(cindex.datasets(tree)) == [8]
    assert cindex.current(tree) is None
    cindex.set_current(tree, "ckpt.8")
    assert cindex.current(tree) == "ckpt.8"


def test_filemap_of_an_open_dataset_and_of_a_foreign_writer() -> None:
    path = "/cache/odd \udcff name\n"
    opened = filemap.FileMeta(complete=False, ranks=4, orig="x", directory="/p", name="x")
    assert filemap.parse(filemap.build({path: opened})) == {path: opened}
    assert opened.destination == "/p/x"
    assert filemap.parse(KVTree.of({"FILE": {"/a": {}}})) == {"/a": None}
    assert filemap.parse(KVTree()) == {}
    assert filemap.FileMeta(name="x").destination is None
    checked = opened._replace(crc=0xAB, stat=filemap.FileStat.from_os(os.stat("/")))
    again = filemap.parse(filemap.build({path: checked}))[path]
    assert again == checked
    assert checked.stat.mtime_ns == os.stat("/").st_mtime_ns
    assert filemap.rank_of("filemap_12") == 12
    assert filemap.rank_of("filemap_12.tmp") is None


def test_state_that_is_not_clear_is_not_encoded() -> None:
    assert not er.is_encoded(er.build_state(er.STATE_CORRUPT))
    assert not er.is_encoded(KVTree())
    assert er.state_name("reddesc") == "reddesc.er.er"
    assert er.shuffile_name("reddescmap") == "reddescmap.er.shuffile"
    assert er.parse_shuffile(KVTree.of({"RANK": {"3": {"FILES": 2, "FILE": {"/a": {}}}}})) == {
        3: None
    }
    assert er.parse_shuffile(KVTree()) == {}


# Map of ranks.


def write_map(base: Path, ranks: int, **options: int) -> None:
    entries = {rank: rank2file.entry([f"d/r{rank}.a", f"d/r{rank}.b"], 2) for rank in range(ranks)}
    rank2file.write(str(base), entries, ranks, **options)


def test_map_in_several_parts(tmp_path: Path) -> None:
    base = tmp_path / "rank2file"
    write_map(base, 5, ranks_per_part=2)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["rank2file", "rank2file.0.0", "rank2file.0.2", "rank2file.0.4"]
    for name in names:
        assert kvtree.read(str(tmp_path / name)).integer("RANKS") == 5
    found = rank2file.read(str(base))
    assert found.ranks == 5
    assert found.missing() == []
    assert rank2file.files(found.entries[4]) == ["d/r4.a", "d/r4.b"]
    assert rank2file.expected(found.entries[4]) == 2


def test_parts_of_an_older_map_go(tmp_path: Path) -> None:
    base = tmp_path / "rank2file"
    write_map(base, 5, ranks_per_part=2)
    (tmp_path / "rank2file.0.2.bak").touch()
    write_map(base, 2)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["rank2file", "rank2file.0.0", "rank2file.0.2.bak"]
    assert rank2file.read(str(base)).ranks == 2


def test_map_without_any_entry(tmp_path: Path) -> None:
    base = tmp_path / "rank2file"
    rank2file.write(str(base), {}, 3)
    assert rank2file.read(str(base)) == rank2file.Rank2File(3, {})
    assert rank2file.read(str(base)).missing() == [0, 1, 2]


def put(base: Path, suffix: str, level: int, ranks: int, below: dict[str, object]) -> None:
    content = {"LEVEL": level, "RANKS": ranks, "RANK": below}
    kvtree.write(f"{base}{suffix}", KVTree.of(content))


def test_map_of_three_levels(tmp_path: Path) -> None:
    base = tmp_path / "rank2file"
    put(base, "", 2, 3, {"0": {"FILE": ".1.0", "OFFSET": 0}, "2": {"FILE": ".1.2", "OFFSET": 0}})
    put(base, ".1.0", 1, 3, {"0": {"FILE": ".0.0", "OFFSET": 0}})
    put(base, ".1.2", 1, 3, {"2": {"FILE": ".0.2", "OFFSET": 0}})
    put(base, ".0.0", 0, 3, {"0": {"FILE": "a"}, "1": {}})
    put(base, ".0.2", 0, 3, {"2": {"FILE": "b"}})
    found = rank2file.read(str(base))
    assert sorted(found.entries) == [0, 1, 2]
    assert rank2file.files(found.entries[2]) == ["b"]
    assert rank2file.expected(found.entries[1]) is None


def test_part_that_counts_only_itself_is_read(tmp_path: Path) -> None:
    """SCR 3.1's scr_index writes the number of entries of the part in place of the job's size."""
    base = tmp_path / "rank2file"
    put(base, "", 1, 9, {"0": {"FILE": ".0.0", "OFFSET": 0}})
    put(base, ".0.0", 0, 2, {"0": {}, "8": {}})
    assert rank2file.read(str(base)).missing() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("root", "part", "text"),
    [
        ((1, 2, {"0": {"FILE": "../x"}}), (0, 2, {}), "link to"),
        ((1, 2, {"0": {}}), (0, 2, {}), "link to"),
        ((1, 2_000_000_000, {}), (0, 2, {}), "2000000000 ranks is impossible"),
        ((1, 2, {"0": {"FILE": ".0.0", "OFFSET": 8}}), (0, 2, {}), "offset 8"),
        ((2, 2, {"0": {"FILE": ".0.0"}}), (0, 2, {}), "expected level 1, got 0"),
        ((99, 2, {"0": {"FILE": ".0.0"}}), (0, 2, {}), "level 99"),
        ((1, 2, {"0": {"FILE": ".0.0"}}), (0, 3, {"0": {}, "1": {}}), "expected 2 ranks, got 3"),
        ((1, 2, {"0": {"FILE": ".0.0"}}), (0, 2, {"2": {}}), "rank '2' in a job of 2"),
        ((1, 2, {"0": {"FILE": ".0.0"}}), (0, 2, {"x": {}}), "rank 'x'"),
        ((1, 2, {"0": {"FILE": ".0.0"}, "1": {"FILE": ".0.0"}}), (0, 2, {"1": {}}), "second time"),
        ((1, -2, {}), (0, 2, {}), "expected a number under RANKS"),
    ],
)
def test_map_that_contradicts_itself(
    tmp_path: Path,
    root: tuple[int, int, dict[str, object]],
    part: tuple[int, int, dict[str, object]],
    text: str,
) -> None:
    base = tmp_path / "rank2file"
    put(base, "", *root)
    put(base, ".0.0", *part)
    with pytest.raises(FormatError, match=text):
        rank2file.read(str(base))


def test_map_with_a_lost_part(tmp_path: Path) -> None:
    base = tmp_path / "rank2file"
    write_map(base, 2)
    (tmp_path / "rank2file.0.0").unlink()
    with pytest.raises(FileNotFoundError):
        rank2file.read(str(base))


# Redundancy headers.


def header(kind: str = "xor", **place: Optional[int]) -> redset_header.Header:
    fields = {"groups": 1, "group": 0, "ranks": 2, "rank": 0, "world_rank": 4, "world_ranks": 8}
    fields.update({key: value for key, value in place.items() if value is not None})
    made = redset_header.Descriptor(
        kind,
        **fields,
        replicas=1 if kind == "partner" else None,
        parity=2 if kind == "rs" else None,
    )
    file = redset_header.ProtectedFile("/c/a", redset_header.FileStat(size_bytes=5, mode=0o100644))
    member = redset_header.Member(made, (file, file._replace(path="/c/b")))
    return redset_header.Header(0, {0: member, 1: member}, 77, {0: 4, 1: 5})


@pytest.mark.parametrize(("kind", "copies"), [("single", 0), ("partner", 1), ("xor", 1), ("rs", 2)])
def test_header_round_trip(kind: str, copies: int) -> None:
    made = header(kind)
    tree = redset_header.encode(made)
    assert list(tree) == sorted(tree)
    assert redset_header.decode(tree) == made
    member = made.members[0]
    assert member.size_bytes == 10
    assert member.descriptor.copies == copies
    name = member.descriptor.file_name("reddesc")
    assert name == f"reddesc.er.4.{kind}.grp_1_of_1.mem_1_of_2.redset"
    parsed = redset_header.parse_name(name)
    assert parsed == redset_header.RedsetName("reddesc", 4, kind, 0, 1, 0, 2)


def test_header_of_single_has_no_group() -> None:
    made = header("single")._replace(chunk_bytes=None, world_ranks=None, rank=None)
    tree = redset_header.encode(made)
    assert list(tree) == [b"DESC"]
    assert redset_header.decode(tree) == made


@pytest.mark.parametrize(
    "name",
    [
        "reddesc.er.4.xor.grp_1_of_1.mem_1_of_2.redset.tmp",
        "reddesc.er.4.zip.grp_1_of_1.mem_1_of_2.redset",
        "reddesc.er.4.xor.grp_2_of_1.mem_1_of_2.redset",
        "reddesc.er.4.xor.grp_1_of_1.mem_3_of_2.redset",
        "reddesc.er.4.xor.grp_0_of_1.mem_1_of_2.redset",
        "reddescXer.4.xor.grp_1_of_1.mem_1_of_2.redset",
        "reddesc.er.4.redset",
    ],
)
def test_names_that_are_none(name: str) -> None:
    assert redset_header.parse_name(name) is None


def test_names_of_copies() -> None:
    assert redset_header.parse_copies_name("reddescmap.er.4.redset") == ("reddescmap", 4)
    assert redset_header.parse_copies_name("reddesc.er.er") is None


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("DESC", "0", "DESC"), None, "has no DESC"),
        (("DESC", "0", "DESC", "TYPE"), "ZIP", "unknown redundancy type 'zip'"),
        (("DESC", "0", "DESC", "RANK"), "2", "impossible place"),
        (("DESC", "0", "DESC", "GROUP"), "-1", "number under GROUP, got -1"),
        (("DESC", "0", "DESC", "WRANK"), None, "number under WRANK, got None"),
        (("DESC", "0", "FILES"), "3", "says 3 files but lists"),
        (("DESC", "0", "FILE", "0"), None, "says 2 files but lists"),
        (("DESC", "0", "FILE", "0"), "", "no possible SIZE"),
        (("DESC", "0", "FILE", "0", "/c/a", "SIZE"), str(1 << 63), "no possible SIZE"),
        (("DESC", "0", "FILE", "0", "/c/more"), "x", "one path per file, got 2"),
        (("DESC", "x" * 99), "1", "number as key, got 'xxx"),
        (("DESC", "1" * 5000), "1", "number as key"),
        (("CHUNK",), str(1 << 63), "impossible chunk size"),
        (("GROUP", "RANKS"), "3", "GROUP lists 2 ranks"),
        (("GROUP", "RANK", "0"), "-4", "number under 0, got -4"),
    ],
)
def test_header_that_is_damaged(path: tuple[str, ...], value: Optional[str], text: str) -> None:
    tree = redset_header.encode(header())
    parent = tree.child(*path[:-1])
    assert parent is not None
    if value is None:
        parent.unset(path[-1])
    else:
        parent.put(path[-1], value)
    with pytest.raises(FormatError, match=text) as caught:
        redset_header.decode(tree, "the/file")
    assert str(caught.value).startswith("the/file: ")


@pytest.mark.parametrize(("key", "text"), [("3", "rank 3 has no DESC"), ("x", "number as key")])
def test_copies_that_are_damaged(key: str, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        redset_header.decode_copies(KVTree.of({key: {}}))


# Paths, cursor.


@pytest.mark.parametrize(
    ("path", "reduced"),
    [
        ("./a//b/../c/", "a/c"), (".", ""), ("./", ""), ("x/..", ""), ("", ""), ("/", "/"),
        ("/a/../b", "/b"), ("../a", "../a"), ("../../a/..", "../.."), ("/..", "/.."), ("a/../../b", "../b"),
        ("//a", "/a"),
    ],
)  # fmt: skip
def test_reduction_of_paths(path: str, reduced: str) -> None:
    assert paths.reduce_path(path) == reduced


def test_places() -> None:
    assert paths.scr_dir("/p") == "/p/.scr"
    assert paths.halt_file("/p") == "/p/.scr/halt.scr"
    assert paths.flush_file("/p") == "/p/.scr/flush.scr"
    assert paths.nodes_file("/p") == "/p/.scr/nodes.scr"
    assert paths.index_file("/p") == "/p/.scr/index.scr"
    assert paths.summary_file("/p", 3) == "/p/.scr/scr.dataset.3/summary.scr"
    assert paths.rank2file("/p", 3) == "/p/.scr/scr.dataset.3/rank2file"
    assert paths.dataset_dir_id("scr.dataset.12") == 12
    assert paths.dataset_dir_id("scr.dataset.12x") is None


def test_cursor_names_the_place() -> None:
    cursor = Cursor(b"abcdef", "f", 4)
    assert cursor.remaining() == 2
    with pytest.raises(
        TruncatedError, match="f: truncated thing: expected 3 bytes, got 2 at byte 4"
    ):
        cursor.need(3, "thing")
