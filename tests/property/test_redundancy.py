# SPDX-License-Identifier: BSD-3-Clause
"""Any job, any sizes: what redundancy covers comes back byte for byte, what it does not is refused."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groupmaker import make_dataset
from scrjob.errors import ConfigError
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy import combine, stripes
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups, single_groups
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Outputs, Shape, Share

CHUNKY = st.one_of(st.integers(0, 40), st.integers(4000, 9000))
JOBS = st.lists(st.lists(CHUNKY, max_size=3), min_size=2, max_size=7).filter(
    lambda job: any(map(sum, job))
)


def build(prefix: Path, **options) -> tuple[bool, list[str]]:
    lines: list[str] = []
    done = build_dataset(str(prefix), 1, now=0.0, host="h", on_message=lines.append, **options)
    return done, lines


def covered(kind: str, copies: int, n: int, lost: set[int]) -> bool:
    """The rule of the format, in other words than the code's: which members of a group may be lost."""
    if kind != "partner":
        return len(lost) <= copies
    ring = "".join("x" if i in lost else "." for i in range(n)) * 2
    return len(lost) < n and "x" * (copies + 1) not in ring


@st.composite
def losses(draw):
    """A job, how its groups are protected, and ranks that are lost."""
    sizes = draw(JOBS)
    groups = form_groups(range(len(sizes)), draw(st.integers(2, 8)))
    kind = draw(st.sampled_from(["partner", "xor", "rs"]))
    most = min(len(group.ranks) for group in groups) - 1
    copies = 1 if kind == "xor" else draw(st.integers(1, most))
    lost = draw(st.sets(st.integers(0, len(sizes) - 1), max_size=max(2, copies + 1)))
    return sizes, groups, kind, copies, lost


@settings(max_examples=120, deadline=None)
@given(job=losses(), seed=st.integers(0, 99))
def test_what_is_covered_comes_back_and_what_is_not_is_refused(job, seed):
    sizes, groups, kind, copies, lost = job
    good = all(
        covered(
            kind,
            copies,
            len(group.ranks),
            {i for i, rank in enumerate(group.ranks) if rank in lost},
        )
        for group in groups
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = make_dataset(Path(scratch), sizes, groups, kind=kind, copies=copies, seed=seed)
        before = made.state()
        made.lose(*lost)
        left = {p: p.read_bytes() for p in made.prefix.rglob("*") if p.is_file()}
        done, lines = build(made.prefix)
        assert done == good, lines
        if good:
            assert made.state() == before
        else:
            assert {p: p.read_bytes() for p in made.prefix.rglob("*") if p.is_file()} == left


class Bytes:
    """A source and a sink in memory; zeros beyond the end, what is written there is dropped."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def readinto(self, offset, view):
        part = self.data[offset : offset + len(view)]
        view[:] = part + bytes(len(view) - len(part))

    def write(self, offset, view):
        room = len(self.data) - offset
        if room > 0:
            self.data[offset : offset + len(view)] = view[:room]


@st.composite
def large_groups(draw):
    """Groups larger than jobs of tests, small members, any k of them lost."""
    kind = draw(st.sampled_from(["partner", "rs"]))
    n = draw(st.integers(2, 40))
    copies = draw(st.integers(1, min(n - 1, 12)))
    lost = draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=copies))
    return kind, n, copies, lost, draw(st.integers(0, 2000))


@settings(max_examples=30, deadline=None)
@given(group=large_groups(), block=st.integers(20, 90), workers=st.integers(1, 3))
@example(group=("rs", 254, 2, {0, 253}, 1), block=512, workers=1)
@example(group=("rs", 12, 11, set(range(1, 12)), 1), block=20, workers=2)
def test_groups_of_any_size(group, block, workers):
    """Blocks that are smaller than chunks, and larger."""
    kind, n, copies, lost, seed = group
    rng = random.Random(seed)
    place = Descriptor(kind, 1, 0, n, 0, 0, n, replicas=copies, parity=copies)
    scheme = scheme_for(kind)
    assert scheme.is_possible(place)
    assert scheme.tolerates(n, lost, place)
    data = {i: Bytes(rng.randbytes(rng.choice([0, 1, rng.randrange(400)]))) for i in range(n)}
    sizes = [len(data[i].data) for i in range(n)]
    shape = Shape(place, sizes, scheme.chunk_bytes(sizes, place))
    shares = {}
    for i in range(n):
        payload = Bytes(bytes(scheme.payload_bytes(shape, i)))
        combine.run(scheme.encode(shape, data, i, payload))
        shares[i] = Share(data[i], payload)
    outputs = {
        i: Outputs(Bytes(bytes(sizes[i])), Bytes(bytes(len(shares[i].payload.data)))) for i in lost
    }
    left = {i: share for i, share in shares.items() if i not in lost}
    combine.run(scheme.restore(shape, left, outputs), block_bytes=block, workers=workers)
    for i, out in outputs.items():
        assert out.data.data == shares[i].data.data
        assert out.payload.data == shares[i].payload.data


@pytest.mark.parametrize(
    ("kind", "n", "copies", "possible"),
    [
        ("rs", 255, 1, True),
        ("rs", 254, 2, True),
        ("rs", 129, 127, True),
        ("rs", 128, 128, False),
        ("rs", 254, 3, False),
        ("rs", 4, 4, False),
        ("rs", 4, 0, False),
        ("xor", 2, None, True),
        ("xor", 1, None, False),
        ("partner", 3, 2, True),
        ("partner", 3, 3, False),
        ("partner", 3, 0, False),
        ("single", 1, None, True),
    ],
)
def test_groups_that_can_be(kind, n, copies, possible):
    place = Descriptor(kind, 1, 0, n, 0, 0, n, replicas=copies, parity=copies)
    assert scheme_for(kind).is_possible(place) == possible


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
