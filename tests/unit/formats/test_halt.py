# SPDX-License-Identifier: BSD-3-Clause
"""halt.scr: conditions, and the lock protocol against a second process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from scrjob.errors import FormatError
from scrjob.formats import halt, kvtree
from scrjob.formats.halt import Conditions
from scrjob.formats.kvtree import KVTree


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def path_in(directory: Path) -> str:
    return str(directory / "halt.scr")


# Conditions.


def test_conditions_of_a_tree() -> None:
    tree = KVTree.of({"ExitReason": "R", "CheckpointsLeft": 4294967295, "HaltSeconds": "x"})
    assert halt.conditions(tree) == Conditions("R", -1, None, None, 0)
    assert halt.conditions(KVTree()) == Conditions()


def test_apply_stores_in_the_order_of_scr_halt_cntl() -> None:
    tree = KVTree.of({"HaltSeconds": 1, "Other": 2})
    halt.apply(
        tree, {"HaltSeconds": 600, "ExitAfter": None, "CheckpointsLeft": -1, "ExitReason": "R"}
    )
    assert list(tree) == [b"HaltSeconds", b"CheckpointsLeft", b"ExitReason", b"Other"]
    assert tree.text("CheckpointsLeft") == "4294967295"
    halt.apply(tree, {"ExitReason": None})
    assert "ExitReason" not in tree


@pytest.mark.parametrize(
    ("found", "end", "reasons"),
    [
        (Conditions(), None, []),
        (Conditions(reason="JOB_HALTED"), None, ["JOB_HALTED"]),
        (Conditions(reason=""), None, []),
        (Conditions(reason="SCR_FINALIZE_CALLED"), None, []),
        (Conditions(checkpoints=0), None, ["NO_CHECKPOINTS_LEFT"]),
        (Conditions(checkpoints=1), None, []),
        (Conditions(checkpoints=-1), None, []),
        (Conditions(before=1000), None, ["EXIT_BEFORE_TIME"]),
        (Conditions(before=1001), None, []),
        (Conditions(before=1010, seconds=10), None, ["EXIT_BEFORE_TIME"]),
        (Conditions(before=1011, seconds=10), None, []),
        (Conditions(after=1000), None, ["EXIT_AFTER_TIME"]),
        (Conditions(after=1001), None, []),
        (Conditions(seconds=100), 1100.0, ["TIME_LIMIT"]),
        (Conditions(seconds=100), 1101.0, []),
        (Conditions(seconds=100), 900.0, ["TIME_LIMIT"]),
        (Conditions(seconds=100), 0.0, []),
        (Conditions(seconds=100), -1.0, []),
        (Conditions(seconds=100), None, []),
        (Conditions(seconds=0), 1000.0, []),
        (
            Conditions("R", 0, 1000, 1000, 100),
            1000.0,
            ["TIME_LIMIT", "R", "NO_CHECKPOINTS_LEFT", "EXIT_BEFORE_TIME", "EXIT_AFTER_TIME"],
        ),
    ],
)
def test_when_the_library_halts(found: Conditions, end: float, reasons: list[str]) -> None:
    assert [hit.reason for hit in halt.program_hits(found, now=1000.0, end_time=end)] == reasons


def test_sentences_of_the_library() -> None:
    hits = halt.program_hits(Conditions("R", 0, 1000, 900, 100), now=1000.0, end_time=1050.0)
    here = "Thu Jan  1 00:16:40 1970"
    assert [hit.text for hit in hits] == [
        "Reached time limit: (seconds remaining = 50) <= (SCR_HALT_SECONDS = 100).",
        "Reason: R.",
        "No more checkpoints remaining.",
        f"Current time ({here}) is past ExitBefore-HaltSeconds time (Thu Jan  1 00:15:00 1970).",
        f"Current time ({here}) is past ExitAfter time (Thu Jan  1 00:15:00 1970).",
    ]


def test_a_regular_end_forbids_another_launch() -> None:
    found = Conditions(reason="SCR_FINALIZE_CALLED")
    assert [hit.text for hit in halt.retries_hits(found, now=0.0)] == [
        "Reason: SCR_FINALIZE_CALLED."
    ]


def test_halt_seconds_of_the_file_win_over_the_setting() -> None:
    assert halt.retries_hits(Conditions(before=1100), now=1000.0, halt_seconds=100)
    assert not halt.retries_hits(Conditions(before=1100, seconds=0), now=1000.0, halt_seconds=100)
    assert not halt.retries_hits(Conditions(seconds=10_000), now=1000.0)


def test_adding_a_condition_never_makes_a_job_go_on() -> None:
    values: list[Conditions] = [
        Conditions(reason="R"), Conditions(checkpoints=0), Conditions(before=5), Conditions(after=5),
    ]  # fmt: skip
    for first in values:
        for second in values:
            both = Conditions(*(b if a is None else a for a, b in zip(first, second)))
            assert len(halt.retries_hits(both, now=10.0)) >= len(halt.retries_hits(first, now=10.0))
            assert halt.program_hits(both, now=10.0)


def test_texts_of_scr_halt_cntl() -> None:
    found = Conditions("JOB_HALTED", 5, 1800000000, 1800000001, 600)
    assert halt.settings_text("/p/halt.scr", found).splitlines() == [
        "Halt file settings for /p/halt.scr:",
        "  ExitReason:      JOB_HALTED",
        "  CheckpointsLeft: 5",
        "  ExitAfter:       Fri Jan 15 08:00:01 2027",
        "  ExitBefore:      Fri Jan 15 08:00:00 2027",
        "  HaltSeconds:     600",
        "  ExitBefore - HaltSeconds: Fri Jan 15 07:50:00 2027",
    ]
    assert halt.settings_text("x", Conditions()) == "Halt file settings for x:\n  None"
    assert "ExitBefore - " not in halt.settings_text("x", Conditions(before=-1, seconds=5))
    assert "ExitBefore - " not in halt.settings_text("x", Conditions(before=5))
    said = halt.changes_text({"ExitReason": "R", "CheckpointsLeft": 0, "ExitBefore": None})
    assert said.splitlines() == [
        "Setting CheckpointsLeft",
        "Unsetting ExitBefore",
        "Setting ExitReason",
    ]


# The library's update.


def test_program_update_makes_the_file_from_memory(tmp_path: Path) -> None:
    memory = KVTree.of({"HaltSeconds": 60, "CheckpointsLeft": 3})
    tree = halt.program_update(path_in(tmp_path), memory, decrement=1)
    assert halt.conditions(tree) == Conditions(checkpoints=2, seconds=60)
    assert kvtree.read(path_in(tmp_path)) == tree
    assert memory.integer("CheckpointsLeft") == 3


def test_program_update_lets_the_file_win(tmp_path: Path) -> None:
    kvtree.write(path_in(tmp_path), KVTree.of({"ExitReason": "OLD", "CheckpointsLeft": 0}))
    memory = KVTree.of({"ExitReason": "NEW", "HaltSeconds": 60})
    tree = halt.program_update(path_in(tmp_path), memory, decrement=1)
    assert halt.conditions(tree) == Conditions("OLD", 0)


def test_program_update_keeps_a_reason_that_the_file_lacks(tmp_path: Path) -> None:
    kvtree.write(path_in(tmp_path), KVTree.of({"CheckpointsLeft": 4294967295}))
    tree = halt.program_update(path_in(tmp_path), KVTree.of({"ExitReason": "NEW"}))
    assert halt.conditions(tree) == Conditions("NEW", 0)


def test_program_update_of_an_empty_file_forgets_the_seconds(tmp_path: Path) -> None:
    Path(path_in(tmp_path)).touch()
    tree = halt.program_update(path_in(tmp_path), KVTree.of({"HaltSeconds": 60}))
    assert halt.conditions(tree) == Conditions()


# The protocol.


def test_update_is_in_place_and_truncates(tmp_path: Path) -> None:
    path = Path(path_in(tmp_path))
    halt.update(str(path), lambda tree: halt.apply(tree, {"ExitReason": "R" * 500}))
    inode = path.stat().st_ino
    halt.update(str(path), lambda _tree: KVTree())
    assert path.stat().st_ino == inode
    assert path.read_bytes() == kvtree.encode(KVTree())
    assert path.stat().st_mode & 0o777 == 0o644


def test_damaged_content_counts_as_empty_and_is_told(tmp_path: Path) -> None:
    path = Path(path_in(tmp_path))
    path.write_bytes(b"junk")
    told: list[FormatError] = []
    tree = halt.update(
        str(path), lambda tree: tree.put("CheckpointsLeft", 1), on_damage=told.append
    )
    assert len(told) == 1
    assert tree == KVTree.of({"CheckpointsLeft": 1})
    path.write_bytes(b"junk")
    halt.update(str(path), lambda _tree: None)
    assert halt.read(str(path)) == KVTree()
    path.write_bytes(b"junk")
    with pytest.raises(FormatError):
        halt.read(str(path))


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        halt.read(path_in(tmp_path))
    assert not list(tmp_path.iterdir())


WORKER = """
import sys
from scrjob.formats import halt
path, mode = sys.argv[1:]
print("ready", flush=True)
if mode == "read":
    print(halt.conditions(halt.read(path)).checkpoints, flush=True)
