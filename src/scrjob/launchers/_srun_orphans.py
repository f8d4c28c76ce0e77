# SPDX-License-Identifier: BSD-3-Clause
"""Steps and srun processes that a supervisor which died has left on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Mapping, Sequence

import psutil

if TYPE_CHECKING:
    from scrjob.launchers._slurm_steps import ListedStep


def living(program: str, variables: Mapping[str, str]) -> list[int]:
    """Return the process ids of running ``program`` whose environment has all of ``variables``.

    Processes of other users cannot be looked into, and are none of ours.
    """
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != program:
            continue
        try:
            environ = process.environ()
        except psutil.Error:
            continue
        if all(environ.get(name, "") == value for name, value in variables.items()):
            found.append(process.pid)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs: one that is dead and that nobody has collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def choose(
    steps: Sequence[ListedStep], host: str, record: str, sruns: Collection[int]
) -> list[ListedStep]:
    """Return the steps that a dead supervisor of this job has left.

    Args:
        steps: of the Slurm job.
        host: this host's name as Slurm has it.
        record: ``HOST:PID`` of the srun that it noted, "" if it died before it could.
        sruns: the living sruns of this job here.
    """
    return [
        step
        for step in steps
        if step.number.isdecimal()
        and (
            f"{step.host}:{step.pid}" == record
            or (step.host == host and step.pid in sruns)
            or (not record and step.host == host and not is_alive(step.pid))
        )
    ]
