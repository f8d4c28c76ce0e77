# SPDX-License-Identifier: BSD-3-Clause
"""Worlds of the imaginary site of examples/plugin, for the contract suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from scrjob._context import SystemContext
from scrjob.testing import system_context
from scrjob.testing.fakes import FakeJobEnv
from scrjob_example.launcher import SiteLauncher
from scrjob_example.nodetest import SiteHealth
from scrjob_example.remoteexec import SiteExec
from scrjob_example.resmgr import SiteManager

TOOLS = Path(__file__).resolve().parents[2] / "examples" / "plugin" / "bin"
NODES = ["n08", "r1n2", "a-b.c"]
END = 4_000_000_000
BROKEN = {
    "missing": None,
    "hanging": "exec sleep 1000000",
    "failing": "echo 'sitectl: no server' >&2; exit 1",
    "silent": "exit 0",
    "garbage": "echo 'Traceback (most recent call last):'",
}


class SiteWorld:
    """The state directory of the site, changed behind the plugins' backs."""

    manager_class: type[SiteManager] = SiteManager
    launcher_class: type[SiteLauncher] = SiteLauncher
    rexec_class: type[SiteExec] = SiteExec
    test_class: type[SiteHealth] = SiteHealth

    def __init__(self, tmp_path: Path) -> None:
        self.nodes = list(NODES)
        self.job_id = "77"
        self.end_time: Optional[int] = END
        self.state = tmp_path / "state"
        self.scratch = tmp_path / "scratch"
        self.tools = tmp_path / "bin"
        for directory in (self.state, self.scratch, self.tools):
            directory.mkdir()
        for tool in TOOLS.iterdir():
            (self.tools / tool.name).symlink_to(tool)
        self.down: set[str] = set()
        self._write_nodes()
        (self.state / "end").write_text(f"{END}\n")
        self.environ: Mapping[str, str] = {"SITE_JOB": "77", **self._paths()}
        self.jobenv: Any = FakeJobEnv(rexec=self.rexec(), context=self.context())

    def _paths(self) -> dict[str, str]:
        return {"SITE_STATE": str(self.state), "PATH": f"{self.tools}:/usr/bin:/bin"}

    def _write_nodes(self) -> None:
        rows = [f"{n}|{'down|no heartbeat' if n in self.down else 'up|'}\n" for n in self.nodes]
        (self.state / "nodes").write_text("".join(rows))

    def context(self, **environ: str) -> SystemContext:
        return system_context({**self.environ, **environ})

    def nowhere(self) -> SystemContext:
        return system_context(self._paths())

    def _bound(self, plugin: Any, context: SystemContext) -> Any:
        plugin.bind(context)
        return plugin

    # resource manager
    def manager(self) -> Any:
        return self._bound(self.manager_class(), self.context())

    def outside(self) -> Any:
        return self._bound(self.manager_class(), self.nowhere())

    def kill(self, node: str) -> None:
        self.down.add(node)
        self._write_nodes()

    def cut_off(self) -> None:
        self.break_tool("failing")

    def break_tool(self, how: str) -> None:
        tool = self.tools / "sitectl"
        tool.unlink()
        script = BROKEN[how]
        if script is not None:
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)

    # launcher
    def launcher(self, **environ: str) -> Any:
        return self._bound(self.launcher_class(), self.context(**environ))

    def args(self, program: Sequence[str], *, nodes: int) -> list[str]:
        return ["-N", str(nodes), *program]

    def node_of(self, record: Any) -> str:
        return str(record["environ"]["SITE_NODE"])

    # remote execution
    def rexec(self) -> Any:
        return self._bound(self.rexec_class(), self.context())

    def whereabouts(self) -> list[str]:
        return ["sh", "-c", 'echo "$SITE_NODE"']

    # node test
    def test(self) -> Any:
        test = self._bound(self.test_class(), self.context())
        test.timeout_s = 2.0
        return test

    def make_sick(self, node: str) -> None:
        (self.state / f"sick.{node}").write_text("GPU 3 has fallen off the bus\n")
