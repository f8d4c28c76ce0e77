# SPDX-License-Identifier: BSD-3-Clause
"""Checkpointing programs that hang: found, looked at, ended as a whole, restarted from cache."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from scrjob.scrlog import parse_file
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.mpi]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "hanging_program.py"
SETTINGS = {
    "SCR_JOB_ID": "job",
    "SCR_CACHE_BYPASS": "0",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_RUNS": "3",
    "SCR_LOG_ENABLE": "1",
    "SCR_LOG_SYSLOG_ENABLE": "0",
    "SCR_WATCHDOG": "1",
    "SCR_WATCHDOG_TIMEOUT": "2",
    "SCR_WATCHDOG_STARTUP": "30",
}


@pytest.fixture
def here(namespaces: None, tmp_path: Path) -> Iterator[HeldAllocation]:
    (tmp_path / "prefix").mkdir()
    with allocation(2, cwd=tmp_path, share=[ROOT]) as held:
        held.environ.update(SETTINGS, SCR_PREFIX=str(tmp_path / "prefix"))
        yield held


def run(here: HeldAllocation, how: str) -> list[Any]:
    argv = [sys.executable, "-m", "scrjob", "scr_run", "local", "-N", "2", "-n", "4"]
    done = here.run([*argv, sys.executable, str(PROGRAM), how])
    assert done.returncode == 0, done.stderr
    state = Path(here.environ["SCR_PREFIX"], ".scr", "scrjob.job", "state.json")
    runs: list[Any] = json.loads(state.read_text())["runs"]
    return runs


@pytest.mark.parametrize(("how", "stuck"), [("all", 4), ("one", 1)])
def test_a_hang_is_found_and_its_ranks_are_looked_at(
    here: HeldAllocation, how: str, stuck: int
) -> None:
    """Lessons A9, A10, B4."""
    runs = run(here, how)
    assert [entry["cause"] for entry in runs] == ["hang", "success"]
    scr = Path(here.environ["SCR_PREFIX"], ".scr")
    stacks = (scr / "scrjob.job" / "stacks.run1.txt").read_text()
    assert stacks.count("in stuck_here") == stuck
    assert {"#### node node1", "#### node node2"} <= set(stacks.splitlines())
    labels = [record["label"] for record in parse_file(str(scr / "log"))]
    assert "REBUILD_SUCCESS" in labels
    assert "FETCH_START" not in labels


@pytest.mark.parametrize("how", ["slow", "long"])
def test_a_slow_start_and_a_long_checkpoint_are_no_hangs(here: HeldAllocation, how: str) -> None:
    """Lessons A10, B4: of the checkpoint only the files in cache show progress."""
    assert [entry["cause"] for entry in run(here, how)] == ["success"]


WORK = """\
for step in 1 2 3 4 5 6; do echo step $step; sleep 0.5; done
mkdir "$SCR_PREFIX/first" 2> /dev/null && sleep 1000
true
"""


def test_output_to_a_file_is_progress_of_a_program_without_scr(
    here: HeldAllocation, tmp_path: Path
) -> None:
    """Lesson B4."""
    here.environ.update(SCR_WATCHDOG_OUTPUT="1", SCR_WATCHDOG_STARTUP="2")
    argv = [sys.executable, "-m", "scrjob", "scr_run", "local", "-N", "2", "--mpi=none"]
    log = tmp_path / "job.log"
    with log.open("wb") as file:
        done = here.run([*argv, "sh", "-c", WORK], stdout=file, stderr=file)
    assert done.returncode == 0, log.read_text()
    state = Path(here.environ["SCR_PREFIX"], ".scr", "scrjob.job", "state.json")
    first, second = json.loads(state.read_text())["runs"]
    assert (first["cause"], second["cause"]) == ("hang", "success")
    assert "the last sign was output" in first["evidence"][0]
    assert "no file in cache changed on node[1-2]" in first["evidence"][0]
    assert first["ended"] - first["launched"] > 3.0
