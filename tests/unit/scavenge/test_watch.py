# SPDX-License-Identifier: BSD-3-Clause
"""Progress of a copy, and who is given up for standing still: on a clock that is passed in."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Optional

import pytest

from scrjob.commands._progress import Bars
from scrjob.scavenge import watch as watch_module
from scrjob.scavenge.answers import NodeCopy
from scrjob.scavenge.progress import (
    Lines,
    NodeProgress,
    Rate,
    Snapshot,
    duration,
    line,
    read_node,
    size,
)
from scrjob.scavenge.watch import Watch
from scrjob.testing.fakes import FakeClock

MIB = 1 << 20


def tell(directory: Path, host: str, done: int, total: int = 100 * MIB, files: int = 0) -> None:
    """Do what the copy on a node does once a second."""
    content = {"done_bytes": done, "total_bytes": total, "done_files": files, "total_files": 9}
    (directory / f"scrjob.progress.{host}").write_text(json.dumps({**content, "updated": 1.5}))


class Shown:
    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.closed = 0

    def show(self, now: Snapshot) -> None:
        self.snapshots.append(now)

    def close(self) -> None:
        self.closed += 1


class World:
    def __init__(self, directory: Path, stall_s: float = 10.0, nodes: int = 3) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.shown = Shown()
        self.watch = Watch(
            str(directory),
            dataset_id=7,
            name="ckpt.7",
            nodes=nodes,
            total_bytes=300 * MIB,
            clock=self.clock,
            stall_s=stall_s,
            progress=self.shown,
        )

    def look(self, seconds: float = 1.0) -> Snapshot:
        self.clock.advance(seconds)
        return self.watch.look()


def test_bytes_rate_and_time_left(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.watch.begin(["a", "b", "c"])
    for second in range(5):
        tell(tmp_path, "a", second * 10 * MIB)
        tell(tmp_path, "b", second * 20 * MIB)
        now = world.look()
    assert (now.done_bytes, now.total_bytes, now.finished, now.nodes) == (
        120 * MIB,
        300 * MIB,
        0,
        3,
    )
    assert now.rate == pytest.approx(30 * MIB)
    assert now.left_s == pytest.approx(6.0)
    assert [(row.node, round(row.rate / MIB)) for row in now.active] == [("a", 10), ("b", 20)]
    world.watch.end([NodeCopy("b", 0, 1, 100 * MIB)])
    (tmp_path / "scrjob.progress.b").unlink()
    now = world.look()
    assert (now.done_bytes, now.finished) == (140 * MIB, 1)
    assert world.shown.snapshots[-1] == now


def test_a_node_that_stands_still_is_given_up_once_and_others_are_not(tmp_path: Path) -> None:
    world = World(tmp_path, stall_s=10.0)
    world.watch.begin(["a", "b", "c"])
    for second in range(9):
        tell(tmp_path, "a", 5)
        tell(tmp_path, "b", second)
        world.look()
    assert world.watch.stalled == {}
    for second in range(9, 13):
        tell(tmp_path, "b", second)
        world.look()
    assert world.watch.stalled == {"a": "no progress for 10 s: given up"}
    assert list(tmp_path.glob("scrjob.scavenge.probe*")) == []


@pytest.mark.parametrize("sign", ["bytes", "files"])
def test_any_sign_of_life_counts(tmp_path: Path, sign: str) -> None:
    world = World(tmp_path, stall_s=10.0)
    world.watch.begin(["a"])
    for second in range(40):
        if second % 8 == 0:
            tell(tmp_path, "a", second * (sign == "bytes"), files=second * (sign == "files"))
        world.look()
    assert world.watch.stalled == {}


def test_a_node_that_never_told_or_has_ended_is_not_given_up_soon(tmp_path: Path) -> None:
    world = World(tmp_path, stall_s=10.0)
    tell(tmp_path, "c", 77)  # left by a copy that was killed
    world.watch.begin(["a", "b", "c"])
    tell(tmp_path, "b", 5)
    world.look()
    (tmp_path / "scrjob.progress.b").unlink()
    for _ in range(49):
        world.look()
    assert world.watch.stalled == {}
    assert world.look().active == [] or [row.node for row in world.look().active] == ["b"]


def test_a_node_that_hangs_before_its_first_byte_is_given_up_when_nobody_else_moves(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, stall_s=10.0)
    tell(tmp_path, "c", 77)  # left by a copy that was killed
    world.watch.begin(["a", "b", "c"])
    for second in range(200):  # "b" is slow, or waits for its turn in the same call
        tell(tmp_path, "b", second)
        world.look()
    assert world.watch.stalled == {}
    world.watch.end([NodeCopy("b", 0, 1, 200)])
    for _ in range(60):  # five times the patience, and once more for those of other names
        world.look()
    assert world.watch.stalled == {}
    world.look()
    assert set(world.watch.stalled) == {"a", "c"}
    patient = World(tmp_path, stall_s=0.0)
    patient.watch.begin(["a"])
    for _ in range(200):
        patient.look()
    assert patient.watch.stalled == {}


def test_a_node_that_knows_itself_under_another_name_is_seen_to_move(tmp_path: Path) -> None:
    world = World(tmp_path, stall_s=10.0)
    world.watch.begin(["a"])
    for second in range(300):
        tell(tmp_path, "host-of-a", second)
        world.look()
    assert world.watch.stalled == {}
    for _ in range(30):
        world.look()
    assert set(world.watch.stalled) == {"a"}


def test_a_file_system_that_stands_still_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While we cannot write ourselves, and while our own looks hang, nobody is given up."""
    world = World(tmp_path, stall_s=10.0)
    world.watch.begin(["a"])
    tell(tmp_path, "a", 5)
    world.look()
    world.look(600.0)  # one look took ten minutes
    assert world.watch.stalled == {}

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(watch_module, "atomic_write", full)
    for _ in range(30):
        world.look()
    assert world.watch.stalled == {}
    monkeypatch.undo()
    world.look()
    assert list(world.watch.stalled) == ["a"]


