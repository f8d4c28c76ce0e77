# SPDX-License-Identifier: BSD-3-Clause
"""The copy is killed at any of its calls that change something: nothing is lost, and the next one goes on.

The moments are counted, not timed, so that a seed gives the same one again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import faults
from copychild import check_journal, journal, leftovers, run_copy
from copynode import Node
from scrjob.redundancy.build import remove_leftovers
from worlds import require

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unmeasured

SIZES = [*range(0, 40_000, 1000), 1 << 20, (16 << 20) + 5]
OLD = b"the file that was here before"


class Wreck:
    """A node whose prefix has older files at some of the places, and what each must be in the end."""

    def __init__(self, base: Path) -> None:
        self.node = Node(base)
        rng = random.Random(1)
        self.new: dict[str, bytes] = {}
        for number, size in enumerate(SIZES):
            where = self.node.prefix / f"out{number % 3}"
            name = f"rank_0.{number}"
            self.new[str(where / name)] = data = rng.randbytes(size)
            self.node.add(name, data, directory=str(where), flush=False)
            if number % 2:
                where.mkdir(exist_ok=True)
                (where / name).write_bytes(OLD)
        self.node.write()
        hidden = self.node.cache / ".scr"
        (hidden / "reddesc.er.0.redset").write_bytes(b"redundancy")
        self.files = len(SIZES) + 2

    def check_all_or_nothing(self) -> None:
        for path, data in self.new.items():
            try:
                with open(path, "rb") as file:
                    found = file.read()
            except FileNotFoundError:
                continue
            assert found in (OLD, data), f"{path} is neither the old file nor the new one"

    def check_done(self) -> None:
        for path, data in self.new.items():
            with open(path, "rb") as file:
                assert file.read() == data, path
        hidden = self.node.prefix / ".scr/scr.dataset.5"
        for name in ("filemap_0", "reddesc.er.0.redset"):
            assert (hidden / name).read_bytes() == (self.node.cache / ".scr" / name).read_bytes()
        assert check_journal(self.node) == self.files
        assert leftovers(self.node.prefix) == []


def kill_and_go_on(base: Path, seed: int, calls: int) -> int:
    """Kill one copy and let another one finish; returns how many files that one need not copy."""
    wreck = Wreck(base)
    moment = random.Random(seed).randint(1, calls)
    killed = run_copy(
        wreck.node, environ=faults.environ(f"change:{wreck.node.prefix}:{moment}:KILL")
    )
    assert killed.rc == -9, f"seed {seed}: call {moment} never came"
    wreck.check_all_or_nothing()
    noted = check_journal(wreck.node)
    done = run_copy(wreck.node, environ={})
    assert (done.rc, done.report["skipped"], done.report["files"]) == (0, noted, len(SIZES))
    remove_leftovers([str(path) for path in wreck.node.prefix.glob("out*")], 5)
    wreck.check_done()
    return noted


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many calls a whole copy makes that change something in the prefix."""
    require("faults")
    base = tmp_path_factory.mktemp("whole")
    wreck = Wreck(base)
    counts = faults.environ(f"change:{wreck.node.prefix}:1:COUNT", count=base / "count")
    assert run_copy(wreck.node, environ=counts).rc == 0
    wreck.check_done()
    return int((base / "count").read_text()) - len(SIZES)  # threads make it vary a little


@pytest.mark.slow
def test_killed_at_twenty_moments(calls: int, tmp_path: Path) -> None:
    noted = []
    for seed in range(20):
        base = tmp_path / str(seed)
        base.mkdir()
        noted.append(kill_and_go_on(base, seed, calls))
    assert any(noted), "no journal was ever of use"
    assert len(set(noted)) > 3


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_killed_at_any_moment(calls: int, tmp_path: Path, seed: int) -> None:
    kill_and_go_on(tmp_path, seed, calls)


def test_killed_again_and_again(calls: int, tmp_path: Path) -> None:
    """Each start gets a little farther; in the end all is there."""
    wreck = Wreck(tmp_path)
    noted = -1
    for _ in range(100):
        # From the third batch on: the calls of the first two are always made.
        fault = faults.environ(f"change:{wreck.node.prefix}:{calls // 3}:KILL")
        ended = run_copy(wreck.node, environ=fault)
        wreck.check_all_or_nothing()
        if ended.rc == 0:
            break
        assert len(journal(wreck.node)) > noted, "no progress was kept"
        noted = len(journal(wreck.node))
    assert ended.rc == 0
    wreck.check_done()
