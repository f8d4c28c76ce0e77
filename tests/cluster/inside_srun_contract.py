# SPDX-License-Identifier: BSD-3-Clause
"""The contract of launchers, run by tests/cluster/test_srun.py inside a real allocation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Sequence

import pytest

from scrjob._context import system_context
from scrjob.hostlist import expand_hosts
from scrjob.launchers.srun import SRUN
from scrjob.testing.contracts import JobLauncherContract

ENVIRON = dict(os.environ)  # before the fixtures of all tests take SLURM_* out of it


class World:
    """The allocation around this process."""

    def __init__(self, place: Path) -> None:
        self.nodes = expand_hosts(ENVIRON["SLURM_JOB_NODELIST"])
        self.scratch = place / "scratch"
        self.scratch.mkdir()

    def launcher(self, **environ: str) -> SRUN:
        launcher = SRUN()
        launcher.bind(system_context({**ENVIRON, **environ}))
        return launcher

    def args(self, program: Sequence[str], *, nodes: int) -> list[str]:
        return ["-N", str(nodes), "-n", str(nodes), *program]

    def node_of(self, record: Any) -> str:
        return str(record["host"])


class TestContract(JobLauncherContract):
    capabilities = frozenset({"signals", "step_nodes", "nodes_wanted"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return World(tmp_path)
