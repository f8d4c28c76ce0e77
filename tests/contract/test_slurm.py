# SPDX-License-Identifier: BSD-3-Clause
"""Slurm as a resource manager fulfils the contract, on recorded answers of the real tools."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional

import pytest

from scrjob._clock import SystemClock
from scrjob._context import RealContext
from scrjob._process import SubprocessRunner
from scrjob.errors import ScrError
from scrjob.resmgrs.slurm import SLURM
from scrjob.testing import recorded
from scrjob.testing.contracts import ResourceManagerContract
from slurmcases import CASES, RECORDED, TOOLS, VERSION

BROKEN = {
    "hanging": "exec /bin/sleep 1000000",
    "failing": "echo 'slurm_load_node error: Zero Bytes were transmitted' >&2; exit 1",
    "silent": "exit 0",
    "garbage": "echo 'Traceback (most recent call last):'",
}


class RecordedSlurm:
    """Job 1 on n[1-3]; a variable says which of the recorded scenes is on."""

    def __init__(self, place: Path) -> None:
        self.bin = place / "bin"
        directories = [RECORDED / tool / VERSION for tool in TOOLS]
        self._tools = {
            **recorded.install(self.bin, directories),
            "PATH": str(self.bin),  # nothing of a real Slurm on this machine
        }
        self.nodes = ["n1", "n2", "n3"]
        self.job_id = "1"
        self.end_time: Optional[int] = int(CASES["job-healthy"].stdout.split(b"|")[3])
        self.timeout_s = SLURM.timeout_s
        # Plugins that are bound already see what happens: they hold this very mapping.
        self.environ = {
            **self._tools,
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SCENE": "healthy",
        }

    def manager(self) -> SLURM:
        return self._bound(self.environ)

    def outside(self) -> SLURM:
        return self._bound(self._tools)

    def kill(self, node: str) -> None:
        assert node == "n2", "the node that died when this was recorded"
        self.environ["SCENE"] = "dead"

    def cut_off(self) -> None:
        self.environ["SCENE"] = "no-controller"

    def break_tool(self, how: str) -> None:
        self.timeout_s = 1.0
        for tool in TOOLS:
            (self.bin / tool).unlink()
            if how in BROKEN:
                (self.bin / tool).write_text(f"#!/bin/sh\n{BROKEN[how]}\n")
                (self.bin / tool).chmod(0o755)

    def _bound(self, environ: Mapping[str, str]) -> SLURM:
        made = SLURM()
        made.bind(RealContext(environ, SubprocessRunner(), SystemClock(), "login1"))
        made.timeout_s = self.timeout_s
        return made


class TestRecordedSlurm(ResourceManagerContract):
    capabilities = frozenset({"down_nodes", "end_time", "cut_off", "tools"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> RecordedSlurm:
        return RecordedSlurm(tmp_path)


@pytest.mark.parametrize("broken", TOOLS)
@pytest.mark.parametrize("how", [*BROKEN, "missing"])
def test_one_broken_tool_of_the_two_is_enough(tmp_path: Path, broken: str, how: str) -> None:
    """Without the list of the job's nodes nobody knows whether a healthy node is still ours."""
    world = RecordedSlurm(tmp_path)
    (other,) = set(TOOLS) - {broken}
    kept = (world.bin / other).readlink()
    world.break_tool(how)
    (world.bin / other).unlink(missing_ok=True)
    (world.bin / other).symlink_to(kept)
    for question in (world.manager().down_nodes, world.manager().watch_nodes):
        with pytest.raises(ScrError):
            question()
