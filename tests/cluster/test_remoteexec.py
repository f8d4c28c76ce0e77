# SPDX-License-Identifier: BSD-3-Clause
"""Commands on the nodes of a real Slurm allocation: by steps, and by real ssh in three ways."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from rig import LOGIN, Rig, Running
from rigworld import RigWorld
from scrjob.errors import CommandError
from scrjob.remoteexec.clustershell import ClusterShell
from scrjob.remoteexec.pdsh import Pdsh
from scrjob.remoteexec.srun import Srun
from scrjob.remoteexec.ssh import Ssh
from scrjob.testing.contracts import RemoteExecContract
from worlds import require

OPTIONS = {
    "MessageTimeout": "3",  # how long srun waits for a dead node; 10 otherwise
    "SelectTypeParameters": "CR_CORE_MEMORY",
}


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    require("cluster")
    with contextlib.closing(Holder(tmp_path_factory)) as holder:
        yield holder


class Holder:
    """Holds one allocation for many tests, and gets another one after a fault."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._world: Optional[RigWorld] = None

    def world(self) -> RigWorld:
        if self._world is not None and self._world.rig.touched:
            self.close()
        if self._world is None:
            shared = [self._factory.getbasetemp()]
            rig = Rig(self._factory.mktemp("rig"), 4, shared=shared, options=OPTIONS)
            rig.up()
            self._world = RigWorld(rig, self._factory.mktemp("world"), 4, ["-n8"])
        return self._world

    def close(self) -> None:
        if self._world is not None:
            self._world.rig.down()
        self._world = None


class OnTheRig(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})
    kind: type[Any]

    @pytest.fixture
    def world(self, holder: Holder) -> RigWorld:
        world = holder.world()
        world.kind = self.kind
        return world


class TestSrun(OnTheRig):
    kind = Srun


class TestClusterShell(OnTheRig):
    kind = ClusterShell


class TestPdsh(OnTheRig):
    kind = Pdsh


class TestSsh(OnTheRig):
    kind = Ssh


@pytest.fixture
def steps(holder: Holder) -> RigWorld:
    """The allocation, whose nodes are asked by steps."""
    world = holder.world()
    world.kind = Srun
    return world


def codes(result: Any) -> dict[str, Optional[int]]:
    return {node: result.rc(node) for node in result.nodes()}


def busy(world: RigWorld, *command: str) -> Running:
    """Start a step that has all CPUs and all memory of all nodes for itself."""
    environ = {"SLURM_JOB_ID": world.job_id, "OMPI_MCA_btl_tcp_if_include": "10.77.0.0/16"}
    argv = ["srun", "--exclusive", "--mem=0", "--no-kill", "-N4", "--ntasks-per-node=2", *command]
    step = world.rig.start(LOGIN, argv, environ=environ)
    world.rig.wait_for(world.steps, "the busy step")
    return step


def test_much_that_cannot_be_made_smaller_comes_whole_from_all_nodes(steps: RigWorld) -> None:
    """slurmstepd hands on lines in pieces of its own."""
    code = (
        "import hashlib, os, sys; data = os.urandom(5_000_000); sys.stdout.buffer.write(data);"
        "sys.stderr.write(hashlib.sha256(data).hexdigest())"
    )
    result = steps.rexec().rexec([sys.executable, "-c", code], steps.nodes, steps.jobenv)
    for node in steps.nodes:
        data = result.stdout(node).encode("utf-8", "surrogateescape")
        assert (result.rc(node), result.stderr(node)) == (0, hashlib.sha256(data).hexdigest())


