# SPDX-License-Identifier: BSD-3-Clause
"""The steps of a job of Slurm: which there are, whose they are, and ending them.

A step is known by its srun: the controller keeps the host and the process id of the srun that made it,
so that a step is found without its number, also when its srun, or who started that, is gone.

Source: scontrol(1), "show step", and scancel(1); texts of 22.05 on a real cluster.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from scrjob._slurm import tool_environ
from scrjob.errors import OutputParseError, UsageError
from scrjob.hostlist import expand_hosts

if TYPE_CHECKING:
    from scrjob.protocols import Context

NO_STEPS = ("not found", "No job steps in the system")  # of a job that exists

_STEP = re.compile(r"^StepId=(?:[^\s.]+\.)?([^\s.+]+)(?:\+[0-9]+)?\s")
_STEP_ID = re.compile(r"([0-9]+(?:[_+][0-9]+)?)\.([0-9]+)")
_NODES = re.compile(r"\sNodeList=(\S+)")
_SRUN = re.compile(r"\sSrunHost:Pid=(\S*):([0-9]+)\s*\Z")


class ListedStep(NamedTuple):
    """One step, or one part of it, as the controller lists it.

    ``number`` is a decimal number, ``batch``, ``extern`` or the like; ``host`` and ``pid`` those of its
    srun, "" and 0 without one.
    """

    number: str
    nodes: list[str]
    host: str
    pid: int


def build_list(job: str) -> list[str]:
    """Return the call that lists a job's steps, one a line."""
    return ["scontrol", "--oneliner", "show", "step", job]


def parse_list(text: str) -> list[ListedStep]:
    """Return the steps in what ``scontrol`` listed.

    Raises:
        OutputParseError: a line is no step.
    """
    steps = []
    for line in text.splitlines():
        if not line.strip() or line.endswith(NO_STEPS):
            continue
        found, nodes = _STEP.search(line), _NODES.search(line)
        if not found or not nodes:
            raise OutputParseError("scontrol", line, "expected StepId= and NodeList=")
        # The step's name is the user's text, and stands between the nodes and srun's host.
        srun = _SRUN.search(line)
        try:
            names = [] if nodes[1] == "(null)" else expand_hosts(nodes[1])
        except UsageError as error:
            raise OutputParseError("scontrol", line, str(error)) from error
        host, pid = (srun[1], int(srun[2])) if srun else ("", 0)
        steps.append(ListedStep(found[1], names, host, pid))
    return steps


def list_steps(context: Context, job: str, limit_s: float) -> list[ListedStep]:
    """Ask for a job's steps; [] if it has none now.

    Raises:
        CommandError: no answer, or there is no such job.
        OutputParseError: not understood.
    """
    result = context.runner.run(
        build_list(job), timeout_s=limit_s, env=tool_environ(context.environ)
    )
    if result.returncode and not result.stdout.rstrip().endswith(NO_STEPS):
        result.check()
    return parse_list(result.stdout)


def parse_id(text: str) -> tuple[str, str]:
    """Return the job and the number of a step that a user names: ``JOB.STEP``, as squeue shows it.

    Raises:
        UsageError: it is another thing; a job alone, or the script of a batch job, is not ended as a step.
    """
    found = _STEP_ID.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is no step: expected JOBID.STEPID, two numbers as squeue --steps shows them; "
            "scancel JOBID ends a whole job"
        )
    return found[1], found[2]


def build_cancel(step: str, signal_name: str = "") -> list[str]:
    """Return the call that ends a step at once (KILL to all tasks), or sends it another signal."""
    return ["scancel", *([f"--signal={signal_name}"] if signal_name else []), step]
