# SPDX-License-Identifier: BSD-3-Clause
"""The quick reader and writer of redundancy headers say what the thorough ones say, whatever the bytes."""

from __future__ import annotations

from typing import Callable, Dict, Tuple, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrjob.errors import FormatError
from scrjob.formats import header_image, kvtree, redset_header
from scrjob.formats.kvtree import KVTree
from scrjob.formats.redset_header import Descriptor, FileStat, Header, Member, ProtectedFile

NUMBERS = st.one_of(st.none(), st.integers(0, 1 << 63))
PATHS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12)
FILES = st.builds(
    ProtectedFile,
    PATHS,
    st.builds(
        FileStat,
        size_bytes=st.integers(0, (1 << 63) - 1),
        mode=NUMBERS,
        uid=NUMBERS,
        gid=NUMBERS,
        atime_ns=NUMBERS,
        ctime_ns=NUMBERS,
        mtime_ns=NUMBERS,
    ),
)
ALIKE = st.builds(
    ProtectedFile, PATHS, st.builds(FileStat, st.integers(0, 99), *[st.integers(0, 9)] * 6)
)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    members = {}
    for number in draw(st.sets(st.integers(0, 12), min_size=1, max_size=3)):
        files = draw(st.one_of(st.lists(ALIKE, max_size=12), st.lists(FILES, max_size=3)))
        members[number] = Member(Descriptor("xor", 2, 1, 13, number, number, 26), tuple(files))
    return Header(0, members, 5, {i: 2 * i for i in range(13)})


def both(image: bytes) -> None:
    wanted = outcome(lambda: redset_header.decode(kvtree.decode(image)))
    assert outcome(lambda: header_image.decode(image, least_bytes=0)) == wanted


def outcome(read: Callable[[], Header]) -> Union[Header, Tuple[type, str]]:
    try:
        return read()
    except FormatError as error:
        return type(error), str(error)


def image_of(body: bytes) -> bytes:
    """Without a CRC an image of any content reaches the readers."""
    size = kvtree.HEADER.size + len(body)
    return kvtree.HEADER.pack(kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, size, 0) + body


@settings(deadline=None)
@given(headers())
def test_any_header(header: Header) -> None:
    image = header_image.encode(header)
    assert image == kvtree.encode(redset_header.encode(header))
    assert redset_header.decode(kvtree.decode(image)) == header
    both(image)


@settings(deadline=None)
@given(headers(), st.data())
def test_damaged_bytes_without_a_checksum(header: Header, data: st.DataObject) -> None:
    body = bytearray(kvtree.packed(header_image.encode(header)))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    both(image_of(bytes(body)))


@settings(deadline=None)
@given(
    st.sampled_from(["0", "01", "0x1f", " 7", "-3", "", "9" * 25, "x", "1.5"]),
    st.sampled_from(["SIZE", "MODE", "MTIME_SECS", "MTIME_NSECS", "NEW"]),
    st.integers(0, 3),
)
def test_values_as_c_reads_them(value: str, key: str, which: int) -> None:
    tree = redset_header.encode(plain(4))
    entry = tree.child("DESC", "0", "FILE", str(which), f"/c/{which}")
    assert entry is not None
    entry.put(key, value)
    both(kvtree.encode(tree))


def plain(files: int, members: int = 1) -> Header:
    found: Dict[int, Member] = {}
    for i in range(members):
        listed: Tuple[ProtectedFile, ...] = tuple(
            ProtectedFile(f"/c/{n}", FileStat(n, 33188, 1, 1, 1, 1, 1)) for n in range(files)
        )
        found[i] = Member(Descriptor("xor", 1, 0, 4, i, i, 4), listed)
    return Header(0, found, 1, {i: i for i in range(4)})


@pytest.mark.parametrize(
    "change",
    [
        {"DESC": {"0": {"FILE": {}}}},
        {"DESC": {"0": {"FILE": {"0": {"/a": {"SIZE": 1}, "/b": {"SIZE": 1}}}}}},
        {"DESC": {"0": {"FILE": {"5": {"/a": {"SIZE": 1}}}}}},
        {"DESC": {"0": {"FILE": {"0": {"/a": {"SIZE": {"1": {}, "2": {}}}}}}}},
        {"DESC": {"x": {"FILE": {"0": {"/a": {"SIZE": 1}}}}}},
        {"DESC": {"00": {"FILES": 1, "FILE": {"0": {"/a": {"SIZE": 1}}}}}},
        {"DESC": {"0": {"FILES": 7}}},
        {"FILE": {"0": {"/a": {"SIZE": 1}}}},
    ],
)
def test_odd_headers(change: Dict[str, object]) -> None:
    tree = redset_header.encode(plain(2, 2))
    tree.merge(KVTree.of(change))
    both(kvtree.encode(tree))


def test_files_that_come_twice_are_folded() -> None:
    body = bytes(kvtree.packed(header_image.encode(plain(2))))
    first, second = body.index(b"0\0\0\0\0\x01/c/0"), body.index(b"1\0\0\0\0\x01/c/1")
    twice = body[:second] + body[first:second] + body[second:]
    both(image_of(twice.replace(b"FILE\0\0\0\0\x02", b"FILE\0\0\0\0\x03")))
    section = body.index(b"FILE\0")
    end = body.index(b"FILES\0")
    again = body[:end] + body[section:end] + body[end:]
    both(image_of(again.replace(b"0\0\0\0\0\x03DESC", b"0\0\0\0\0\x04DESC")))


def test_a_path_with_nul_is_refused() -> None:
    header = Header(
        0, {0: Member(Descriptor("xor", 1, 0, 4, 0, 0, 4), (ProtectedFile("a\0", FileStat(1)),))}
    )
    with pytest.raises(FormatError, match="NUL"):
        header_image.encode(header)


def test_the_quick_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what SCR writes: or the build of very many files is slow, and nothing else tells."""
    image = header_image.encode(plain(300, 2))
    assert len(image) > header_image.LEAST_BYTES
    wanted = redset_header.decode(kvtree.decode(image))
    monkeypatch.delattr(redset_header, "_file")
    assert header_image.decode(image) == wanted
