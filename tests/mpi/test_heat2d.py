# SPDX-License-Identifier: BSD-3-Clause
"""The example under a real MPI, all ranks on this host: stopped and started again, bit for bit the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scrjob import scrlog
from scrjob.formats import halt, paths
from scrjob.formats.index import Index
from worlds import require

pytestmark = pytest.mark.mpi

HEAT2D = Path(__file__).parents[2] / "examples" / "heat2d" / "heat2d.py"
MPIEXEC = os.path.join(os.path.dirname(sys.executable), "mpiexec")
OPTIONS = ("--size", "61", "--steps", "30", "--every", "5")
LIMIT_S = 60.0


class Runs:
    """Runs of the example that share prefix and cache."""

    def __init__(self, base: Path) -> None:
        require("mpi")
        self.base = base
        self.prefix = base / "prefix"
        self.prefix.mkdir()
        self.environ = {
            **os.environ,
            "SCR_PREFIX": str(self.prefix),
            "SCR_USER_NAME": "alice",
            "SCR_JOB_ID": "1",
            "SCR_CACHE_BASE": str(base / "shm"),
            "SCR_CNTL_BASE": str(base / "shm"),
            "SCR_CACHE_BYPASS": "0",
            "SCR_LOG_ENABLE": "1",
            "SCR_LOG_SYSLOG_ENABLE": "0",
        }

    def run(
        self, ranks: int, output: str, *more: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "mpi4py", str(HEAT2D), *OPTIONS, *more]
        return subprocess.run(
            [MPIEXEC, "-n", str(ranks), *program, "--output", str(self.base / output)],
            env={**self.environ, **settings},
            cwd=self.base,
            timeout=LIMIT_S,
            check=False,
            text=True,
            capture_output=True,
        )

    def field(self, output: str) -> bytes:
        return (self.base / output).read_bytes()

    def halt_after(self, checkpoints: int) -> None:
        os.makedirs(paths.scr_dir(str(self.prefix)), exist_ok=True)
        change = {halt.CHECKPOINTS: checkpoints, halt.REASON: None}
        halt.update(paths.halt_file(str(self.prefix)), lambda tree: halt.apply(tree, change))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_stopped_twice_the_result_is_the_same_to_the_last_bit(runs: Runs):
    done = runs.run(3, "whole.npy", SCR_ENABLE="0")
    assert done.returncode == 0, done.stderr
    assert "mean temperature" in done.stdout
    assert os.listdir(runs.prefix) == []
    runs.halt_after(2)
    first = runs.run(3, "part.npy")
    assert first.returncode == 0, first.stderr
    assert "asked to stop at step 10" in first.stdout
    runs.halt_after(1)
    second = runs.run(3, "part.npy", SCR_FLUSH="1")
    assert "from step 10" in second.stdout
    assert "asked to stop at step 15" in second.stdout
    subprocess.run(["rm", "-r", str(runs.base / "shm")], check=True)  # now from the prefix
    runs.halt_after(99)
    third = runs.run(3, "part.npy")
    assert "from step 15" in third.stdout
    assert runs.field("part.npy") == runs.field("whole.npy")
    labels = [record["label"] for record in scrlog.iter_file(scrlog.log_path(str(runs.prefix)))]
    assert labels.count("RESTART_SUCCESS") == 1
    assert labels.count("FETCH_SUCCESS") == 1


def test_any_number_of_ranks_gives_the_same_field(runs: Runs):
    for ranks in (1, 4):
        assert runs.run(ranks, f"{ranks}.npy", SCR_ENABLE="0").returncode == 0
    assert runs.field("1.npy") == runs.field("4.npy")


def test_scrs_defaults_write_to_the_prefix(runs: Runs):
    done = runs.run(2, "out.npy", SCR_CACHE_BYPASS="1")
    assert done.returncode == 0, done.stderr
    index = Index.read(paths.index_file(str(runs.prefix)))
    assert index.current() == "heat.30"
    assert index.ids() == [1, 2, 3, 4, 5, 6]
    assert (runs.prefix / "heat.30" / "rank_1.npy").exists()


def test_a_wrong_setting_ends_all_ranks_at_once(runs: Runs):
    done = runs.run(3, "out.npy", SCR_COPY_TYPE="FILE")
    assert done.returncode == 78
    assert done.stderr.count("SCR_COPY_TYPE=FILE (environment)") == 1
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_plate_is_passed_over(runs: Runs):
    assert runs.run(2, "out.npy").returncode == 0
    done = runs.run(2, "out.npy", "--size", "40")
    assert done.returncode == 0, done.stderr
    assert "from step 0" in done.stdout
