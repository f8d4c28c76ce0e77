# SPDX-License-Identifier: BSD-3-Clause
"""scr_run killed in every phase and started again: it continues, and no dataset is lost."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from scrjob._clock import SystemClock, wait_for
from scrjob.formats.index import Index
from scrjob.scrlog import parse_file
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.mpi]

ROOT = Path(__file__).parents[2]
HEAT2D = ROOT / "examples" / "heat2d" / "heat2d.py"
KILLER = ROOT / "tests" / "support" / "killing_supervisor.py"
STEPS, EVERY = 40, 10
SETTINGS = {
    "SCR_CACHE_BYPASS": "0",
    "SCR_CACHE_SIZE": "2",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_RUNS": "2",
    "SCR_LOG_ENABLE": "1",
    "SCR_LOG_SYSLOG_ENABLE": "0",
    "SCR_JOB_ID": "job",
}
LIMIT_S = 100.0  # only a hang takes so long


class Heat:
    """heat2d with 4 ranks on 2 of 3 nodes, as scr_run's arguments."""

    def __init__(self, here: HeldAllocation, prefix: Path) -> None:
        self.here = here
        self.prefix = prefix
        prefix.mkdir()
        self.environ = {**here.environ, **SETTINGS, "SCR_PREFIX": str(prefix)}

    def words(self, pace: float = 0.0) -> list[str]:
        program = [sys.executable, str(HEAT2D), "--size", "48", "--steps", str(STEPS)]
        program += ["--every", str(EVERY), "--pace", str(pace)]
        return ["local", "-N", "2", "-n", "4", *program, "--output", str(self.prefix / "out.npy")]

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return self.here.run([*command, *self.words()], env=self.environ, timeout=LIMIT_S)

    def result(self) -> str:
        return hashlib.sha256((self.prefix / "out.npy").read_bytes()).hexdigest()

    def index(self) -> Index:
        return Index.read(str(self.prefix / ".scr" / "index.scr"))

    def labels(self) -> list[str]:
        records = parse_file(str(self.prefix / ".scr" / "log"))
        return [record["label"] for record in records if record["type"] == "event"]


@pytest.fixture
def heat(namespaces: None, tmp_path: Path) -> Iterator[Heat]:
    with allocation(3, cwd=tmp_path, share=[ROOT]) as here:
        yield Heat(here, tmp_path / "prefix")


@pytest.fixture(scope="module")
def reference(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    tmp_path = tmp_path_factory.mktemp("reference")
    with allocation(2, cwd=tmp_path, share=[ROOT]) as here:
        heat = Heat(here, tmp_path / "prefix")
        done = heat.run("scr_run")
        assert done.returncode == 0, done.stderr
        return heat.result()


@pytest.mark.parametrize(
    "point",
    [
        "after testing nodes",
        "before launching",
        "after launching",
        "after running",
        "before step ended",
        "after step ended",
        "after scavenge",
        "copying",
        "copied",
        "before done",
        "after done",
    ],
)
def test_killed_and_started_again(heat: Heat, reference: str, point: str) -> None:
    killed = heat.run(sys.executable, str(KILLER), point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = heat.run("scr_run")
    assert again.returncode == 0, again.stderr
    assert heat.result() == reference
    newest = heat.index().latest_usable()
    assert newest is not None
    assert newest.id == STEPS // EVERY
    assert heat.index().current() == newest.descriptor.name


def test_killed_in_the_middle_of_computing(heat: Heat, reference: str) -> None:
    process = heat.here.start(["scr_run", *heat.words(0.1)], env=heat.environ)
    log = heat.prefix / ".scr" / "log"

    def checkpoints() -> int:
        return log.read_text().count("event=CHECKPOINT_END") if log.exists() else 0

    wait_for(lambda: checkpoints() >= 2, clock=SystemClock(), limit_s=LIMIT_S, poll_s=0.02)
    assert checkpoints() >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    again = heat.run("scr_run")
    assert again.returncode == 0, again.stderr
    assert heat.result() == reference
    assert "REBUILD_SUCCESS" in heat.labels()
    assert "FETCH_START" not in heat.labels()
    newest = heat.index().latest_usable()
    assert newest is not None
    assert newest.id == STEPS // EVERY
