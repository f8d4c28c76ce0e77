# SPDX-License-Identifier: BSD-3-Clause
"""Every built-in node test fulfils the contract; ping does so on recorded answers of the real tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import pytest

from scrjob._context import system_context
from scrjob.errors import NotSupportedError, RemoteExecError
from scrjob.nodetests.dir_capacity import DirCapacity
from scrjob.nodetests.echo import Echo
from scrjob.nodetests.ping import Ping
from scrjob.nodetests.resmgr import ResMgrDown
from scrjob.nodetests.scr_exclude_nodes import SCRExcludeNodes
from scrjob.remoteexec import RemoteExecResult
from scrjob.testing import recorded
from scrjob.testing.contracts import NodeTestContract
from scrjob.testing.fakes import FakeJobEnv, FakeParam, FakeRemoteExec, NodeAnswer

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
NODES = ["node1", "node2", "node3"]


class World:
    """Nodes of which some are sick."""

    def __init__(self) -> None:
        self.nodes = list(NODES)
        self.sick: set[str] = set()
        self.broken = False
        self.jobenv: Any = FakeJobEnv()

    def make_sick(self, node: str) -> None:
        self.sick.add(node)

    def break_test(self) -> None:
        self.broken = True


class PingWorld(World):
    """Recorded fping and ping; which nodes are silent is part of each recording."""

    def __init__(self, tmp_path: Path, tools: Sequence[str]) -> None:
        super().__init__()
        self.bin = tmp_path / "bin"
        directories = [version for tool in tools for version in (RECORDED / tool).iterdir()]
        self.environ = {**recorded.install(self.bin, directories), "PATH": str(self.bin)}
        self._expose()

    def _expose(self) -> None:
        down = ",".join(node for node in NODES if node in self.sick)
        self.jobenv = FakeJobEnv(context=system_context({**self.environ, "DOWN": down}))

    def make_sick(self, node: str) -> None:
        super().make_sick(node)
        self._expose()

    def break_test(self) -> None:
        for tool in self.bin.iterdir():
            tool.unlink()

    def test(self) -> Ping:
        return Ping()


class TestFping(NodeTestContract):
    capabilities = frozenset({"breaks"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> PingWorld:
        return PingWorld(tmp_path, ["fping"])


class TestPingWithoutFping(NodeTestContract):
    capabilities = frozenset({"breaks"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> PingWorld:
        return PingWorld(tmp_path, ["ping"])


@pytest.mark.parametrize("tool", ["fping", "ping"])
def test_a_name_that_does_not_resolve_is_no_answer(tool: str, tmp_path: Path) -> None:
    world = PingWorld(tmp_path, [tool])
    assert list(Ping().execute(["node1", "no-such-node", "node3"], world.jobenv)) == [
        "no-such-node"
    ]


def test_without_any_tool_ping_says_so(tmp_path: Path) -> None:
    world = PingWorld(tmp_path, [])
    with pytest.raises(NotSupportedError, match="fping or ping is needed"):
        Ping().execute(NODES, world.jobenv)


def test_all_nodes_are_asked_by_one_call(tmp_path: Path) -> None:
    """Lesson A23: not one node after the other."""
    world = PingWorld(tmp_path, ["fping", "ping"])
    Ping().execute(NODES, world.jobenv)
    assert [call[0] for call in recorded.calls(world.bin)] == ["fping"]


class RemoteWorld(World):
    """Nodes reached by remote execution; a sick one answers as ``sick_answer`` says."""

    kind: Any = Echo
    healthy = NodeAnswer(0, "scrjob-node-answers\n")
    sick_answer = NodeAnswer(None, failure="no answer within 2 s")

    def __init__(self) -> None:
        super().__init__()
        self.jobenv = FakeJobEnv(
            param=FakeParam(), rexec=FakeRemoteExec(RemoteExecResult, self._answer)
        )

    def _answer(self, node: str, argv: Sequence[str]) -> Any:
        if self.broken:
            return RemoteExecError("cannot run", {node: "no server"})
        return self.sick_answer if node in self.sick else self.healthy

    def test(self) -> Any:
        return self.kind()


class SilentEcho(RemoteWorld):
    pass


class OddEcho(RemoteWorld):
    sick_answer = NodeAnswer(0, "welcome to node2\n")


class FailingEcho(RemoteWorld):
    sick_answer = NodeAnswer(127, "", "echo: not found\n")


class FullDirectory(RemoteWorld):
    kind = DirCapacity
    healthy = NodeAnswer(0, "PASS\n")
    sick_answer = NodeAnswer(1, "FAIL: /dev/shm: 5 bytes free, 10 needed\n")


class SilentDirectory(FullDirectory):
    sick_answer = NodeAnswer(None)


class CrashedCheck(FullDirectory):
    sick_answer = NodeAnswer(1, "", "Traceback ...\nImportError: no module named scrjob\n")


class WordlessCheck(FullDirectory):
    sick_answer = NodeAnswer(139)


@pytest.mark.parametrize(
    "world_class",
    [SilentEcho, OddEcho, FailingEcho, FullDirectory, SilentDirectory, CrashedCheck, WordlessCheck],
)
class TestThroughRemoteExecution(NodeTestContract):
    capabilities = frozenset({"breaks"})

    @pytest.fixture
    def world(self, world_class: Any) -> World:
        world: World = world_class()
        return world


class ManagerWorld(World):
    """The resource manager names the sick ones."""

    heartbeats = ()

    def __init__(self) -> None:
        super().__init__()
        self.jobenv = FakeJobEnv(resmgr=self)

    def down_nodes(self) -> dict[str, str]:
        if self.broken:
            raise RemoteExecError("no manager", {})
        return {"elsewhere": "drained", **dict.fromkeys(sorted(self.sick), "drained")}

    def test(self) -> ResMgrDown:
        return ResMgrDown()


class TestResMgrDown(NodeTestContract):
    capabilities = frozenset({"breaks"})

    @pytest.fixture
    def world(self) -> ManagerWorld:
        return ManagerWorld()


class ExclusionWorld(World):
    """The user names the sick ones."""

    def make_sick(self, node: str) -> None:
        super().make_sick(node)
        self.jobenv = FakeJobEnv(param=FakeParam({"SCR_EXCLUDE_NODES": ",".join(self.sick)}))

    def test(self) -> SCRExcludeNodes:
        return SCRExcludeNodes()


class TestSCRExcludeNodes(NodeTestContract):
    @pytest.fixture
    def world(self) -> ExclusionWorld:
        return ExclusionWorld()


@pytest.mark.parametrize(
    ("world_class", "expected"),
    [
        (SilentEcho, "Failed to echo: no answer within 2 s"),
        (OddEcho, "Failed to echo: another answer than asked for"),
        (FailingEcho, "Failed to echo: exit code 127"),
        (FullDirectory, "/dev/shm: 5 bytes free, 10 needed"),
        (SilentDirectory, "Failed to check directories: no answer"),
        (CrashedCheck, "ImportError: no module named scrjob"),
        (WordlessCheck, "Failed to check directories: exit code 139"),
    ],
)
def test_the_reason_tells_what_was_seen(world_class: Any, expected: str) -> None:
    world = world_class()
    world.make_sick("node2")
    assert world.test().execute(NODES, world.jobenv) == {"node2": expected}


def test_configured_sizes_reach_the_check() -> None:
    """Lesson A17: a size crashed the test, and cache directories were not checked without it."""
    world = FullDirectory()
    world.jobenv.param = FakeParam(
        {}, {"CACHEDIR": {"/cache": {"BYTES": {"100": {}}}, "/ssd": {"BYTES": {"7": {}}}}}
    )
    world.test().execute(NODES, world.jobenv)
    ((argv, nodes),) = world.jobenv.rexec.calls
    assert argv[argv.index("--cache") + 1] == "/cache:100,/ssd:7"
    assert argv[argv.index("--cntl") + 1] == "/control"
    assert nodes == NODES
