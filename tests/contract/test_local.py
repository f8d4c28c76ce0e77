# SPDX-License-Identifier: BSD-3-Clause
"""The plugins of the embedded allocation fulfil the contracts, on real virtual nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

import pytest

from scrjob._context import SystemContext, system_context
from scrjob.launchers.local import LocalLauncher
from scrjob.nodetests.echo import Echo
from scrjob.remoteexec.local import LocalRemoteExec
from scrjob.resmgrs.local import LocalResourceManager
from scrjob.testing.contracts import (
    JobLauncherContract,
    NodeTestContract,
    RemoteExecContract,
    ResourceManagerContract,
)
from scrjob.testing.fakes import FakeJobEnv
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("namespaces")]

NAMES = ["n08", "r1n2", "a-b.c"]
MINUTES = 30


class World:
    """An allocation, seen from the command that it runs."""

    def __init__(self, held: HeldAllocation, end_time: Optional[int], place: Path) -> None:
        self.held = held
        self.nodes = list(held.nodes)
        self.job_id = held.job_id
        self.end_time = end_time
        self.scratch = place
        self.environ: Mapping[str, str] = held.environ
        self.mpi = "auto"
        self.jobenv: Any = FakeJobEnv(rexec=self.rexec(), context=self.context())

    def context(self, **environ: str) -> SystemContext:
        return system_context({**self.environ, **environ})

    def nowhere(self) -> SystemContext:
        return system_context({"PATH": "/usr/bin:/bin"})

    def manager(self) -> LocalResourceManager:
        return _bound(LocalResourceManager(), self.context())

    def outside(self) -> LocalResourceManager:
        return _bound(LocalResourceManager(), self.nowhere())

    def kill(self, node: str) -> None:
        """Kill the node's init and tell nobody."""
        pid = self.held.node(node).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def cut_off(self) -> None:
        """Look at another allocation, which has ended."""
        with allocation(1) as other:
            self.environ = other.environ

    def launcher(self, **environ: str) -> LocalLauncher:
        return _bound(LocalLauncher(), self.context(**environ))

    def args(self, program: Sequence[str], *, nodes: int) -> list[str]:
        return ["-N", str(nodes), "-n", str(nodes), f"--mpi={self.mpi}", *program]

    def node_of(self, record: Any) -> str:
        return str(record["host"])

    def rexec(self) -> LocalRemoteExec:
        return _bound(LocalRemoteExec(), self.context())

    def whereabouts(self) -> list[str]:
        return ["uname", "-n"]

    def test(self) -> Echo:
        test = _bound(Echo(), self.context())
        test.timeout_s = 2.0
        return test

    def make_sick(self, node: str) -> None:
        self.kill(node)


def _bound(plugin: Any, context: SystemContext) -> Any:
    plugin.bind(context)
    return plugin


@pytest.fixture(scope="module")
def held(
    tmp_path_factory: pytest.TempPathFactory, namespaces: None
) -> Iterator[tuple[HeldAllocation, int]]:
    end = int(time.time()) + 60 * MINUTES
    place = tmp_path_factory.getbasetemp()
    with allocation(NAMES, share=[place], cwd=place, options=["-t", str(MINUTES)]) as here:
        yield here, end


@pytest.fixture
def world(held: tuple[HeldAllocation, int], tmp_path: Path) -> Iterator[World]:
    here, end = held
    yield World(here, end, tmp_path)
    for node in here.nodes:
        here.revive(node)


class TestLocalResourceManager(ResourceManagerContract):
    capabilities = frozenset({"down_nodes", "end_time", "cut_off"})


class TestLocalLauncherWithMpi(JobLauncherContract):
    capabilities = frozenset({"signals", "step_nodes", "nodes_wanted"})


class TestLocalLauncherWithoutMpi(JobLauncherContract):
    capabilities = frozenset({"signals", "step_nodes", "nodes_wanted"})

    @pytest.fixture(autouse=True)
    def without_mpi(self, world: World) -> None:
        world.mpi = "none"


class TestLocalRemoteExec(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})


class TestEchoOnVirtualNodes(NodeTestContract):
    pass


def test_an_allocation_without_a_limit_has_no_end(tmp_path: Path) -> None:
    with allocation(1, cwd=tmp_path) as here:
        manager = _bound(LocalResourceManager(), system_context(here.environ))
        assert manager.end_time() == -1


def test_a_stopped_node_is_down_with_a_reason(world: World) -> None:
    victim = world.nodes[0]
    world.held.hang(victim)
    with contextlib.suppress(AssertionError):
        world.held.wait_state(victim, "silent")
    assert set(world.manager().down_nodes()) == {victim}
