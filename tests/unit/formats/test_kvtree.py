# SPDX-License-Identifier: BSD-3-Clause
"""The KVTree container: rules of order, typed values, damage of every kind."""

from __future__ import annotations

import gc
import io
import random
import re
import struct
import zlib
from pathlib import Path
from typing import Iterator, Optional

import pytest

from scrjob.errors import (
    ChecksumError,
    FormatError,
    ScrError,
    TruncatedError,
    UnsupportedVersionError,
)
from scrjob.formats import _numbers, kvtree
from scrjob.formats.kvtree import KVTree, decode, decode_image, encode


def image(body: bytes, *, flags: int = 1, size: Optional[int] = None, crc: bool = True) -> bytes:
    """Make an image around a packed tree, right unless told otherwise."""
    length = 20 + len(body) + 4 * crc if size is None else size
    data = struct.pack(">IHHQI", 0x951FC3F5, 1, 1, length, flags) + body
    return data + struct.pack(">I", zlib.crc32(data)) if crc else data


def keys(tree: KVTree, *path: str) -> list[bytes]:
    below = tree.child(*path)
    assert below is not None
    return list(below)


# Bytes of real files, as the format's page shows them.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "951fc3f500010001000000000000001c00000001 00000000 02149a0e"),
        (
            {"NODES": 4},
            "951fc3f500010001000000000000002c00000001 00000001 4e4f44455300 00000001 3400 00000000 cb4f2fc1",
        ),
        (
            {"CheckpointsLeft": 5},
            "951fc3f50001000100000000000000360000000100000001436865636b706f696e74734c6566740000000001350000000000b7cb3946",
        ),
    ],
)
def test_known_bytes(content: dict[str, int], expected: str) -> None:
    assert encode(KVTree.of(content)) == bytes.fromhex(expected)
    assert decode(bytes.fromhex(expected)) == KVTree.of(content)


def test_no_bytes_are_an_empty_tree() -> None:
    assert decode_image(b"") == (KVTree(), 0)


def test_what_follows_the_image_is_left_alone() -> None:
    data = encode(KVTree.of({"A": 1}))
    assert decode_image(data + b"payload") == (KVTree.of({"A": 1}), len(data))


def test_image_without_checksum() -> None:
    body = encode(KVTree.of({"A": 1}))[20:-4]
    assert decode(image(body, flags=0, crc=False)) == KVTree.of({"A": 1})
    assert decode(image(body, flags=0xFFFFFFFE, crc=False)) == KVTree.of({"A": 1})


# Order.


def test_new_keys_come_first() -> None:
    tree = KVTree()
    for key in ("a", "b", "c"):
        tree.add(key)
    assert list(tree) == [b"c", b"b", b"a"]


def test_set_moves_to_the_head_and_drops_the_old_node() -> None:
    tree = KVTree.of({"c": 3, "b": 2, "a": 1})
    tree.set("a", KVTree.of({"x": {}}))
    assert list(tree) == [b"a", b"c", b"b"]
    assert tree.values("a") == [b"x"]


def test_get_or_create_moves_nothing() -> None:
    tree = KVTree.of({"c": {"2": {}, "1": {}}, "b": {}})
    tree.add("b", "9")
    tree.add("c", "1")
    assert list(tree) == [b"c", b"b"]
    assert keys(tree, "c") == [b"2", b"1"]


def test_put_makes_a_scalar_at_the_head() -> None:
    tree = KVTree.of({"b": 1, "a": {"1": {"deep": {}}, "2": {}}})
    tree.put("a", 7)
    assert list(tree) == [b"a", b"b"]
    assert tree.child("a") == KVTree.of({"7": {}})


def test_unset_kv_drops_the_key_with_its_last_value() -> None:
    tree = KVTree.of({"a": {"1": {}, "2": {}}, "b": {}})
    tree.unset_kv("a", 1)
    assert keys(tree, "a") == [b"2"]
    tree.unset_kv("a", 3)
    tree.unset_kv("a", 2)
    tree.unset_kv("b", "none")
    tree.unset_kv("c", "none")
    assert list(tree) == []
    tree.unset("a")


def test_merge_into_an_empty_tree_turns_the_order_at_every_level() -> None:
    source = KVTree.of({"a": {"1": {}, "2": {}}, "b": {}})
    turned = source.reversed()
    assert list(turned) == [b"b", b"a"]
    assert keys(turned, "a") == [b"2", b"1"]
    assert list(source) == [b"a", b"b"]


