# SPDX-License-Identifier: BSD-3-Clause
"""Slurm as a resource manager, on a real Slurm: the contract, bad nodes, the end of jobs, requeues."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import pytest

from onhost import context, read_environ
from rig import Rig
from scrjob.errors import CommandError, NotInAllocationError, ScrError
from scrjob.model import Cause
from scrjob.resmgrs.slurm import SLURM
from scrjob.testing.contracts import ResourceManagerContract

LOGIN = "login"
MINUTES = 30
SCRIPT = """\
#!/bin/bash
trap : TERM
env -0 > "$SLURM_SUBMIT_DIR/env.${SLURM_RESTART_COUNT:-0}.part"
mv "$SLURM_SUBMIT_DIR/env.${SLURM_RESTART_COUNT:-0}.part" "$SLURM_SUBMIT_DIR/env.${SLURM_RESTART_COUNT:-0}"
while :; do sleep 0.2; done
"""


class Allocation:
    """A job of three nodes, seen from its command."""

    def __init__(self, rig: Rig, place: Path, options: Sequence[str] = ()) -> None:
        self.rig = rig
        self.asked = time.time()
        note = place / "environ"
        rig.salloc_start(
            3,
            ["sh", "-c", 'env -0 > "$1.part" && mv "$1.part" "$1" && exec sleep 600', "sh", note],
            [f"--time={MINUTES}", *options],
        )
        self.environ: Mapping[str, str] = rig.wait_for(lambda: read_environ(note), "the job")
        self.job_id = self.environ["SLURM_JOB_ID"]
        self.nodes = ["n1", "n2", "n3"]
        self.end_time: Optional[int] = int(self.asked) + 60 * MINUTES
        self.timeout_s = SLURM.timeout_s

    def manager(self) -> SLURM:
        made = manager(self.rig, LOGIN, self.environ)
        made.timeout_s = self.timeout_s
        return made

    def outside(self) -> SLURM:
        return manager(self.rig, LOGIN, self.rig.environ)

    def kill(self, node: str) -> None:
        self.update(f"NodeName={node}", "State=DOWN", "Reason=smoke")

    def cut_off(self) -> None:
        self.timeout_s = 2.0  # Slurm's commands knock for longer
        self.rig.stop_service("slurmctld")

    def update(self, *words: str) -> None:
        self.rig.touched = True
        self.rig.run(["scontrol", "update", *words], check=True)

    def break_tool(self, how: str) -> None:
        raise NotImplementedError(how)


def manager(rig: Rig, host: str, environ: Mapping[str, str]) -> SLURM:
    made = SLURM()
    made.bind(context(rig, host, environ))
    return made


def answer(question: Callable[[], Any]) -> Any:
    """Return the answer; None while the controller is between two of the job's states."""
    try:
        return question()
    except ScrError:
        return None


@pytest.fixture
def world(rig: Rig, tmp_path: Path) -> Iterator[Allocation]:
    made = Allocation(rig, tmp_path)
    yield made
    if not rig.touched:  # else the next test gets a new one
        rig.run(["scancel", made.job_id])
        rig.wait_for(rig.is_fresh, "the end of the allocation")


class TestSlurm(ResourceManagerContract):
    capabilities = frozenset({"down_nodes", "end_time", "cut_off"})


def test_all_that_is_asked_inside_an_allocation(rig: Rig) -> None:
    """Lesson A18 and A21: detected at run time, and USER may be unset."""
    code = (
        "import json; from scrjob.resmgrs import AutoResourceManager; from scrjob.jobenv import JobEnv\n"
        "m = AutoResourceManager(); m.prerun()\n"
        "print(json.dumps([m.name, m.job_nodes(), m.down_nodes(), m.end_time(), m.pinned_nodes(), "
        "m.restart_count(), m.ending(), JobEnv(resmgr=m).user()]))"
    )
    done = rig.salloc(2, ["env", "-u", "USER", sys.executable, "-c", code], check=True)
    assert json.loads(done.stdout) == ["SLURM", ["n1", "n2"], {}, -1, [], 0, None, "root"]


def test_what_administrators_say_of_nodes(world: Allocation) -> None:
    """Lesson A3: two bad nodes at once, in states other than down; what runs there goes on."""
    world.update("NodeName=n2", "State=DRAIN", "Reason=bad fan")
    world.update("NodeName=n3", "State=FAIL", "Reason=DIMM 3")
    assert world.manager().down_nodes() == {
        "n2": "Slurm state MIXED+DRAIN: bad fan",
        "n3": "Slurm state MIXED+FAIL: DIMM 3",
    }
    assert world.manager().watch_nodes() == ({}, {})
    world.update("NodeName=n2", "State=DOWN", "Reason=smoke")
    watch = world.manager().watch_nodes()
    assert (list(watch.lost), watch.silent) == (["n2"], {})
    assert list(world.manager().down_nodes()) == ["n2", "n3"]


