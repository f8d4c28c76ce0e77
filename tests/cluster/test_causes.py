# SPDX-License-Identifier: BSD-3-Clause
"""Each cause of a run's end, produced for real under Slurm: told in log, state and summary; right action."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest

from plainjob import PlainJob, compile_mpi
from worlds import require

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

STEP = ["srun", "-N2", "-n2"]
MPI = [*STEP, "--mpi=pmix"]
MEMORY_MB = 200
# Waits in its first run, succeeds in the second.
ONCE = ["sh", "-c", "test -e ran.$SLURM_PROCID && exit 0; touch ran.$SLURM_PROCID; exec sleep 60"]


def wait_for_both(job: PlainJob, directory: Path) -> None:
    """Wait until both ranks have noted that they ran: one that has not would do so in the second run."""
    marks = [directory / f"ran.{rank}" for rank in (0, 1)]
    job.wait_until(lambda: all(mark.exists() for mark in marks), "the ranks")


@pytest.fixture(scope="module")
def deeds(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_mpi(tmp_path_factory.mktemp("mpi"))


@pytest.fixture
def small_host(rig: Rig) -> Iterator[str]:
    """A host with little memory."""
    require("memory limits")
    rig.limit_memory("n2", MEMORY_MB)
    yield "n2"
    rig.limit_memory("n2", None)


def told_everywhere(job: PlainJob, cause: str, name: str) -> None:
    """Assert that state, log, summary tell the cause of the first run."""
    assert job.runs()[0]["cause"] == cause, job.said
    assert f"cause={name} " in job.notes()[0]
    summary = job.said.partition("summary:")[2]
    assert f"{cause} (" in summary


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("exit", 7, "Exited with exit code 7"),
        ("segv", 139, "Segmentation fault"),
        ("abrt", 134, "Aborted"),
        (
            "mpiabort",
            9,
            r"srun: .* task.*: (Exited with exit code 9|Killed)",
        ),  # all may be, before one exits
        ("kill", 137, "no counter of kills for want of memory rose"),
    ],
)
def test_the_programs_own_end(
    rig: Rig, tmp_path: Path, deeds: str, deed: str, code: int, words: str
) -> None:
    """Lessons A1, B1: srun cancels the rest of the step, and says so; nobody else did."""
    job = PlainJob(rig, tmp_path, [*MPI, deeds, deed]).start(2)
    assert job.end() == code, job.said
    told_everywhere(job, "application error", "APPLICATION")
    assert re.search(words, job.evidence())
    assert job.state()["bad_nodes"] == {}


def test_143_is_not_the_time_limit(rig: Rig, tmp_path: Path) -> None:
    """Lesson B1: the end of the allocation is known, and far."""
    job = PlainJob(rig, tmp_path, [*STEP, "sh", "-c", "sleep 1; kill -TERM $$"]).start(2, ["-t5"])
    assert job.end() == 143, job.said
    told_everywhere(job, "application error", "APPLICATION")
    assert job.state()["bad_nodes"] == {}


def test_out_of_memory(rig: Rig, tmp_path: Path, deeds: str, small_host: str) -> None:
    """The node is named with its counter; the second run uses it again."""
    job = PlainJob(rig, tmp_path, [*MPI, deeds, "memory"], SCR_RUNS="2").start(2)
    assert job.end() == 137, job.said
    told_everywhere(job, "out of memory", "OUT_OF_MEMORY")
    assert job.causes() == ["out of memory", "out of memory"]
    assert job.runs()[0]["evidence"][0].startswith(f"{small_host}: kills for want of memory rose")
    assert "n1: kills" not in job.evidence()
    assert job.state()["bad_nodes"] == {}
    assert small_host in job.runs()[1]["nodes"]


def test_a_cancelled_step_is_started_again(rig: Rig, tmp_path: Path) -> None:
    job = PlainJob(rig, tmp_path, [*STEP, *ONCE], SCR_RUNS="2").start(2)
    wait_for_both(job, tmp_path)
    rig.run(["scancel", job.step_id()], check=True)
    assert job.end() == 0, job.said
    told_everywhere(job, "cancelled", "CANCELLED")
    assert job.causes() == ["cancelled", "success"]


def test_a_cancelled_job_is_not_started_again(rig: Rig, tmp_path: Path) -> None:
    job = PlainJob(rig, tmp_path, [*STEP, *ONCE], SCR_RUNS="3").start(2)
    wait_for_both(job, tmp_path)
    rig.run(["scancel", job.job_id()], check=True)
    assert job.end() == 130, job.said
    told_everywhere(job, "cancelled", "CANCELLED")
    assert len(job.runs()) == 1
    assert job.state()["bad_nodes"] == {}


def test_a_node_that_slurm_gives_up(rig: Rig, tmp_path: Path) -> None:
    """Its administrator does, say: srun names it at once."""
    job = PlainJob(rig, tmp_path, [*STEP, *ONCE], SCR_RUNS="2").start(3)
    wait_for_both(job, tmp_path)
    rig.run(["scontrol", "update", "nodename=n2", "state=down", "reason=test"], check=True)
    assert job.end() == 0, job.said
    told_everywhere(job, "node down", "NODE_DOWN")
    assert list(job.state()["bad_nodes"]) == ["n2"]
    assert "n2" in job.runs()[0]["evidence"][0]
    assert "n2" not in job.runs()[1]["nodes"]


def test_an_allocation_that_ends_with_its_node(rig: Rig, tmp_path: Path) -> None:
    """Without --no-kill: nothing can be launched any more, and no other node is blamed."""
    job = PlainJob(rig, tmp_path, [*STEP, *ONCE], SCR_RUNS="3").start(3, ["--no-kill=off"])
    wait_for_both(job, tmp_path)
    rig.run(["scontrol", "update", "nodename=n2", "state=down", "reason=test"], check=True)
    assert job.end() == 69, job.said
    assert job.causes()[-1] == "node down"
    assert set(job.state()["bad_nodes"]) <= {"n2"}


def test_full_node_storage_is_no_dead_node(rig: Rig, tmp_path: Path) -> None:
    """Lesson B1."""
    fails_once = "test -e ran.$SLURM_PROCID && exit 0; touch ran.$SLURM_PROCID; sleep 3; exit 5"
    job = PlainJob(rig, tmp_path, [*STEP, "sh", "-c", fails_once], SCR_RUNS="2").start(3)
    wait_for_both(job, tmp_path)
    rig.fill("n2")
    assert job.end() == 0, job.said
    rig.empty("n2")
    told_everywhere(job, "storage full", "STORAGE_FULL")
    assert "No space left" in job.runs()[0]["evidence"][0]
    assert job.state()["bad_nodes"]["n2"]["test"] == "dir_capacity"
    assert "n2" not in job.runs()[1]["nodes"]


def test_a_full_prefix_ends_the_job(rig: Rig, tmp_path: Path) -> None:
    """Lesson B1: no node is to blame, and no further run would do better."""
    program = ["srun", "-N1", "-n1", "sh", "-c", f"touch {tmp_path}/ran; sleep 3; exit 5"]
    settings = {
        "SCR_PREFIX": "/tmp/prefix",
        "SCR_RUNS": "3",
    }  # on one host that is seen by all nodes
    rig.exec("n1", ["mkdir", "/tmp/prefix"], check=True)
    try:
        job = PlainJob(rig, tmp_path, program, **settings)
        job.submit(1, ["--nodelist=n1"], after="echo ended with $?")
        job.wait_until((tmp_path / "ran").exists, "the ranks")
        rig.fill("n1", "/tmp")
        job.wait_said("ended with")
    finally:
        rig.empty("n1", "/tmp")
        rig.exec("n1", ["rm", "-r", "/tmp/prefix"], check=True)
    assert "ended with 5" in job.said
    assert "storage full: /tmp/prefix: No space left on device" in job.said
    assert "make room there" in job.said
    assert "run 2" not in job.said


@pytest.mark.parametrize(
    "words",
    [
        [*STEP, "no-such-program"],
        [*STEP, "/etc/passwd"],
        ["srun", "-N1", "--constraint=no-such-feature", "true"],
    ],
)
def test_what_cannot_be_started(rig: Rig, tmp_path: Path, words: list[str]) -> None:
    job = PlainJob(rig, tmp_path, words).start(2)
    assert job.end() not in {0, 75}, job.said
    told_everywhere(job, "launch failed", "LAUNCH")
    assert job.state()["bad_nodes"] == {}
