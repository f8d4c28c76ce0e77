# SPDX-License-Identifier: BSD-3-Clause
"""KVTree for any content, and the index for any sequence of operations."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scrjob.errors import DatasetError, FormatError, TruncatedError
from scrjob.formats import dataset
from scrjob.formats.index import Index
from scrjob.formats.kvtree import KVTree, decode, encode

KEYS = st.binary(max_size=6).filter(lambda key: b"\0" not in key)
TREES = st.recursive(
    st.just({}), lambda below: st.dictionaries(KEYS, below, max_size=4), max_leaves=25
)


@given(TREES)
def test_round_trip_keeps_content_and_order(content: dict[bytes, Any]) -> None:
    tree = KVTree.of(content)
    data = encode(tree)
    again = decode(data + b"rest")
    assert again == tree
    assert list(again) == list(tree) == list(content)
    assert encode(again) == data
    assert again.reversed().reversed() == tree
    assert encode(again.reversed().reversed()) == data


@given(TREES, st.data())
def test_cut_anywhere(content: dict[bytes, Any], data: st.DataObject) -> None:
    whole = encode(KVTree.of(content))
    cut = data.draw(st.integers(1, len(whole) - 1))
    try:
        decode(whole[:cut])
    except TruncatedError:
        return
    raise AssertionError("a cut file was read")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        decode(b"\x95\x1f\xc3\xf5\0\1\0\1" + data)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "fail", "incomplete", "drop", "drop_after", "current"]),
        st.integers(1, 8),
    ),
    max_size=25,
)


def apply(index: Index, operation: str, number: int) -> None:
    name = f"d.{number}"
    kinds = {"add": True, "incomplete": False}
    if operation in kinds:
        # Even numbers are output only.
        descriptor = dataset.Descriptor(
            id=number, name=name, is_ckpt=bool(number % 2), is_output=True
        )
        tree = dataset.build(descriptor)
        index.put_complete(number, name, tree, complete=kinds[operation], when="t")
    elif operation == "fail" and index.id_of(name):
        index.mark_failed(number, name, "t")
    elif operation == "drop":
        index.remove(name)
    elif operation == "drop_after" and index.id_of(name):
        index.remove_later(number)
    elif operation == "current":
        try:
            index.set_current(name)
        except DatasetError:
            entry = index.entry(number)
            assert entry is None or not entry.descriptor.is_ckpt


@settings(deadline=None)
@given(OPERATIONS)
def test_index_stays_consistent(operations: list[tuple[str, int]]) -> None:
    index = Index()
    for operation, number in operations:
        apply(index, operation, number)
        ids = index.ids()
        names = [entry.descriptor.name for entry in index.entries()]
        assert [index.id_of(name or "") for name in names] == sorted(ids, reverse=True)
        current = index.tree.text("CURRENT")
        assert current == index.current()
        if current is not None:
            assert current in names
        usable = index.latest_usable()
        if usable is not None:
            assert usable.is_usable
            assert all(not entry.is_usable for entry in index.entries() if entry.id > usable.id)
        again = Index(decode(encode(index.tree)).reversed())
        assert again.tree == index.tree
