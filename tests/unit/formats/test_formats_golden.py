# SPDX-License-Identifier: BSD-3-Clause
"""Files written by the real library and tools: what they mean to us, and the same bytes again."""

from __future__ import annotations

import contextlib
import random
import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import (
    cindex,
    dataset,
    er,
    filemap,
    flush,
    nodes,
    rank2file,
    redset_header,
    summary,
)
from scrjob.formats.index import Index, table_text
from scrjob.formats.kvtree import KVTree, decode, decode_image, encode

if TYPE_CHECKING:
    from goldenimages import Image


def named(images: list[Image], pattern: str) -> list[Image]:
    chosen = [image for image in images if re.fullmatch(pattern, image.name)]
    assert chosen
    return chosen


def test_every_image_encodes_to_the_same_bytes(images: list[Image]) -> None:
    assert len(images) > 2000
    for image in images:
        tree, length = decode_image(image.data, image.path)
        assert encode(tree) == image.data[:length], image


def test_payload_begins_after_the_image(images: list[Image]) -> None:
    with_payload = 0
    for image in named(images, r".*\.mem_.*\.redset"):
        tree, length = decode_image(image.data)
        header = redset_header.decode(tree, image.path)
        name = redset_header.parse_name(image.name)
        assert name is not None
        payload = len(image.data) - length
        with_payload += bool(payload)
        if name.type == "single":
            assert payload == 0
        elif name.type in ("xor", "rs"):
            assert header.chunk_bytes is not None
            parity = header.members[name.member].descriptor.parity or 1
            assert payload == header.chunk_bytes * parity
        else:
            left = header.members[(name.member - 1) % name.members]
            assert payload == left.size_bytes
    assert with_payload


def test_typed_headers_are_written_as_the_library_writes_them(images: list[Image]) -> None:
    for image in named(images, r".*\.mem_.*\.redset"):
        tree, length = decode_image(image.data)
        values = tree.values("RANK")
        if len(values) > 1:
            continue  # a member that was rebuilt in place records two ranks
        assert encode(redset_header.encode(redset_header.decode(tree))) == image.data[:length], (
            image
        )


def test_member_rebuilt_in_place_has_two_ranks_and_still_reads(images: list[Image]) -> None:
    for image in named(images, r".*\.partner\..*\.redset"):
        redset_header.decode(decode(image.data))


def test_file_names_say_what_headers_say(images: list[Image]) -> None:
    for image in named(images, r".*\.mem_.*\.redset"):
        name = redset_header.parse_name(image.name)
        assert name is not None
        assert str(name) == image.name
        header = redset_header.decode(decode(image.data))
        descriptor = header.members[name.member].descriptor
        assert descriptor.file_name(name.set_name) == image.name
        assert descriptor.copies <= len(header.members) - 1
        if header.world_ranks is not None:
            assert header.world_ranks[name.member] == name.rank


def test_descriptor_copies(images: list[Image]) -> None:
    for image in named(images, r"reddesc(map)?\.er\.[0-9]+\.redset"):
        parsed = redset_header.parse_copies_name(image.name)
        assert parsed is not None
        assert redset_header.copies_name(*parsed) == image.name
        copies = redset_header.decode_copies(decode(image.data))
        assert parsed[1] in copies
        assert encode(redset_header.encode_copies(copies)) == image.data, image


def test_filemaps(images: list[Image]) -> None:
    for image in named(images, r"filemap_[0-9]+"):
        files = filemap.parse(decode(image.data))
        routed = {path: meta for path, meta in reversed(list(files.items())) if meta is not None}
        assert len(routed) == len(files)
        assert encode(filemap.build(routed)) == image.data, image
        assert filemap.file_name(filemap.rank_of(image.name) or 0) == image.name
        for path, meta in routed.items():
            assert meta.destination is not None
            assert meta.destination.rsplit("/", 1)[1] == path.rsplit("/", 1)[1]


def test_cache_indexes(images: list[Image]) -> None:
    for image in named(images, r"cindex\.scrinfo"):
        tree = KVTree()
        found = cindex.datasets(decode(image.data))
        for entry in found.values():
            assert entry.path is not None
            assert entry.path.startswith("/")
            assert entry.descriptor is not None
            assert entry.details is not None
            assert entry.details.id == entry.id
            cindex.put_dataset(
                tree,
                entry.id,
                path=entry.path,
                is_bypass=entry.is_bypass,
                descriptor=dataset.build(entry.details),
            )
        assert tree == decode(image.data), image  # the order tells how often the library copied it


