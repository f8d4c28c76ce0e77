# SPDX-License-Identifier: BSD-3-Clause
"""Files of any content: every reader gives a value or one of our errors, in time and memory of the file.

The trees are made of the keys that the formats know, so that they get deep into the readers. ``fuzz/`` does
the same with coverage to guide it, for hours.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzzreaders import READERS, golden_images
from scrjob.errors import ScrError
from scrjob.formats import kvtree, redset_header
from scrjob.formats.kvtree import KVTree

KEYS = (
    b"FILE META PATH NAME RANKS SIZE COMPLETE CRC ORIG MODE UID GID ATIME_SECS MTIME_NSECS DSET DSETDESC "
    b"DATASET LOCATION BYPASS CURRENT VERSION FLUSHED FAILED FETCHED FLAG_CKPT FLAG_OUTPUT CKPT ID CREATED "
    b"RANK LEVEL OFFSET FILES DESC TYPE GROUPS GROUP WRANK WRANKS REPLICAS CKSUM CHUNK ENABLED STATE"
).split()
VALUES = st.one_of(
    st.sampled_from(
        [b"", b"0", b"1", b"2", b"-1", b"99999999999999999999", b"2147483647", b"XOR", b"rs"]
    ),
    st.sampled_from([b"/etc", b"..", b".0.0", b"4294967296", b"16777217", b" 7 ", b"7x", b"\xff"]),
    st.binary(max_size=6).map(lambda data: data.replace(b"\0", b"")),
)
TREES = st.recursive(
    st.dictionaries(VALUES, st.just({}), max_size=2),
    lambda below: st.dictionaries(st.one_of(st.sampled_from(KEYS), VALUES), below, max_size=5),
    max_leaves=25,
)


@pytest.fixture(scope="module")
def images() -> Dict[str, List[bytes]]:
    return golden_images()


def survive(reader: Callable[[str, bytes], object], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rank2file")
        Path(path).write_bytes(data)
        began = time.process_time()
        with contextlib.suppress(ScrError, OSError):
            reader(path, data)
        assert time.process_time() - began < 1


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(content=TREES)
def test_trees_of_known_keys(name: str, content: Dict[bytes, Any]) -> None:
    survive(READERS[name], kvtree.encode(KVTree.of(content)))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=120), whole=st.booleans())
@example(data=b"", whole=False)
def test_any_bytes(name: str, data: bytes, whole: bool) -> None:
    """Once as they are, once behind a header without checksum."""
    head = kvtree.HEADER.pack(
        kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, kvtree.HEADER.size + len(data), 0
    )
    survive(READERS[name], head + data if whole else data)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 20), st.sampled_from(["flip", "cut", "double"]), st.integers(1, 255)
    ),
    min_size=1,
    max_size=4,
)


def changed(body: bytes, changes: List[Tuple[int, str, int]]) -> bytes:
    for place, how, value in changes:
        if not body:
            break
        at = place % len(body)
        if how == "flip":
            body = body[:at] + bytes([body[at] ^ value]) + body[at + 1 :]
        elif how == "cut":
            body = body[:at] + body[at + value :]
        else:
            body = body[:at] + body[at : at + value] * 2 + body[at + value :]
    return body


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_of_scr(name: str, images: Dict[str, List[bytes]]) -> None:
    """Files that SCR wrote, damaged so that the checksum does not tell."""

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def run(draw: st.DataObject) -> None:
        image = draw.draw(st.sampled_from(images[name]))
        length = int.from_bytes(image[8:16], "big")
        body = changed(image[kvtree.HEADER.size : length - 4], draw.draw(CHANGES))
        size = kvtree.HEADER.size + len(body)
        head = kvtree.HEADER.pack(kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, size, 0)
        survive(READERS[name], head + body + image[length:])

    run()


NUMBER = st.integers(0, 1 << 70).map(str) | st.sampled_from(
    ["0", "007", "-1", "", "9" * 60, "\u0661"]
)


@given(
    st.sampled_from(["reddesc", "reddescmap"]),
    st.sampled_from(["single", "partner", "xor", "rs", "XOR", ""]),
    *([NUMBER] * 5),
)
def test_names(set_name: str, kind: str, rank: str, g: str, of: str, m: str, n: str) -> None:
    name = f"{set_name}.er.{rank}.{kind}.grp_{g}_of_{of}.mem_{m}_of_{n}.redset"
    found = redset_header.parse_name(name)
    if found is not None:
        assert 0 <= found.group < found.groups
        assert 0 <= found.member < found.members
        assert redset_header.parse_name(str(found)) == found


@pytest.mark.parametrize(
    "key", [b"FILES", b"RANKS", b"GROUPS", b"WRANKS", b"CKSUM", b"REPLICAS", b"CHUNK"]
)
def test_a_huge_number_in_a_header_allocates_nothing(
    key: bytes, images: Dict[str, List[bytes]]
) -> None:
    for image in images["redset"]:
        tree, length = kvtree.decode_image(image)
        stack = [tree]
        while stack:
            node = stack.pop()
            stack.extend(below for _, below in node.items())
            if key in node:
                node.put(key, b"2147483647")
        tracemalloc.start()
        survive(READERS["redset"], kvtree.encode(tree) + image[length:])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20
