# SPDX-License-Identifier: BSD-3-Clause
"""Host lists: what is read, how it folds, what is refused."""

from __future__ import annotations

import random
import time

import pytest

from scrjob import hostlist
from scrjob.errors import UsageError

EXPANSIONS = [
    ("node[1-3,7] node5", ["node1", "node2", "node3", "node7", "node5"]),
    ("a,b c\td\ne", ["a", "b", "c", "d", "e"]),
    (",, a , ", ["a"]),
    ("n[08-10]", ["n08", "n09", "n10"]),
    ("n[8-10]", ["n8", "n9", "n10"]),
    ("n[098-100]", ["n098", "n099", "n100"]),
    ("n[08,9]", ["n08", "n9"]),
    ("n[ 1 , 3 ]", ["n1", "n3"]),
    ("r[1-2]n[01-03]", ["r1n01", "r1n02", "r1n03", "r2n01", "r2n02", "r2n03"]),
    ("n[1-2]-ib,x", ["n1-ib", "n2-ib", "x"]),
    ("[1-2]", ["1", "2"]),
    ("n5,n1,n5", ["n5", "n1", "n5"]),
    ("n\xa01", ["n\xa01"]),
    ("n\udcff1", ["n\udcff1"]),
]

FOLDS = [
    (["node1", "node2", "node3", "node7"], "node[1-3,7]"),
    (["node1", "node3"], "node[1,3]"),
    (["n5", "n1", "n2"], "n5,n[1-2]"),
    (["n1", "n2", "n5", "n4"], "n[1-2,5],n4"),
    (["n1", "n1", "n2"], "n1,n[1-2]"),
    (["n08", "n09", "n10", "n11"], "n[08-11]"),
    (["n8", "n9", "n10"], "n[8-10]"),
    (["n99", "n100"], "n[99-100]"),
    (["n099", "n100"], "n[099-100]"),
    (["n9", "n010"], "n[9,010]"),
    (["r1n1", "r2n1"], "r[1-2]n1"),
    (["r1n01", "r1n02", "r2n01", "r2n02"], "r[1-2]n[01-02]"),
    (["r1n1", "r2n1", "r1n2", "r2n2"], "r[1-2]n1,r[1-2]n2"),
    (["n1-ib", "n2-ib"], "n[1-2]-ib"),
    (["a", "n1", "b"], "a,n1,b"),
    ([], ""),
]


@pytest.mark.parametrize(("text", "names"), EXPANSIONS)
def test_expand(text, names):
    assert hostlist.expand_hosts(text) == names


@pytest.mark.parametrize(("names", "text"), FOLDS)
def test_fold(names, text):
    assert hostlist.compress_hosts(names) == text
    assert hostlist.expand_hosts(text) == names


@pytest.mark.parametrize(
    "names",
    [
        ["localhost"],
        ["x1000c0s0b0n0"],
        ["rack1-node2"],
        ["ip-10-0-1-5", "ip-10-0-1-6", "ip-10-0-2-5"],
        ["n08", "n09", "n10"],
        ["10.0.0.1", "10.0.0.2"],
        ["n" + "9" * 40, "n1" + "0" * 40],
        ["n5", "n4", "n3", "m", "n6"],
    ],
)
def test_any_name_survives_in_order(names):
    """Lesson A5: no name is changed, padding and order are kept."""
    assert hostlist.expand_hosts(hostlist.compress_hosts(names)) == names
    assert hostlist.join_hosts(names).split(",") == names


def test_hundred_thousand_shuffled_names_take_seconds_at_most():
    """Lesson A6: the work grows with the list, not with its square."""
    names = [f"node{number:06d}" for number in range(100_000)]
    random.Random(1).shuffle(names)
    began = time.process_time()
    folded = hostlist.compress_hosts(names)
    back = hostlist.expand_hosts(folded)
    assert hostlist.compress_hosts(hostlist.sort_hosts(back)) == "node[000000-099999]"
    assert time.process_time() - began < 20.0
    assert back == names


@pytest.mark.parametrize("text", ["n[1", "n]", "n[[1]]", "n[1]]", "][", "n[1-2"])
def test_open_brackets_are_refused(text):
    with pytest.raises(UsageError, match="bracket"):
        hostlist.expand_hosts(text)


@pytest.mark.parametrize(
    "text", ["n[]", "n[a]", "n[1-]", "n[-1]", "n[1-2-3]", "n[1,]", "n[\u0661]"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(UsageError, match="no number or range"):
        hostlist.expand_hosts(text)


@pytest.mark.parametrize("text", ["n[3-1]", "n[1-03]", "n[" + "1" * 19 + "-9]"])
def test_ranges_must_ascend_with_one_padding(text):
    with pytest.raises(UsageError, match="no ascending range"):
        hostlist.expand_hosts(text)


@pytest.mark.parametrize(
    "text",
    [
        "n[1-999999999999]",
        "n[1-1000][1-1000][1-1000]",
        "n[1-999999],m[1-999999]",
        "n[" + ",".join(["1-999999"] * 3) + "]",
    ],
)
def test_bombs_are_refused_before_memory_is_used(text):
    with pytest.raises(UsageError, match="more than 1000000"):
        hostlist.expand_hosts(text)


def test_the_limit_counts_over_the_elements_of_a_list(monkeypatch):
    monkeypatch.setattr(hostlist, "MAX_HOSTS", 3)
    assert hostlist.expand_hosts(["n[1-2]", "a"]) == ["n1", "n2", "a"]
    for names in (["a", "b", "c", "d"], ["n[1-2]", "a", "n[5-6]"]):
        with pytest.raises(UsageError, match="more than 3"):
            hostlist.expand_hosts(names)
    with pytest.raises(UsageError, match="more than 3"):
        hostlist.expand_hosts(["n[1-2]", "a,b"])


def test_a_long_list_is_shortened_in_the_message():
    with pytest.raises(UsageError) as caught:
        hostlist.expand_hosts("x" * 500 + "[")
    assert len(str(caught.value)) < 150


def test_many_nodes_are_cut_in_a_message():
    assert hostlist.show_hosts(["n1", "n2", "m"]) == "n[1-2],m"
    odd = hostlist.show_hosts(f"n{7 * i}x{i}" for i in range(500))
    assert odd.startswith("n0x0,n7x1,")
    assert len(odd) < 250
    assert odd.endswith("...")


def test_nothing_is_the_empty_list():
    assert (
        hostlist.expand_hosts(None) == hostlist.expand_hosts("") == hostlist.expand_hosts([]) == []
    )


def test_difference_and_intersection_keep_the_order_of_the_first():
    assert hostlist.diff_hosts("n[3-5],n1", ["n4"]) == ["n3", "n5", "n1"]
    assert hostlist.intersect_hosts("n[3-5],n1", "n[1-3]") == ["n3", "n1"]
    assert hostlist.intersect_hosts(None, "n1") == []


def test_the_small_published_helpers():
    assert hostlist.numbersfromrange("08-10,7") == ["08", "09", "10", "7"]
    assert hostlist.rangefromnumbers("08,09,10,7") == "08-10,7"
    assert hostlist.rangefromnumbers(["1", "2", "4"]) == "1-2,4"
    assert hostlist.rangefromnumbers("") == ""
    assert hostlist.numfromhost("r1n08-ib") == "08"
    assert hostlist.numfromhost("localhost") == hostlist.numfromhost() == ""
    assert hostlist.splithosts("n[1,3] m") == ["n[1,3]", "m"]
    assert hostlist.sorthoststring("n10,n2 n2,m") == "m,n2,n10"
    with pytest.raises(UsageError):
        hostlist.numbersfromrange("x")