def test_a_node_dies_and_comes_back(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    """Lesson A12: prerun touches no node. First it is silent, then lost, at last it is not ours any more."""
    rig = make_rig(3, options={"SlurmdTimeout": "6"})
    world = Allocation(rig, tmp_path)
    manager = world.manager()
    rig.kill("n2")
    began = time.monotonic()
    manager.prerun()
    assert time.monotonic() - began < 5
    silent = rig.wait_for(lambda: manager.watch_nodes().silent, "not responding", 30)
    assert silent == {"n2": "Slurm state MIXED+NOT_RESPONDING"}
    lost = rig.wait_for(lambda: manager.watch_nodes().lost, "down", 60)
    assert list(lost) == ["n2"]
    rig.revive("n2")
    assert manager.down_nodes() == {"n2": "Slurm has taken it out of the job"}
    assert manager.job_nodes() == world.nodes


def test_a_controller_that_stops_and_starts(world: Allocation) -> None:
    """Without it nothing is known; when it is back no node is condemned for that."""
    manager = world.manager()
    world.cut_off()
    for question in (world.manager().watch_nodes, world.manager().end_time):
        with pytest.raises(CommandError):
            question()
    world.rig.start_service("slurmctld")
    world.rig.wait_for(lambda: answer(manager.down_nodes) is not None, "the controller", 30)
    assert manager.down_nodes() == {}
    assert manager.ending() is None


def test_the_limit_is_moved_and_taken_away(world: Allocation) -> None:
    """Lesson B8."""
    manager = world.manager()
    before = manager.end_time()
    world.update(f"JobId={world.job_id}", f"TimeLimit={2 * MINUTES}")
    assert manager.end_time() == before + 60 * MINUTES
    world.update(f"JobId={world.job_id}", "TimeLimit=UNLIMITED")
    assert manager.end_time() == -1


def test_a_cancelled_job(world: Allocation) -> None:
    manager = world.manager()
    assert manager.ending() is None
    world.rig.run(["scancel", world.job_id], check=True)
    cause, evidence = world.rig.wait_for(lambda: answer(manager.ending), "the end")
    assert cause is Cause.CANCELLED
    assert re.match(rf"Slurm: job {world.job_id} is C\w+", evidence)
    with pytest.raises(NotInAllocationError):
        manager.down_nodes()


def test_a_job_that_the_controller_has_forgotten(rig: Rig) -> None:
    gone = manager(rig, LOGIN, {**rig.environ, "SLURM_JOB_ID": "99999", "SLURM_NODELIST": "n1"})
    for question in (gone.ending, gone.end_time, gone.down_nodes):
        with pytest.raises(NotInAllocationError, match="does not know job 99999"):
            question()


class Batch:
    """A batch script on two nodes that ignores TERM."""

    def __init__(self, rig: Rig, place: Path, options: Sequence[str]) -> None:
        self.rig = rig
        self.place = place
        script = place / "job.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        self.job_id = rig.sbatch(
            script, ["--nodes=2", "--nodelist=n1,n2", "--time=10", *options], cwd=place
        )

    def manager(self, start: int = 0) -> SLURM:
        note = self.place / f"env.{start}"
        environ = self.rig.wait_for(lambda: read_environ(note), f"start {start} of the job", 60)
        return manager(self.rig, "n1", environ)

    def end(self) -> None:
        self.rig.touched = True  # its nodes may be completing for a while
        self.rig.run(["scancel", "--signal=KILL", "--full", self.job_id])
        self.rig.run(["scancel", self.job_id])


@pytest.fixture
def batch(rig: Rig, tmp_path: Path) -> Iterator[Callable[..., Batch]]:
    made = []

    def make(*options: str) -> Batch:
        made.append(Batch(rig, tmp_path, options))
        return made[-1]

    yield make
    for job in made:
        job.end()


def test_a_requeued_batch_job(batch: Callable[..., Batch]) -> None:
    job = batch()
    first = job.manager()
    assert (first.restart_count(), first.pinned_nodes()) == (0, ["n1"])
    job.rig.run(["scontrol", "requeue", job.job_id], check=True)
    cause, evidence = job.rig.wait_for(lambda: answer(first.ending), "the requeue")
    assert cause is Cause.PREEMPTED
    assert "requeued (restart 1)" in evidence
    job.rig.wait_for(
        lambda: "PENDING" in job.rig.run(["squeue", "-h", "-o%T", "-j", job.job_id]).stdout,
        "its waiting",
    )
    job.rig.run(["scontrol", "update", f"JobId={job.job_id}", "StartTime=now"], check=True)
    second = job.manager(1)
    assert (second.job_id(), second.restart_count()) == (job.job_id, 1)
    assert second.ending() is None
    assert second.down_nodes() == {}


def test_a_pre_empted_job_has_a_grace(batch: Callable[..., Batch]) -> None:
    job = batch("--partition=low", "--exclusive")
    manager = job.manager()
    before = manager.end_time()
    urgent = job.rig.sbatch(
        job.place / "job.sh", ["-phigh", "--exclusive", "-wn1", "-t5"], cwd=job.rig.directory
    )
    cause, evidence = job.rig.wait_for(lambda: answer(manager.ending), "the pre-emption")
    assert cause is Cause.PREEMPTED
    assert re.search("is (RUNNING|SIGNALING), pre-empted at", evidence)
    assert manager.end_time() < before
    assert manager.down_nodes() == {}, "the nodes are the job's until the grace is over"
    job.rig.run(["scancel", urgent])


def test_a_node_fails_in_a_job_that_is_not_to_survive_it(batch: Callable[..., Batch]) -> None:
    job = batch("--no-requeue")
    manager = job.manager()
    job.rig.touched = True
    job.rig.run(["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=smoke"], check=True)
    cause, evidence = job.rig.wait_for(lambda: answer(manager.ending), "the end")
    assert cause is Cause.NODE_DOWN
    assert "reason NodeDown" in evidence
