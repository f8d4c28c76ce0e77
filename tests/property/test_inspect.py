# SPDX-License-Identifier: BSD-3-Clause
"""What is said before any copying comes true: inspect and build agree, whatever is lost. Lesson A20."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupmaker import Made, make_dataset
from scrjob.formats import kvtree
from scrjob.formats.kvtree import KVTree
from scrjob.inspection import Inspected, checked, decide
from scrjob.node.inspect import Held, look_at
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups, single_groups
from scrjob.redundancy.paths import Relocation

SCHEMES: List[Tuple[str, int]] = [
    ("single", 0),
    ("partner", 1),
    ("partner", 2),
    ("xor", 1),
    ("rs", 1),
    ("rs", 2),
    ("rs", 3),
]


def inspect(made: Made, scratch: Path) -> Inspected:
    """Ask about what is left as if it all lay in the cache of one node."""
    cache = scratch / "cache"
    cache.mkdir(exist_ok=True)
    if not (cache / ".scr").is_symlink():
        (cache / ".scr").symlink_to(made.hidden)
    held = look_at(str(cache), [Relocation("/cache", str(made.prefix / "out"))])
    descriptor = KVTree.of({"ID": 1, "NAME": "it", "COMPLETE": 1})
    row = {
        "id": 1,
        "descriptor": kvtree.encode(descriptor).hex(),
        "bypass": False,
        "ranks": [as_row(one) for one in held],
    }
    return decide([checked(row)])[1]


def as_row(one: Held) -> Dict[str, Any]:
    return {
        "rank": one.rank,
        "job": one.job,
        "filemap": one.has_filemap,
        "whole": one.is_whole,
        "sets": one.sets,
    }


def state(prefix: Path) -> Dict[str, bytes]:
    return {str(p): p.read_bytes() for p in prefix.rglob("*") if p.is_file()}


def spoil(path: Path, how: int) -> None:
    data = path.read_bytes()
    if how == 0:
        path.unlink()
    elif how == 1:
        path.write_bytes(data[:-1])
    else:
        path.write_bytes(data + b"x")


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    ranks=st.integers(2, 9),
    per_node=st.integers(1, 2),
    set_size=st.integers(2, 5),
    nodes_lost=st.integers(0, 3),
    spoilt=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2)), max_size=3),
    no_data_sets=st.integers(0, 4).map(lambda number: number == 0),
    seed=st.integers(0, 1 << 30),
)
def test_the_build_does_what_was_foretold(
    scheme: Tuple[str, int],
    ranks: int,
    per_node: int,
    set_size: int,
    nodes_lost: int,
    spoilt: List[Tuple[int, int]],
    no_data_sets: bool,
    seed: int,
) -> None:
    kind, copies = scheme
    rng = random.Random(seed)
    domains = [rank // per_node for rank in range(ranks)]
    groups = single_groups(ranks) if kind == "single" else form_groups(domains, set_size)
    if any(len(group.ranks) <= max(copies, 1) for group in groups) and kind != "single":
        groups = form_groups(range(ranks), ranks)
        domains = list(range(ranks))
        if ranks <= copies:
            return
    sizes = [[rng.randrange(300) for _ in range(rng.randrange(3))] for _ in range(ranks)]
    sizes[0].append(10)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        made = make_dataset(scratch / "p", sizes, groups, kind=kind, copies=copies, seed=seed)
        for node in rng.sample(sorted(set(domains)), min(nodes_lost, len(set(domains)))):
            made.lose(*(rank for rank in range(ranks) if domains[rank] == node))
        left = sorted(p for paths in made.parts.values() for p in paths if p.exists())
        for which, how in spoilt:
            victim = left[which % len(left)] if left else None
            if victim is not None and victim.exists() and victim.stat().st_size:
                spoil(victim, how)
        for path in made.hidden.glob("reddesc.*") if no_data_sets else ():
            path.unlink()
        before = state(made.prefix)
        said = inspect(made, scratch)
        lines: List[str] = []
        done = build_dataset(
            str(made.prefix), 1, now=0.0, host="h", on_message=lines.append, moves=()
        )
        assert said.recoverable == done, (said.reasons(), lines)
        if not done:
            after = state(made.prefix)
            changed = {Path(path).name for path in after if after[path] != before.get(path)}
            # If nothing is left that tells whether the files are in the prefix (bypass), filemaps come first.
            assert not changed or no_data_sets
            assert all(name.startswith(("filemap_", "reddescmap.")) for name in changed)
            assert before.keys() <= after.keys()
            assert said.reasons()


@pytest.mark.parametrize("kind", ["xor", "rs"])
def test_groups_of_which_nothing_is_left_are_seen(tmp_path: Path, kind: str) -> None:
    """Two groups on nodes of their own: all of one is lost, and a member of the other."""
    groups = form_groups(range(6), 3)
    made = make_dataset(tmp_path / "p", [[50]] * 6, groups, kind=kind)
    made.lose(0, 3, 4, 5)
    before = state(made.prefix)
    said = inspect(made, tmp_path)
    assert not said.recoverable
    assert said.verdict is not None
    assert said.verdict.missing == [0, 3, 4, 5]
    assert said.verdict.uncovered == [3, 4, 5]
    assert not build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lambda _l: None)
    assert state(made.prefix) == before, "something was rebuilt for nothing"


def test_a_group_that_lost_only_redundancy_is_no_obstacle(tmp_path: Path) -> None:
    """The C tool gives up: two redundancy files of a group are gone, whose files are all there."""
    groups = form_groups(range(6), 3)
    made = make_dataset(tmp_path / "p", [[50]] * 6, groups)
    for rank in (0, 1):
        for path in made.parts[rank]:
            if path.name.endswith(".redset"):
                path.unlink()
    made.lose(4)
    said = inspect(made, tmp_path)
    assert said.recoverable
    assert build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lambda _l: None)
    assert all(path.exists() for path in made.parts[4])


@pytest.mark.parametrize("kind", ["xor", "rs", "partner"])
def test_a_rank_without_files_needs_no_redundancy_of_files(tmp_path: Path, kind: str) -> None:
    """Its filemap, which the other set brings back, is all that there was of it."""
    made = make_dataset(
        tmp_path / "p", [[50], [], [70], [3, 4]], form_groups(range(4), 4), kind=kind
    )
    for path in made.hidden.glob("reddesc.*"):
        path.unlink()
    made.parts[1] = [path for path in made.parts[1] if path.exists()]
    filemap = (made.hidden / "filemap_1").read_bytes()
    made.lose(1)
    said = inspect(made, tmp_path)
    assert said.recoverable, said.reasons()
    assert build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lambda _l: None)
    assert (made.hidden / "filemap_1").read_bytes() == filemap


def test_a_rank_with_files_needs_it(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "p", [[50], [], [70], [3, 4]], form_groups(range(4), 4))
    for path in made.hidden.glob("reddesc.*"):
        path.unlink()
    made.parts[2] = [path for path in made.parts[2] if path.exists()]
    made.lose(2)
    before = state(made.prefix)
    said = inspect(made, tmp_path)
    assert not said.recoverable
    assert said.verdict is not None
    assert said.verdict.uncovered == [2]
    assert not build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lambda _l: None)
    assert state(made.prefix) == before
