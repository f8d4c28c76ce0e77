# SPDX-License-Identifier: BSD-3-Clause
"""The end of the allocation, signals, pre-emption, scr_halt from another shell: under a real Slurm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from heatjob import HeatJob
from plainjob import PlainJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

STEP = ["srun", "-N2", "-n2"]
SLEEP = [*STEP, "sh", "-c", "touch here.$SLURM_PROCID; exec sleep 300"]
GONE_S = 5.0


def no_job_left(rig: Rig) -> None:
    """Assert that Slurm has no job any more, and soon."""
    rig.wait_for(lambda: not rig.run(["squeue", "-h"]).stdout, "the jobs' end", GONE_S)


def running(job: PlainJob) -> PlainJob:
    """Wait until both ranks are there."""
    for rank in (0, 1):
        job.wait_until((job.directory / f"here.{rank}").exists, f"rank {rank}")
    return job


def test_the_notice_of_sbatch_and_a_limit_that_is_shortened(rig: Rig, tmp_path: Path) -> None:
    """Lesson A13: ``--signal=B:USR1@SECONDS``. Lesson B8: the end of the allocation is read anew.

    Slurm looks at time limits every half minute, and gives notice so much earlier: from here after
    5 to 35 s. So the two wait together.
    """
    noticed, shortened = tmp_path / "noticed", tmp_path / "shortened"
    noticed.mkdir()
    shortened.mkdir()
    first = PlainJob(rig, noticed, SLEEP, SCR_HALT_GRACE="1", SCR_RUNS="3")
    first.submit(2, ["-t2", "--signal=B:USR1@85", f"--chdir={noticed}"])
    second = PlainJob(rig, shortened, SLEEP, SCR_HALT_GRACE="1", SCR_RUNS="3").start(2, ["-t60"])
    job_id = running(second).job_id()
    rig.run(["scontrol", "update", f"jobid={job_id}", "timelimit=1"], check=True)
    assert second.end() == 75, second.said
    assert second.causes() == ["out of time"]
    assert "cause=TIME_LIMIT SCRJOB_TIME_LIMIT" in second.notes()[0]
    first.wait_said("exit code 75", 90)
    assert first.causes() == ["signal to supervisor"]
    assert "cause=SIGNAL SIGUSR1 received" in first.notes()[0]
    no_job_left(rig)


@pytest.mark.soak
def test_a_limit_that_is_reached(rig: Rig, tmp_path: Path) -> None:
    """Lesson B1: nothing was kept for the end, so Slurm ends the step; up to a minute and a half."""
    settings = {"SCR_RESERVE_SECONDS": "0.1", "SCR_RUNS": "3"}
    job = PlainJob(rig, tmp_path, SLEEP, **settings).start(2, ["-t1"])
    assert job.end(120) == 75, job.said
    assert job.causes() == ["out of time"]
    assert "DUE TO TIME LIMIT" in job.evidence() or "SCRJOB_TIME_LIMIT" in job.evidence()


def test_pre_emption_with_a_grace(rig: Rig, tmp_path: Path) -> None:
    """Lesson A13. The ranks get TERM, the batch script nothing: the manager tells why."""
    job = PlainJob(rig, tmp_path, SLEEP, SCR_RUNS="3")
    job.submit(
        6, ["-plow", "--exclusive", "--no-requeue", f"--chdir={tmp_path}"], after="echo code $?"
    )
    running(job)
    urgent = rig.start("login", ["srun", "-phigh", "--exclusive", "-N6", "true"])
    job.wait_said("\ncode ")
    assert "code 75" in job.said
    assert job.causes() == ["pre-empted"]
    assert "cause=PREEMPTED Slurm: job" in job.notes()[0]
    assert job.state()["bad_nodes"] == {}
    assert urgent.wait() == 0


def test_a_batch_job_that_its_user_cancels(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    """Lesson A13: TERM to all; what is left of the time is used to save, and nothing is launched."""
    rig = make_rig(2, options={"KillWait": "20"})
    job = PlainJob(rig, tmp_path, SLEEP, SCR_RUNS="3")
    job_id = job.submit(2, [f"--chdir={tmp_path}"])
    running(job)
    rig.run(["scancel", job_id], check=True)
    job.wait_said("exit code 130: cancelled")
    assert job.causes() == ["cancelled"]
    assert "SIGTERM received" in job.evidence()
    no_job_left(rig)


def test_term_lets_the_program_finish_a_checkpoint(rig: Rig, tmp_path: Path) -> None:
    """Lesson A13: halt, checkpoint, scavenge, 75."""
    job = HeatJob(rig, tmp_path, nodes=4, steps=2000).start()
    job.wait_dataset(2)
    rig.run(["kill", "-TERM", str(job.state()["pid"])], check=True)
    assert job.end() == 75, job.said
    (run,) = job.runs()
    assert run["cause"] == "signal to supervisor"
    assert run["exit_code"] == 0
    assert run["dataset_after"] >= 3
    assert (job.prefix / f"heat.{10 * run['dataset_after']}").is_dir()
    no_job_left(rig)


def test_halting_at_once_ends_the_step_and_keeps_the_allocation(rig: Rig, tmp_path: Path) -> None:
    """Lesson A14."""
    job = PlainJob(rig, tmp_path, SLEEP, SCR_RUNS="3")
    after = "echo code $?; srun -N1 echo allocation is still there; squeue -h -s -j $SLURM_JOB_ID"
    job.submit(2, [f"--chdir={tmp_path}"], after=after)
    running(job)
    began = time.monotonic()
    rig.run(["scr_halt", "--immediate", str(job.prefix)], check=True)
    job.wait_said("allocation is still there")
    assert time.monotonic() - began < 15
    assert "code 0" in job.said
    assert job.causes() == ["halt condition"]
    no_job_left(rig)


@pytest.mark.parametrize("how", ["salloc", "sbatch"])
def test_the_allocation_ends_with_the_job(rig: Rig, tmp_path: Path, how: str) -> None:
    """No step, no process of ours stays behind to hold it."""
    job = PlainJob(rig, tmp_path, [*STEP, "sleep", "1"])
    if how == "salloc":
        assert job.start(3).end() == 0, job.said
    else:
        job.submit(3, [f"--chdir={tmp_path}"])
        job.wait_said("exit code 0: the program finished")
    no_job_left(rig)
    for host in rig.plan.hosts:
        assert "scrjob" not in rig.exec(host, ["ps", "-eo", "args"]).stdout