def test_neither_a_full_node_nor_a_dead_one_holds_up_the_others(steps: RigWorld) -> None:
    """Lesson B3: without ssh, beside a step that uses everything, while a node is dead."""
    program = busy(steps, "sleep", "100")
    (busy_step,) = steps.steps()
    everywhere = dict.fromkeys(steps.nodes, 0)
    assert codes(steps.rexec().rexec(["true"], steps.nodes, steps.jobenv)) == everywhere
    steps.kill("n3")
    quick = steps.rexec().bounded(2.0).rexec(["true"], steps.nodes, steps.jobenv)
    assert codes(quick) == {**everywhere, "n3": None}
    assert quick.failure("n3") == "no answer within 2 s"
    # Slurm gives up n3 in the midst of this command, and would end the others' with it.
    command = ["sh", "-c", "sleep 7; echo done"]
    long = steps.rexec().bounded(20.0).rexec(command, steps.nodes, steps.jobenv)
    assert codes(long) == {**everywhere, "n3": None}
    assert [long.stdout(node) for node in ("n1", "n2", "n4")] == ["done\n"] * 3
    steps.rig.wait_for(lambda: steps.steps() == [busy_step], "the end of our steps")
    program.end()


def test_a_node_that_slurm_calls_down_costs_the_others_nothing(steps: RigWorld) -> None:
    steps.rig.touched = True
    update = ["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test"]
    steps.rig.run(update, check=True)
    result = steps.rexec().bounded(5.0).rexec(["true"], steps.nodes, steps.jobenv)
    assert codes(result) == {"n1": 0, "n2": None, "n3": 0, "n4": 0}
    assert "Requested node configuration is not available" in (result.failure("n2") or "")


def test_without_its_controller_slurm_says_nothing_about_any_node(steps: RigWorld) -> None:
    """Lesson A12: and says so in time."""
    steps.rig.touched = True
    steps.rig.stop_service("slurmctld")
    with pytest.raises(CommandError, match=r"Unable to contact slurm controller|made no step"):
        steps.rexec().bounded(2.0).rexec(["true"], steps.nodes, steps.jobenv)


def test_calls_from_several_threads_leave_an_mpi_step_alone(steps: RigWorld) -> None:
    code = (
        "import time; from mpi4py import MPI; end = time.monotonic() + 4\n"
        "while MPI.COMM_WORLD.allreduce(time.monotonic() < end, MPI.LAND): pass\n"
        "print('whole', MPI.COMM_WORLD.size)"
    )
    step = busy(steps, "--mpi=pmix", "python", "-m", "mpi4py", "-c", code)
    rexec = steps.rexec().bounded(3.0)

    def ask(_: int) -> Any:
        return rexec.rexec(["true"], steps.nodes, steps.jobenv)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, range(12)))
    assert [codes(answer) for answer in answers] == [dict.fromkeys(steps.nodes, 0)] * 12
    out, err = step.output()
    assert (step.wait(), sorted(out.splitlines())) == (0, ["whole 8"] * 8), err


def test_prerun_finds_a_way_that_works_and_tells_it(holder: Holder, tmp_path: Path) -> None:
    """Lesson A2: one that does not reach the nodes is refused, not taken for healthy nodes."""
    world = holder.world()
    environ = {
        "SCR_PREFIX": str(tmp_path),
        "SCR_DEBUG": "1",
        "SLURM_JOB_ID": world.job_id,
        "SLURM_JOB_NODELIST": "n[1-4]",
    }
    here = tmp_path / "here"
    here.write_text('#!/bin/sh\nexec sh -c "$2"\n', "ascii")
    here.chmod(0o755)
    forced = {"SCR_REMOTE_EXEC": "pdsh", "SCR_SSH": str(here)}
    refused = world.rig.run(["scr_prerun"], environ={**environ, **forced})
    assert (refused.returncode, refused.stdout) == (78, ""), refused.stderr
    assert "pdsh: n1, n2, n3 all answer as host 'login'" in refused.stderr
    done = world.rig.run(["scr_prerun"], environ=environ)
    assert done.returncode == 0, done.stderr
    assert "commands on nodes go through srun: 4 of 4 nodes answered" in done.stderr
    (memory,) = tmp_path.glob(".scr/scrjob.*/remote_exec")
    assert memory.read_text() == "srun\n"