def test_a_node_that_has_written_all_may_take_its_time_to_sync(tmp_path: Path) -> None:
    world = World(tmp_path, stall_s=10.0)
    world.watch.begin(["a", "b"])
    tell(tmp_path, "a", 100 * MIB - 5)
    tell(tmp_path, "b", 98 * MIB)
    for _ in range(45):
        world.look()
    assert list(world.watch.stalled) == ["b"]
    for _ in range(10):
        world.look()
    assert list(world.watch.stalled) == ["a", "b"]


def test_no_patience_limit(tmp_path: Path) -> None:
    world = World(tmp_path, stall_s=0.0)
    world.watch.begin(["a"])
    tell(tmp_path, "a", 5)
    for _ in range(1000):
        world.look()
    assert world.watch.stalled == {}


def test_only_files_of_active_nodes_are_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    tell(tmp_path, "zombie", 50 * MIB)
    world.watch.begin(["a"])
    tell(tmp_path, "zombie", 60 * MIB)
    assert world.look().done_bytes == 0


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '{"done_bytes": 1}', '{"done_bytes": "x"}', "\0" * 9000, "[" * 4096],
)
def test_progress_files_that_make_no_sense(tmp_path: Path, content: str) -> None:
    (tmp_path / "scrjob.progress.n1").write_text(content)
    assert read_node(str(tmp_path), "n1") is None


def test_names_of_nodes(tmp_path: Path) -> None:
    tell(tmp_path, "n1", 5)
    assert read_node(str(tmp_path), "n1.cluster") == NodeProgress("n1.cluster", 5, 100 * MIB, 0, 9)
    assert read_node(str(tmp_path / "sub"), "../n1") is None


def test_looking_ends_with_its_block(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.watch.looking():
        pass
    assert world.shown.closed == 1


def snapshot(left_s: Optional[float] = 65.0) -> Snapshot:
    rows = [NodeProgress(f"n{i}", 10 * MIB, 100 * MIB, 1, 9, MIB) for i in range(7)]
    return Snapshot(7, "ck[red]pt.7", rows, 2, 9, 100 * MIB, 400 * MIB, 5 * MIB, left_s)


def test_a_line_every_few_seconds() -> None:
    clock = FakeClock()
    said: list[str] = []
    lines = Lines(said.append, clock)
    for _ in range(12):
        lines.show(snapshot())
        clock.advance(1.0)
    assert len(said) == 2
    assert said[0] == (
        "copying ck[red]pt.7: 100.0 MiB of 400.0 MiB (25%), 5.0 MiB/s, 1:05 left, 2 of 9 nodes done; "
        "slowest: n0 10.0 MiB of 100.0 MiB at 1.0 MiB/s, n1 10.0 MiB of 100.0 MiB at 1.0 MiB/s, "
        "n2 10.0 MiB of 100.0 MiB at 1.0 MiB/s"
    )
    lines.close()
    lines.show(snapshot())
    assert len(said) == 2


def test_a_line_of_what_is_not_known() -> None:
    empty = Snapshot(7, "it", [], 0, 9, 0, 0, 0.0, None)
    assert line(empty) == "copying it: 0 B, 0 of 9 nodes done"


def test_bars_on_a_terminal() -> None:
    from rich.console import Console

    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=200, color_system=None))
    bars.show(snapshot())
    bars.show(snapshot(None)._replace(active=[]))
    bars.close()
    bars.close()
    text = out.getvalue()
    assert "ck[red]pt.7 2/9 nodes" in text
    assert "n4" in text
    assert "n5" not in text  # only those with the most to do


@pytest.mark.parametrize("shown", [True, False])
def test_a_terminal_that_is_lost_ends_no_scavenge(shown: bool) -> None:
    """Its user has gone; SIGHUP came, and what is in cache is to be saved."""
    from rich.console import Console

    ours, theirs = os.openpty()
    terminal = os.fdopen(theirs, "w")
    bars = Bars(Console(file=terminal, force_terminal=True, width=200, color_system=None))
    if shown:
        bars.show(snapshot())
    os.close(ours)
    for _ in range(2):
        bars.show(snapshot())
        bars.show(snapshot())
        bars.close()
    with contextlib.suppress(OSError):  # what it could not write
        terminal.close()


def test_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(window_s=10.0)
    assert rate.note(0.0, 0) == 0.0
    for second in range(1, 30):
        fast = rate.note(float(second), second * 100)
    assert fast == pytest.approx(100.0)
    for second in range(30, 60):
        slow = rate.note(float(second), 2900 + (second - 29) * 10)
    assert slow == pytest.approx(10.0)


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 << 40, 5000 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 TiB",
        "5000.0 TiB",
    ]
    assert [duration(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