def test_merge_adds_to_what_is_there() -> None:
    tree = KVTree.of({"a": {"1": {}}, "z": {}})
    tree.merge(KVTree.of({"b": {}, "a": {"2": {}}}))
    assert list(tree) == [b"b", b"a", b"z"]
    assert keys(tree, "a") == [b"2", b"1"]


def test_copy_keeps_order_and_shares_nothing() -> None:
    source = KVTree.of({"a": {"1": {}, "2": {}}, "b": {}})
    copy = source.copy()
    assert encode(copy) == encode(source)
    copy.add("a", "3")
    assert "3" not in (source.child("a") or KVTree())


def test_sort_is_by_bytes_at_every_level() -> None:
    tree = KVTree.of({"b": {"2": {}, "10": {}}, "a": {}})
    tree.sort_all()
    assert list(tree) == [b"a", b"b"]
    assert keys(tree, "b") == [b"10", b"2"]
    assert (tree.child("b") or KVTree()).ints() == [2, 10]


def test_a_file_is_read_in_its_own_order_and_written_in_it() -> None:
    data = encode(KVTree.of({"a": {"2": {}, "1": {}}, "c": {}, "b": {}}))
    assert list(decode(data)) == [b"a", b"c", b"b"]
    assert encode(decode(data)) == data


def test_equal_keys_of_a_file_made_by_hand_are_folded_as_a_merge_does() -> None:
    def pack(*pairs: tuple[bytes, bytes]) -> bytes:
        return struct.pack(">I", len(pairs)) + b"".join(k + b"\0" + below for k, below in pairs)

    leaf = pack()
    body = pack((b"a", pack((b"1", leaf))), (b"b", leaf), (b"a", pack((b"2", leaf), (b"1", leaf))))
    tree = decode(image(body))
    # From the end: a{2,1} is created, b, then the first a is merged into the second.
    assert list(tree) == [b"b", b"a"]
    assert keys(tree, "a") == [b"2", b"1"]


def test_handles_see_each_others_changes() -> None:
    tree = KVTree()
    entry = tree.add("DSET", 3)
    entry.put("COMPLETE", 1)
    found = tree.child("DSET", 3)
    assert found is not None
    assert found.integer("COMPLETE") == 1
    assert bool(tree)
    assert len(tree) == 1
    assert dict(tree.items()) == {b"DSET": KVTree.of({"3": {"COMPLETE": 1}})}
    assert "KVTree" in repr(tree)
    assert tree != 3


# Values.


def test_keys_are_any_bytes_without_nul() -> None:
    odd = ["", " a = b # \"'", "\udcff\udc80", "é", "line\nend"]
    tree = KVTree.of({key: {} for key in odd})
    again = decode(encode(tree))
    assert [kvtree.as_text(key) for key in again] == odd
    with pytest.raises(FormatError, match="NUL"):
        encode(KVTree.of({"a\0b": 1}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"12", 12), (b" \t-7x", -7), (b"+3", 3), (b"abc", 0), (b"", 0), (b"4294967295", -1),
        (b"2147483648", -(1 << 31)), (b"99999999999999999999", -1), (b"-99999999999999999999", 0),
        (b"9" * 5000, -1), (b"0x10", 0), (b"010", 10), (b"0" * 80 + b"7", 7),
    ],
)  # fmt: skip
def test_int(text: bytes, value: int) -> None:
    assert _numbers.atoi(text) == value


@pytest.mark.parametrize(
    ("text", "unsigned", "signed"),
    [
        (b"12", 12, 12), (b"0x1F", 31, 31), (b"010", 8, 8), (b"0", 0, 0), (b"x", 0, 0), (b"0x", 0, 0),
        (b"-1", (1 << 64) - 1, -1), (b"18446744073709551615", (1 << 64) - 1, (1 << 63) - 1),
        (b"1" * 5000, (1 << 64) - 1, (1 << 63) - 1), (b"08", 0, 0),
    ],
)  # fmt: skip
def test_long(text: bytes, unsigned: int, signed: int) -> None:
    assert _numbers.strtoul(text) == unsigned
    assert _numbers.strtoll(text) == signed


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"1.5", 1.5), (b" -2e3x", -2000.0), (b"x", 0.0), (b".5", 0.5), (b"1.", 1.0)],
)
def test_real(text: bytes, value: float) -> None:
    assert _numbers.strtod(text) == value


