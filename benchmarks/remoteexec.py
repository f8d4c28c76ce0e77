# SPDX-License-Identifier: BSD-3-Clause
"""One command on 1,000 nodes over ssh, by each back end, and the tools beneath them alone.

The nodes do not exist: SCR_SSH names a program that answers at once what a node would, so what is measured
is this side's work: starting 1,000 processes, reading and understanding what they say.
"""

from __future__ import annotations

import gzip
import statistics
import subprocess
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Callable

from scrjob._context import system_context
from scrjob.remoteexec._wrapper import BEGIN, END
from scrjob.remoteexec.clustershell import ClusterShell
from scrjob.remoteexec.pdsh import Pdsh
from scrjob.remoteexec.ssh import Ssh
from scrjob.testing.fakes import FakeJobEnv, FakeParam

NODES = [f"node{number:04d}" for number in range(1000)]


def stand_in(directory: Path) -> Path:
    """Make the program: both streams of a command that said nothing and ended with 0."""
    nothing = b64encode(gzip.compress(b"")).decode()
    said = f"{BEGIN}\\n{nothing}\\n{END}:0;\\n"
    program = directory / "reach"
    program.write_text(f"#!/bin/sh\nprintf '{said}'\nprintf '{said}' >&2\n", "ascii")
    program.chmod(0o755)
    return program


def ask(kind: Callable[[], Any], setting: str) -> None:
    """Ask all nodes by one of our back ends; all must answer."""
    context = system_context()
    jobenv = FakeJobEnv(context=context, param=FakeParam({"SCR_SSH": setting}))
    result = kind().rexec(["true"], NODES, jobenv)
    silent = [node for node in NODES if result.rc(node) != 0]
    if silent:
        raise RuntimeError(f"{len(silent)} nodes do not answer: {result.failure(silent[0])}")


def bare_pdsh(program: str) -> None:
    """Let pdsh start the program 1,000 times, and be heard by nobody."""
    argv = ["pdsh", "-R", "exec", "-f", "128", "-w", ",".join(NODES), program]
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def bare_clustershell(program: str) -> None:
    """Let ClusterShell start the program 1,000 times."""
    from ClusterShell.NodeSet import NodeSet
    from ClusterShell.Task import task_self

    task = task_self()
    task.set_info("fanout", 128)
    task.set_info("ssh_path", program)
    task.shell("true", nodes=NodeSet.fromlist(NODES), stderr=True)
    task.resume()
    task.abort(kill=True)


def bare_processes(program: str) -> None:
    """Start the program 1,000 times, one after another."""
    for _ in NODES:
        subprocess.run([program], capture_output=True, check=True)


def measure(repeat: int) -> dict[str, float]:
    """Return the median seconds of each way; they take turns, so that all meet the same load."""
    with tempfile.TemporaryDirectory(prefix="scrjob-bench-") as directory:
        program = str(stand_in(Path(directory)))
        ways: dict[str, Callable[[], None]] = {
            "ssh": lambda: ask(Ssh, program),
            "pdsh": lambda: ask(Pdsh, program),
            "clustershell": lambda: ask(ClusterShell, program),
            "pdsh alone": lambda: bare_pdsh(program),
            "ClusterShell alone": lambda: bare_clustershell(program),
            "processes, one by one": lambda: bare_processes(program),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeat):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}
