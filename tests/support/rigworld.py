# SPDX-License-Identifier: BSD-3-Clause
"""An allocation of the rig as a plugin of this process sees it: every tool runs on the login host."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Mapping, Sequence

from rig import LOGIN, Rig
from rig._base import ENTER_ALL
from scrjob._context import SystemContext
from scrjob.testing import system_context
from scrjob.testing.fakes import FakeJobEnv, FakeParam

TOOLS = ("srun", "scontrol", "sinfo", "squeue", "scancel", "ssh", "pdsh")


class RigWorld:
    """A held allocation, and a directory of tools that go to the login host first.

    Args:
        rig: where.
        place: an empty directory.
        count: nodes of the allocation.
        options: more options of salloc.
    """

    kind: type[Any]  # of the back end that rexec() makes

    def __init__(self, rig: Rig, place: Path, count: int, options: Sequence[str] = ()) -> None:
        self.rig = rig
        said = place / "job"
        script = ["sh", "-c", 'echo "$SLURM_JOB_ID" > "$0"; exec sleep 600', str(said)]
        self.held = rig.salloc_start(count, script, options)
        job = rig.wait_for(lambda: said.exists() and said.read_text().strip(), "the allocation")
        self.job_id = str(job)
        self.nodes = [f"n{number}" for number in range(1, count + 1)]
        tools = place / "bin"
        tools.mkdir()
        enter = shlex.join(["nsenter", f"--target={rig.init_of(LOGIN)}", *ENTER_ALL])
        for name in TOOLS:
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\nexec {enter} {name} "$@"\n', "ascii")
            tool.chmod(0o755)
        self.environ: Mapping[str, str] = {
            **rig.environ,
            "PATH": f"{tools}:/usr/bin:/bin",
            "SLURM_JOB_ID": self.job_id,
        }
        self.jobenv: Any = FakeJobEnv(param=FakeParam(), context=self.context())

    def context(self, **environ: str) -> SystemContext:
        return system_context({**self.environ, **environ})

    def rexec(self) -> Any:
        plugin = self.kind()
        plugin.bind(self.context())
        return plugin

    def nowhere(self) -> SystemContext:
        return system_context({"PATH": "/nowhere"})

    def whereabouts(self) -> list[str]:
        return ["uname", "-n"]

    def kill(self, node: str) -> None:
        self.rig.kill(node)

    def steps(self) -> list[str]:
        """Return the ids of the allocation's steps but that of salloc itself."""
        listed = self.rig.run(["squeue", "-h", "-s", "-j", self.job_id, "-o", "%i"], check=True)
        return [name for name in listed.stdout.split() if name.rpartition(".")[2].isdecimal()]