def test_state_files(images: list[Image]) -> None:
    for image in named(images, r"reddesc(map)?\.er\.er"):
        assert er.is_encoded(decode(image.data))
        assert encode(er.build_state(er.STATE_ENCODED)) == image.data
    for image in named(images, r"reddesc(map)?\.er\.shuffile"):
        owned = er.parse_shuffile(decode(image.data))
        assert all(owned.values())
        files = {rank: paths for rank, paths in owned.items() if paths is not None}
        assert er.parse_shuffile(er.build_shuffile(files)) == owned
        if len(files) == 1:  # the order of several ranks depends on the library's collectives
            assert encode(er.build_shuffile(files)) == image.data, image


def test_flush_files(images: list[Image]) -> None:
    for image in named(images, r"flush\.scr"):
        tree = decode(image.data)
        again = KVTree()
        for number in flush.ids(tree):
            entry = flush.entry(tree, number)
            assert entry is not None
            if entry.descriptor is None:
                return
            details = dataset.parse(entry.descriptor)
            assert (details.id, details.name) == (entry.id, entry.name)
            flush.put_dataset(again, number, dataset.build(details))
            for state in reversed(entry.locations):
                flush.add_location(again, number, state)
        assert again == tree


def test_summaries_and_maps_of_ranks(images: list[Image]) -> None:
    for image in named(images, r"summary\.scr"):
        found = summary.parse(decode(image.data))
        assert found.version == summary.VERSION
        if found.complete and found.descriptor is not None and image.case.startswith("meta"):
            again = summary.build(dataset.build(dataset.parse(found.descriptor)), complete=True)
            assert encode(again) == image.data, image
    for image in named(images, r"rank2file\.0\.0"):
        ranks = decode(image.data).child("RANK") or KVTree()
        for entry in map(ranks.child, ranks):
            assert entry is not None
            files = rank2file.files(entry)
            assert rank2file.entry(files, rank2file.expected(entry)) == entry


def test_node_counts(images: list[Image]) -> None:
    for image in named(images, r"nodes\.scr"):
        number = nodes.count(decode(image.data))
        assert number
        assert encode(nodes.build(number)) == image.data


@pytest.mark.parametrize("kind", ["summary.scr", "index.scr", "flush.scr", "cindex.scrinfo"])
def test_kinds_are_there(images: list[Image], kind: str) -> None:
    assert any(image.name == kind for image in images)


def one_of_each(images: list[Image]) -> list[bytes]:
    """Return the smallest image of each kind of file, without payload."""
    kinds: dict[str, bytes] = {}
    for image in images:
        _, length = decode_image(image.data)
        kind = re.sub("[0-9]+", "#", image.name)
        data = image.data[:length]
        if kind not in kinds or len(data) < len(kinds[kind]):
            kinds[kind] = data
    assert len(kinds) > 15
    return list(kinds.values())


def test_every_proper_prefix_is_truncated(images: list[Image]) -> None:
    for data in one_of_each(images):
        for length in range(1, len(data)):
            with pytest.raises(TruncatedError):
                decode(data[:length])


def test_every_changed_byte_is_found_or_changes_nothing(images: list[Image]) -> None:
    rolls = random.Random(11)
    for data in one_of_each(images):
        for at in rolls.sample(range(len(data)), min(len(data), 150)):
            changed = bytearray(data)
            changed[at] ^= rolls.randint(1, 255)
            with pytest.raises(FormatError):
                decode(bytes(changed))


def test_damage_behind_a_right_checksum_never_escapes_our_errors(images: list[Image]) -> None:
    """All readers take any tree: they answer, or raise one of our errors."""
    rolls = random.Random(13)
    readers = [
        redset_header.decode,
        redset_header.decode_copies,
        filemap.parse,
        cindex.datasets,
        er.parse_shuffile,
        summary.parse,
        dataset.parse,
        nodes.count,
        lambda tree: [flush.entry(tree, number) for number in flush.ids(tree)],
        lambda tree: table_text(Index(tree)),
    ]
    for data in one_of_each(images):
        for _ in range(20):
            body = bytearray(data[:-4])
            for _ in range(rolls.randint(1, 6)):
                body[rolls.randrange(24, len(body) + 1) - 1] = rolls.choice(b"\0\1\2:-0129ABZ\xff")
            with contextlib.suppress(FormatError):
                tree = decode(bytes(body) + struct.pack(">I", zlib.crc32(body)))
                for reader in readers:
                    with contextlib.suppress(FormatError):
                        reader(tree)
