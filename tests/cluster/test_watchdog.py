# SPDX-License-Identifier: BSD-3-Clause
"""Programs that hang under srun: found, looked at on their nodes, ended as a whole, started again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import pytest

from scrjob.scrlog import parse_file

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).parents[1] / "support" / "hanging_program.py"
NODES = 2
RANKS = 4
SETTINGS = {
    "SCR_RUNS": "2",
    "SCR_WATCHDOG": "1",
    "SCR_WATCHDOG_TIMEOUT": "3",
    "SCR_WATCHDOG_STARTUP": "40",
}
CHECKPOINTING = {
    "SCR_CACHE_BYPASS": "0",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_LOG_ENABLE": "1",
    "SCR_LOG_SYSLOG_ENABLE": "0",
}

# In its first run rank 1 stops, or sleeps for ever, while the others are in a barrier.
PLAIN_C = """\
#include <mpi.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static void beat(void)
{
    int file = open("beat", O_WRONLY | O_CREAT | O_APPEND, 0600);
    write(file, ".", 1);
    close(file);
}

int main(int argc, char **argv)
{
    int rank, first;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    first = access("ran", F_OK) != 0;
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        close(open("ran", O_WRONLY | O_CREAT, 0600));
        beat();
    }
    if (rank == 1 && first) {
        raise(SIGSTOP);
        pause();
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
"""


class Job:
    """One scr_run in an allocation of two nodes, from its start to its end."""

    def __init__(self, rig: Rig, prefix: Path) -> None:
        self.rig = rig
        self.prefix = prefix
        prefix.mkdir()

    def run(self, program: Sequence[str], **settings: str) -> None:
        """Run it to its end, which must be a good one."""
        srun = ["srun", "-N", str(NODES), "-n", str(RANKS), "--ntasks-per-node=2", "--mpi=pmix"]
        done = self.rig.salloc(
            NODES,
            ["scr_run", *srun, *program],
            ["--exclusive", f"-n{RANKS}"],
            cwd=str(self.prefix),
            environ={**SETTINGS, **settings, "SCR_PREFIX": str(self.prefix)},
        )
        assert done.returncode == 0, done.stderr

    @property
    def scr(self) -> Path:
        return self.prefix / ".scr"

    def kept(self, name: str) -> str:
        """Return a file of the job's state directory."""
        (path,) = self.scr.glob(f"scrjob.*/{name}")
        return path.read_text()

    def runs(self) -> list[dict[str, Any]]:
        state = json.loads(self.kept("state.json"))
        runs: list[dict[str, Any]] = state["runs"]
        return runs

    def causes(self) -> list[str]:
        return [run["cause"] for run in self.runs()]

    def stacks(self) -> dict[str, str]:
        """Return what each node has said of its ranks."""
        parts = re.split(r"^#### node (\S+)\n", self.kept("stacks.run1.txt"), flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2]))


@pytest.fixture
def job(rig: Rig, tmp_path: Path) -> Job:
    return Job(rig, tmp_path / "prefix")


def test_a_stopped_rank_of_a_plain_mpi_program(job: Job, tmp_path: Path) -> None:
    """Lessons A9, A10, B4: its node tells it from those that wait for it; none of them is left."""
    source, program = tmp_path / "plain.c", tmp_path / "plain"
    source.write_text(PLAIN_C)
    job.rig.run(["mpicc.openmpi", str(source), "-o", str(program)], check=True)
    job.run([str(program)], SCR_WATCHDOG_FILE="beat")
    assert job.causes() == ["hang", "success"]
    first, last = job.runs()
    assert "the last sign was SCR_WATCHDOG_FILE" in first["evidence"][0]
    assert "no file in cache changed on n[1-2]" in first["evidence"][0]
    one, two = job.stacks()["n1"], job.stacks()["n2"]
    assert re.search(r"^== process \d+ rank 1 \[T \(stopped\)\] \S*plain$", one, re.MULTILINE)
    assert len(re.findall(r"^== process", one, re.MULTILINE)) == 2
    assert re.findall(r"^== process \d+ rank (\d)", two, re.MULTILINE) in (["2", "3"], ["3", "2"])
    assert "(stopped)" not in two
    assert last["nodes"] == ["n1", "n2"]
    for node in last["nodes"]:
        assert job.rig.exec(node, ["pgrep", "-x", "plain"]).stdout == ""


def test_a_sleeping_rank_of_a_checkpointing_program(job: Job) -> None:
    """Lessons A9, B4: its Python stack is had from its node, and it goes on from the cache."""
    job.run([sys.executable, "-m", "mpi4py", str(PROGRAM), "one"], **CHECKPOINTING)
    assert job.causes() == ["hang", "success"]
    stacks = job.stacks()
    assert set(stacks) == {"n1", "n2"}
    assert "in stuck_here" in stacks["n1"]
    assert "in stuck_here" not in stacks["n2"]
    assert stacks["n2"].count("most recent call first") >= 2
    labels = [record["label"] for record in parse_file(str(job.scr / "log"))]
    assert "FETCH_START" not in labels


def test_a_long_checkpoint_is_no_hang(job: Job) -> None:
    """Lesson A10: only its files in cache show progress."""
    job.run([sys.executable, "-m", "mpi4py", str(PROGRAM), "long"], **CHECKPOINTING)
    assert job.causes() == ["success"]