def test_only_int_takes_the_first_of_several_values() -> None:
    tree = KVTree.of({"K": {"5": {}, "6": {}}, "E": {}})
    assert tree.integer("K") == 5
    for ask in (tree.value, tree.text, tree.unsigned, tree.int64, tree.real):
        assert ask("K") is None
        assert ask("E") is None
        assert ask("absent") is None
    assert tree.integer("E") is None
    assert tree.integer("absent") is None
    assert tree.values("K") == [b"5", b"6"]
    assert tree.values("absent") == []
    one = KVTree.of({"K": "0x20"})
    assert (one.unsigned("K"), one.int64("K"), one.real("K"), one.text("K")) == (
        32,
        32,
        0.0,
        "0x20",
    )


def test_crc_as_text() -> None:
    assert kvtree.crc_text(0) == b"0"
    assert kvtree.crc_text(0xAB) == b"0xab"


# Damage.


def test_every_proper_prefix_is_truncated() -> None:
    data = encode(KVTree.of({"A": {"x": {"y": 1}}, "B": "text"}))
    for length in range(1, len(data)):
        with pytest.raises(TruncatedError):
            decode(data[:length])


def test_every_changed_byte_is_found() -> None:
    data = encode(KVTree.of({"A": {"x": {"y": 1}}, "B": "text"}))
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                tree = decode(bytes(changed))
            except FormatError:
                continue
            # Only the flags other than bit 0 are not looked at, but they are in the checksum.
            pytest.fail(f"byte {at} bit {bit}: {tree}")


