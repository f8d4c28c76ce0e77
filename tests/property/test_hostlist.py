# SPDX-License-Identifier: BSD-3-Clause
"""Host lists for all inputs; ClusterShell is the oracle where it agrees on what a list is."""

from __future__ import annotations

from ClusterShell.NodeSet import NodeSet
from hypothesis import given
from hypothesis import strategies as st

from scrjob import hostlist
from scrjob.errors import UsageError

NAMES = st.lists(
    st.one_of(
        st.from_regex(r"[a-c]{0,2}[0-9]{1,3}(-[a-b]|[a-b][0-9]{1,2})?", fullmatch=True),
        st.text(st.characters(blacklist_characters="[], \t\r\n\f\v"), min_size=1, max_size=12),
    ),
    max_size=40,
)


@given(NAMES)
def test_expand_undoes_compress(names):
    assert hostlist.expand_hosts(hostlist.compress_hosts(names)) == names


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True), st.booleans())
def test_one_dimension_as_clustershell_has_it(numbers, padded):
    names = [f"node{number:03d}" if padded else f"node{number}" for number in sorted(numbers)]
    folded = hostlist.compress_hosts(names)
    assert folded == str(NodeSet.fromlist(names))
    assert list(NodeSet(folded)) == names


@given(st.lists(st.integers(0, 50), max_size=20), st.lists(st.integers(0, 50), max_size=20))
def test_set_operations_as_clustershell_has_them(first, second):
    one, two = [f"n{i}" for i in first], [f"n{i}" for i in second]
    assert set(hostlist.diff_hosts(one, two)) == set(NodeSet.fromlist(one) - NodeSet.fromlist(two))
    assert set(hostlist.intersect_hosts(one, two)) == set(
        NodeSet.fromlist(one) & NodeSet.fromlist(two)
    )


@given(st.text(st.sampled_from("ab01289[]-, "), max_size=30))
def test_any_text_gives_names_or_our_error(text):
    try:
        names = hostlist.expand_hosts(text)
    except UsageError:
        return
    assert hostlist.expand_hosts(hostlist.compress_hosts(names)) == names
