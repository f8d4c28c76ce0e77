# SPDX-License-Identifier: BSD-3-Clause
"""The quick reader of filemaps says what the thorough one says, whatever the bytes are."""

from __future__ import annotations

from typing import Dict, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import filemap, kvtree, places
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.formats.kvtree import KVTree
from scrjob.formats.places import Place, Reader

NUMBERS = st.one_of(st.none(), st.integers(0, 1 << 66))
TEXTS = st.one_of(
    st.none(),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12),
)
METAS = st.builds(
    FileMeta,
    complete=st.one_of(st.none(), st.booleans()),
    ranks=NUMBERS,
    orig=TEXTS,
    directory=TEXTS,
    name=TEXTS,
    stat=st.builds(FileStat, size_bytes=NUMBERS, mode=NUMBERS, mtime_ns=NUMBERS),
    crc=st.one_of(st.none(), st.integers(0, (1 << 32) - 1)),
)
LIKE_EACH_OTHER = FileMeta(
    True, 8, "o", "/p", "f", FileStat(5, 33188, 1, 1, 1, 1, 1_500_000_000_123_456_789)
)


def thorough(data: bytes) -> Dict[str, Optional[Place]]:
    listed = filemap.parse(kvtree.decode(data))
    return {
        path: meta
        and Place(
            *(meta.directory, meta.name, meta.ranks, meta.stat.size_bytes),
            *(meta.complete is True, meta.crc),
        )
        for path, meta in listed.items()
    }


def both(data: bytes) -> None:
    try:
        wanted = thorough(data)
    except FormatError as error:
        with pytest.raises(type(error)):
            Reader().read(data)
        with pytest.raises(type(error)):
            Reader().read_metas(data)
        return
    got = Reader().read(data)
    assert got == wanted
    assert list(got) == list(wanted)
    metas, whole = Reader().read_metas(data), filemap.parse(kvtree.decode(data))
    assert {path: copied(meta) for path, meta in metas.items()} == {
        path: copied(meta) for path, meta in whole.items()
    }
    assert list(metas) == list(whole)


def copied(meta: Optional[FileMeta]) -> Optional[FileMeta]:
    """Return a record with nothing but what a copy needs."""
    return meta and meta._replace(
        ranks=None, orig=None, name=None, stat=meta.stat._replace(ctime_ns=None)
    )


@settings(deadline=None)
@given(st.dictionaries(st.text("ab/ü\n", min_size=0, max_size=6), METAS, max_size=6))
def test_any_filemap(files: Dict[str, FileMeta]) -> None:
    both(kvtree.encode(filemap.build(files)))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"1", b"0", b"01", b"0x1f", b" 7", b"-3", b"", b"9" * 25, b"x"])),
    st.sampled_from([b"RANKS", b"SIZE", b"COMPLETE", b"CRC", b"NAME", b"MODE", b"MTIME_NSECS"]),
)
def test_numbers_as_c_reads_them(values: list[bytes], key: bytes) -> None:
    tree = filemap.build({f"/c/{i}": LIKE_EACH_OTHER._replace(crc=7) for i in range(len(values))})
    for i, value in enumerate(values):
        meta = tree.child("FILE", f"/c/{i}", "META")
        assert meta is not None
        meta.put(key, value)
    both(kvtree.encode(tree))


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2000), st.integers(1, 255))
def test_damaged_bytes_without_a_checksum(extra: bytes, at: int, change: int) -> None:
    """Without its CRC an image of any content reaches the readers of the tree."""
    image = bytearray(kvtree.encode(filemap.build({f"/c/{i}": LIKE_EACH_OTHER for i in range(3)})))
    body = image[kvtree.HEADER.size : -4] + extra
    body[at % len(body)] ^= change
    head = kvtree.HEADER.pack(
        kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, kvtree.HEADER.size + len(body), 0
    )
    both(bytes(head) + bytes(body))


def test_a_record_twice_is_folded() -> None:
    one = kvtree.encode(filemap.build({"/c/0": LIKE_EACH_OTHER}))[kvtree.HEADER.size : -4]
    record = one[len(b"\0\0\0\x01FILE\0\0\0\0\x01") :]
    body = b"\0\0\0\x01FILE\0\0\0\0\x02" + record + record
    head = kvtree.HEADER.pack(
        kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, kvtree.HEADER.size + len(body), 0
    )
    assert len(Reader().read(head + body)) == 1
    both(head + body)


def test_no_records() -> None:
    for tree in (KVTree(), KVTree.of({"FILE": {}}), KVTree.of({"FILE": {"/c/0": {}}})):
        both(kvtree.encode(tree))


def test_no_bytes_are_no_filemap() -> None:
    """What a killed writer left must not be taken for the filemap of a rank without files."""
    for read in (Reader().read, Reader().read_metas):
        with pytest.raises(TruncatedError, match="empty"):
            read(b"", "filemap_1")


def test_one_reader_for_files_of_other_keys() -> None:
    """It remembers the pattern of the last file."""
    reader = Reader()
    for meta in (LIKE_EACH_OTHER, LIKE_EACH_OTHER._replace(crc=7), LIKE_EACH_OTHER, FileMeta()):
        data = kvtree.encode(filemap.build({"/c/0": meta, "/c/1": meta}))
        assert reader.read(data) == thorough(data)
        assert copied(reader.read_metas(data)["/c/1"]) == copied(meta)


def test_the_quick_way_is_taken() -> None:
    """For what SCR writes: or the build of very many files is slow, and nothing else tells."""
    image = kvtree.encode(filemap.build({f"/c/{i}": LIKE_EACH_OTHER for i in range(3)}))
    reader, body = Reader(), kvtree.packed(image)
    assert places._quick(body, reader._places, places._place) is not None
    assert places._quick(body, reader._copied, places._meta) is not None