def test_changed_bytes_under_a_right_checksum_never_escape_our_errors() -> None:
    """What a checksum does not catch ends in a typed error or in a value that encodes again."""
    data = encode(KVTree.of({"A": {"x": {"y": 1}, "z": {}}, "": "", "B": "text"}))
    rolls = random.Random(7)
    for _ in range(3000):
        body = bytearray(data[20:-4])
        for _ in range(rolls.randint(1, 3)):
            body[rolls.randrange(len(body))] = rolls.choice((0, 1, 2, 255, rolls.randrange(256)))
        try:
            tree = decode(image(bytes(body[: rolls.randint(4, len(body))])))
        except FormatError:
            continue
        assert decode(encode(tree)) == tree


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"\x95", TruncatedError, "header: expected 20 bytes, got 1 at byte 0"),
        (b"not a tree, but long enough", UnsupportedVersionError, "magic"),
        (
            image(b"\0\0\0\0").replace(b"\0\1\0\1", b"\0\2\0\1", 1),
            UnsupportedVersionError,
            "type 2",
        ),
        (
            image(b"\0\0\0\0").replace(b"\0\1\0\1", b"\0\1\0\2", 1),
            UnsupportedVersionError,
            "version 2",
        ),
        (image(b"\0\0\0\0", size=19), FormatError, "impossible length 19"),
        (image(b"\0\0\0\0", size=1 << 60), TruncatedError, "tree: expected"),
        (image(b"\0\0\0\0")[:-1] + b"x", ChecksumError, "CRC32 mismatch"),
        (image(b"\0\0\0\1"), TruncatedError, "fewer pairs"),
        (image(b"\xff\xff\xff\xff" + b"a\0\0\0\0\0"), TruncatedError, "fewer pairs"),
        (image(b"\0\0\0\1" + b"a\0\0\0\0\2" + b"b\0\0\0\0\0"), TruncatedError, "fewer pairs"),
        (image(b"\0\0\0\1" + b"a\0\0\0\0\1"), TruncatedError, "does not end"),
        (image(b"\0\0\0\0" + b"a\0\0\0\0\0"), FormatError, "left over after the tree at byte 24"),
        (image(b"\0\0\0\1" + b"a\0\0\0\0\0" + b"\0"), FormatError, "left over"),
        (
            image(b"\0\0\0\1" + b"a\0\0\0\0\1b\0\0\0\0\0" + b"c\0\0\0\0\0"),
            FormatError,
            "at byte 36",
        ),
        (image(b"\0\0\0\1" + b"abc"), TruncatedError, "does not end"),
    ],
)
def test_damage_is_named(data: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        decode(data, "some/file")
    assert str(caught.value).startswith("some/file: ")


@pytest.mark.parametrize("extra", [1, 2, 3, 4])
def test_zero_bytes_after_the_tree_are_not_passed_over(extra: int) -> None:
    for content in ({"A": 1}, {"A": {}}, {"": ""}, {"A": {"": ""}}):
        body = encode(KVTree.of(content))[20:-4]
        assert decode(image(body)) == KVTree.of(content)
        with pytest.raises(FormatError, match="left over"):
            decode(image(body + b"\0" * extra))


def test_depth_is_bounded_both_ways() -> None:
    deep = KVTree()
    node = deep
    for _ in range(kvtree.MAX_DEPTH):
        node = node.add("k")
    assert decode(encode(deep)) == deep
    node.add("k").add("k")
    with pytest.raises(FormatError, match="deeper"):
        encode(deep)
    body = b"\0\0\0\1" + b"k\0\0\0\0\1" * 100_000 + b"k\0\0\0\0\0"
    with pytest.raises(FormatError, match="deeper"):
        decode(image(body))


def test_hostile_counts_cost_no_memory() -> None:
    with pytest.raises(TruncatedError):
        decode(image(b"\xff\xff\xff\xff" + b"\0\xff\xff\xff\xff" * 1000 + b"a\0\0\0\0\0"))


def test_reading_leaves_the_cycle_collector_as_it_was() -> None:
    assert gc.isenabled()
    decode(encode(KVTree.of({"A": 1})))
    assert gc.isenabled()
    gc.disable()
    try:
        decode(encode(KVTree.of({"A": 1})))
        assert not gc.isenabled()
    finally:
        gc.enable()


# Files.


def test_image_at_the_start_of_a_large_file() -> None:
    data = encode(KVTree.of({"A": 1}))
    file = io.BytesIO(data + b"payload" * 1000)
    assert kvtree.read_image(file, "f") == (KVTree.of({"A": 1}), len(data))
    assert file.tell() == len(data)
    assert kvtree.read_image(io.BytesIO(b"")) == (KVTree(), 0)
    with pytest.raises(TruncatedError, match="header"):
        kvtree.read_image(io.BytesIO(data[:19]))
    with pytest.raises(TruncatedError, match="truncated image"):
        kvtree.read_image(io.BytesIO(data[:-1]))


class Sparse(io.BytesIO):
    """A file that says it is huge."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 1 << 40 if whence == 2 else super().seek(offset, whence)

    def tell(self) -> int:
        return 1 << 40


def test_image_larger_than_any_header_is_refused() -> None:
    with pytest.raises(FormatError, match="too large"):
        kvtree.read_image(Sparse(image(b"\0\0\0\0", size=1 << 39)))


def test_files_are_replaced_with_the_mode_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "nodes.scr"
    kvtree.write(str(path), KVTree.of({"NODES": 4}))
    inode = path.stat().st_ino
    kvtree.write(str(path), KVTree.of({"NODES": 5}))
    assert kvtree.read(str(path)).integer("NODES") == 5
    assert path.stat().st_ino != inode
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["nodes.scr"]


def test_absent_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kvtree.read(str(tmp_path / "absent"))


class Writer:
    """A clock during whose sleeps a C program goes on writing."""

    def __init__(self, path: Path, states: Iterator[bytes]) -> None:
        self._path, self._states, self.slept = path, states, 0

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self._path.write_bytes(next(self._states, self._path.read_bytes()))


def test_file_in_the_middle_of_being_rewritten_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "flush.scr"
    whole = encode(KVTree.of({"A": 1}))
    path.write_bytes(b"")
    writer = Writer(path, iter([whole[:10], whole[:-1], whole]))
    assert kvtree.read_settled(str(path), writer) == KVTree.of({"A": 1})
    assert writer.slept == 3


def test_file_that_stays_damaged_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "flush.scr"
    path.write_bytes(b"junk")
    with pytest.raises(ScrError):
        kvtree.read_settled(str(path), Writer(path, iter([])))
    path.write_bytes(b"")
    writer = Writer(path, iter([]))
    assert not kvtree.read_settled(str(path), writer)
    assert writer.slept == kvtree.SETTLE_ATTEMPTS - 1
    path.write_bytes(encode(KVTree()))
    writer = Writer(path, iter([]))
    assert not kvtree.read_settled(str(path), writer)
    assert writer.slept == 0


def test_bytes_in_the_documentation_are_right() -> None:
    page = Path(__file__).parents[3] / "docs" / "formats" / "kvtree.md"
    blocks = re.findall(r"```hex\n(.*?)```", page.read_text(), re.DOTALL)
    trees = [decode(bytes.fromhex("".join(block.split()))) for block in blocks]
    assert trees == [KVTree(), KVTree.of({"NODES": 4})]


def test_header_table_in_the_documentation_is_right() -> None:
    page = Path(__file__).parents[3] / "docs" / "formats" / "kvtree.md"
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", page.read_text(), re.MULTILINE)
    sizes = [int(size) for _, size in rows]
    assert [int(offset) for offset, _ in rows] == [sum(sizes[:at]) for at in range(len(sizes))]
    assert sum(sizes) == kvtree.HEADER.size
