# SPDX-License-Identifier: BSD-3-Clause
"""Programs without SCR under scr_run in an allocation of the rig: what it was told, what it told."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Sequence

from rig import Rig
from rigjob import LIMIT_S, RigJob

# Rank 1 does what its argument says, once all ranks are there; the others wait for it.
MPI_C = """\
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *deed = argc > 1 ? argv[1] : "";
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    signal(SIGSEGV, SIG_DFL); /* Open MPI would print a page about it */
    signal(SIGABRT, SIG_DFL);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1) {
        if (!strcmp(deed, "exit"))
            exit(7);
        if (!strcmp(deed, "segv"))
            raise(SIGSEGV);
        if (!strcmp(deed, "abrt"))
            abort();
        if (!strcmp(deed, "mpiabort"))
            MPI_Abort(MPI_COMM_WORLD, 9);
        if (!strcmp(deed, "kill"))
            raise(SIGKILL);
        if (!strcmp(deed, "memory")) {
            sleep(2);
            for (;;)
                memset(malloc(1 << 20), 1, 1 << 20);
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
"""


def compile_mpi(directory: Path) -> str:
    """Compile the C program; returns its path."""
    source = directory / "deeds.c"
    source.write_text(MPI_C)
    program = directory / "deeds"
    subprocess.run(["mpicc.openmpi", "-o", program, source], check=True, timeout=LIMIT_S)
    return str(program)


class PlainJob(RigJob):
    """One scr_run.

    Args:
        rig: where.
        directory: new, on the shared file system.
        argv: what follows scr_run on its command line.
        settings: of its environment.
    """

    def __init__(self, rig: Rig, directory: Path, argv: Sequence[str], **settings: str) -> None:
        prefix = Path(settings.get("SCR_PREFIX") or directory / "prefix")
        super().__init__(rig, directory, prefix, ["scr_run", *argv], settings)
        if "SCR_PREFIX" not in settings:
            prefix.mkdir()

    def start(self, nodes: int, options: Sequence[str] = ()) -> PlainJob:
        """Start it under salloc; stdout goes where stderr goes."""
        self.under_salloc(nodes, options, self.directory, "err")
        return self

    def submit(self, nodes: int, options: Sequence[str] = (), after: str = "") -> str:
        """Submit it as a batch script, which goes on with ``after``; returns the job's id."""
        script = self.directory / "job.sh"
        words = " ".join(f"'{word}'" for word in self.command)
        lines = [f"export {name}='{value}'" for name, value in self.settings.items()]
        script.write_text(
            "\n".join(
                ["#!/bin/bash", *lines, f"exec {words}", ""]
                if not after
                else ["#!/bin/bash", *lines, words, after, ""]
            )
        )
        return self.rig.sbatch(
            script, [f"--nodes={nodes}", f"--output={self.directory}/err", *options]
        )

    def job_id(self) -> str:
        """Wait until scr_run knows its job; returns the id."""
        return str(self.wait_until(self.state, "the state")["job_id"])

    def step_id(self) -> str:
        """Wait until the program's step is there, which is a shell's; returns its id."""
        self.wait_said("launched on")
        asked = ["squeue", "-h", "-s", "-j", self.job_id(), "-o", "%i %j"]

        def steps() -> list[str]:
            rows = (line.split() for line in self.rig.run(asked).stdout.splitlines())
            return [step for step, name in rows if name == "sh"]

        return str(self.wait_until(steps, "the step")[0])

    def causes(self) -> list[str]:
        """Return the causes of all runs."""
        return [run["cause"] for run in self.runs()]

    def evidence(self, run: int = 0) -> str:
        """Return the evidence about a run, in lines."""
        return "\n".join(self.runs()[run]["evidence"])

    def notes(self) -> list[str]:
        """Return what the log says of the ends of runs."""
        return [record["note"] for record in self.records() if record.get("label") == "RUN_END"]
