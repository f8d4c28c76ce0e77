# SPDX-License-Identifier: BSD-3-Clause
"""Any job, any sizes: what redundancy covers comes back byte for byte, what it does not is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupmaker import make_dataset
from scrjob.errors import ConfigError
from scrjob.redundancy import stripes
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups, single_groups

CHUNKY = st.one_of(st.integers(0, 40), st.integers(4000, 9000))
JOBS = st.lists(st.lists(CHUNKY, max_size=3), min_size=2, max_size=7).filter(
    lambda job: any(map(sum, job))
)


def build(prefix: Path, **options) -> tuple[bool, list[str]]:
    lines: list[str] = []
    done = build_dataset(str(prefix), 1, now=0.0, host="h", on_message=lines.append, **options)
    return done, lines


@settings(max_examples=40, deadline=None)
@given(sizes=JOBS, set_size=st.integers(2, 4), lost=st.integers(0, 6), seed=st.integers(0, 99))
def test_one_lost_member_comes_back(sizes, set_size, lost, seed):
    groups = form_groups(range(len(sizes)), set_size)
    lost %= len(sizes)
    with tempfile.TemporaryDirectory() as scratch:
        made = make_dataset(Path(scratch), sizes, groups, seed=seed)
        before = made.state()
        made.lose(lost)
        done, lines = build(made.prefix)
        assert done, lines
        assert made.state() == before


@settings(max_examples=20, deadline=None)
@given(sizes=JOBS, first=st.integers(0, 6), step=st.integers(1, 5))
def test_two_lost_members_of_a_group_are_refused(sizes, first, step):
    groups = form_groups(range(len(sizes)), 8)
    first %= len(sizes)
    second = (first + 1 + step % (len(sizes) - 1)) % len(sizes)
    if second == first:
        second = (first + 1) % len(sizes)
    with tempfile.TemporaryDirectory() as scratch:
        made = make_dataset(Path(scratch), sizes, groups)
        made.lose(first, second)
        left = sorted(p for p in made.prefix.rglob("*") if p.is_file())
        assert not build(made.prefix)[0]
        assert sorted(p for p in made.prefix.rglob("*") if p.is_file()) == left


@settings(max_examples=20, deadline=None)
@given(sizes=JOBS, lost=st.integers(0, 6), which=st.integers(0, 20), cut=st.booleans())
def test_any_single_lost_or_cut_file_comes_back(sizes, lost, which, cut):
    groups = form_groups(range(len(sizes)), 8)
    with tempfile.TemporaryDirectory() as scratch:
        made = make_dataset(Path(scratch), sizes, groups)
        before = made.state()
        files = [p for p in made.parts[lost % len(sizes)] if not p.name.endswith(".redset")]
        victim = files[which % len(files)]
        if cut:
            data = victim.read_bytes() or b"\0"
            victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) + b"y")
        else:
            victim.unlink()
        assert build(made.prefix)[0]
        assert made.state() == before


@given(nodes=st.lists(st.integers(0, 5), min_size=1, max_size=40), min_size=st.integers(1, 9))
def test_groups_partition_the_ranks_over_different_nodes(nodes, min_size):
    groups = form_groups(nodes, min_size)
    assert sorted(rank for group in groups for rank in group.ranks) == list(range(len(nodes)))
    assert [group.number for group in groups] == list(range(len(groups)))
    firsts = [group.ranks[0] for group in groups]
    assert firsts == sorted(firsts)
    for group in groups:
        assert list(group.ranks) == sorted(group.ranks)
        assert len({nodes[rank] for rank in group.ranks}) == len(group.ranks)


@given(columns=st.integers(1, 60), min_size=st.integers(1, 12))
def test_group_sizes_differ_by_one_at_most_and_keep_the_minimum(columns, min_size):
    sizes = [len(group.ranks) for group in form_groups(range(columns), min_size)]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= min(min_size, columns)


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(4, 3, [4]), (5, 2, [3, 2]), (11, 3, [4, 4, 3])]
)
def test_documented_group_sizes(count, size, expected):
    assert [len(group.ranks) for group in form_groups(range(count), size)] == expected


def test_a_group_needs_members():
    with pytest.raises(ConfigError, match="SCR_SET_SIZE"):
        form_groups(["a"], 0)


def test_single_groups():
    assert single_groups(2) == [(0, (0,)), (1, (1,))]


@given(n=st.integers(2, 12), k=st.integers(1, 4))
def test_every_stripe_and_every_chunk_is_used_once(n, k):
    k = min(k, n - 1)
    for i in range(n):
        roles = [stripes.role(c, i, n, k) for c in range(n)]
        assert [r.block for r in roles if not r.is_parity] == list(range(n - k))
        assert sorted(r.block for r in roles if r.is_parity) == list(range(k))
        for block in range(k):
            assert stripes.role(stripes.parity_stripe(i, block, n), i, n, k) == (True, block)
    for c in range(n):
        assert sum(stripes.role(c, i, n, k).is_parity for i in range(n)) == k
        for i in range(n):
            expected = stripes.role(c, i, n, k)
            assert stripes.data_chunk_for(c, i, n, k) == (
                -1 if expected.is_parity else expected.block
            )


def test_chunks_of_a_group():
    assert stripes.chunk_bytes([0, 0], 2) == 1
    assert stripes.chunk_bytes([7, 10, 3], 3) == 5
    assert stripes.chunk_bytes([11], 4, 2) == 6


def test_stripes_of_the_documented_table():
    rows = {
        1: ["P0 D0 D1 D2", "D0 P0 D1 D2", "D0 D1 P0 D2", "D0 D1 D2 P0"],
        2: ["P0 P1 D0 D1", "D0 P0 P1 D1", "D0 D1 P0 P1", "P1 D0 D1 P0"],
        3: ["P0 P1 P2 D0", "D0 P0 P1 P2", "P2 D0 P0 P1", "P1 P2 D0 P0"],
    }
    for k, table in rows.items():
        for i, row in enumerate(table):
            made = [stripes.role(c, i, 4, k) for c in range(4)]
            assert " ".join(f"{'P' if r.is_parity else 'D'}{r.block}" for r in made) == row