else:
    for _ in range(50):
        halt.update(path, lambda tree: tree.put("CheckpointsLeft", tree.integer("CheckpointsLeft") + 1))
    print("done", flush=True)
"""


def worker(path: str, mode: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WORKER, path, mode]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with process.stdout as stream:  # communicate() would lose what readline() read ahead
        out = stream.read()
    assert process.wait(timeout=60) == 0
    return out


@pytest.mark.parametrize(
    ("held", "mode", "blocked"),
    [
        (fcntl.LOCK_EX, "write", True),
        (fcntl.LOCK_EX, "read", True),
        (fcntl.LOCK_SH, "write", True),
        (fcntl.LOCK_SH, "read", False),
    ],
)
def test_who_waits_for_whom(tmp_path: Path, held: int, mode: str, blocked: bool) -> None:
    path = path_in(tmp_path)
    kvtree.write(path, KVTree.of({"CheckpointsLeft": 5}))
    with open(path, "r+b") as file:
        fcntl.flock(file, held)
        process = worker(path, mode)
        if blocked:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
            assert halt.conditions(kvtree.read(path)).checkpoints == 5
        else:
            process.wait(timeout=60)
        fcntl.flock(file, fcntl.LOCK_UN)
    said = end(process)
    assert said == ("5\n" if mode == "read" else "done\n")


def test_updates_of_two_processes_are_not_lost(tmp_path: Path) -> None:
    path = path_in(tmp_path)
    kvtree.write(path, KVTree.of({"CheckpointsLeft": 0}))
    processes = [worker(path, "write") for _ in range(2)]
    for process in processes:
        end(process)
    assert halt.conditions(halt.read(path)).checkpoints == 100
    assert os.listdir(tmp_path) == ["halt.scr"]
