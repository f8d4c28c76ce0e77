# SPDX-License-Identifier: BSD-3-Clause
"""Calls of srun for steps of ours, and what srun and its tasks say: texts only."""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Sequence

from scrjob._slurm import fits, fold_nodes, tool_environ
from scrjob.errors import CommandError, CommandTimeoutError
from scrjob.remoteexec import _wrapper

STEP_NAME = "scrjob-exec"

KEPT = (
    *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_WORKING_CLUSTER"),
    *("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JWT"),
)
"""Variables of Slurm that srun needs; all others are options of the user's own steps."""

LAUNCHING = "srun: launching "
ERROR = "srun: error: "
CONTROLLER = "slurm controller"  # cannot be contacted
NODE_FAULTS = (
    "Requested node configuration is not available",  # seen: down, or none of the allocation (any more)
    "Required node not available",
    "Requested nodes are busy",
    "Invalid node name specified",
)


def build_srun(nodes: Sequence[str], argv: Sequence[str], limit_s: float) -> list[str]:
    """Return the srun call that runs ``argv`` once on each of ``nodes``, without shell or user's options.

    Source: srun(1) 22.05; ``--overlap`` came with 20.11.
    """
    count = len(nodes)
    return [
        "srun",
        "--verbose",  # tells when the step is made
        f"--job-name={STEP_NAME}",
        f"--nodes={count}",
        f"--ntasks={count}",
        "--ntasks-per-node=1",
        f"--nodelist={fold_nodes(nodes)}",
        f"--immediate={_wrapper.whole_seconds(limit_s / 2)}",
        "--overlap",
        "--mem=0",
        "--gres=none",
        "--mpi=none",
        "--cpu-bind=none",
        "--input=none",
        "--label",
        "--no-kill",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--export=ALL",
        *_wrapper.node_argv(argv, limit_s),
    ]


def in_arguments(nodes: Sequence[str]) -> list[Sequence[str]]:
    """Return the nodes in groups, as few as their lists need to fit into one argument each."""
    if len(nodes) < 2 or fits(fold_nodes(nodes)):  # noqa: PLR2004 - one node cannot be divided
        return [nodes] if nodes else []
    half = len(nodes) // 2
    return [*in_arguments(nodes[:half]), *in_arguments(nodes[half:])]


def step_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for srun: what names the allocation, and no options of the user's steps."""
    return {
        name: value
        for name, value in tool_environ(environ).items()
        if name in KEPT or not name.startswith(("SLURM_", "SRUN_"))
    }


def parse_answers(out: Iterable[str], err: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Return the lines of stdout and stderr of each node on which the command began.

    A task's lines begin with its number; where it runs it says itself.
    """
    outs, errs = _by_task(out), _by_task(err)
    answers = {}
    for task, lines in outs.items():
        node = _wrapper.begun_on(lines)
        if node:
            answers[node] = (lines, errs.get(task, []))
    return answers


def _by_task(lines: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        label, colon, rest = line.partition(": ")
        if colon and label.strip().isdecimal():
            found.setdefault(label.strip(), []).append(rest)
    return found


def parse_errors(err: Iterable[str]) -> list[str]:
    """Return srun's own errors."""
    return [line[len(ERROR) :] for line in err if line.startswith(ERROR)]


def error_about(node: str, errors: Sequence[str]) -> str:
    """Return the error that names ``node``, else the first, "" without any."""
    for error in errors:
        if f"node {node}:" in error or error.startswith(f"{node}:"):
            return error
    return errors[0] if errors else ""


def no_step(ended: Optional[int], errors: Sequence[str], limit_s: float) -> Optional[CommandError]:
    """Return why Slurm made no step, None if it refused one of the nodes."""
    said = "\n".join(errors)
    if ended is None:
        why = f"Slurm made no step within {round(limit_s, 1):g} s"
        return CommandTimeoutError(["srun"], stderr=said, seconds=limit_s, why=why)
    if any(words in said for words in NODE_FAULTS):
        return None
    return CommandError(["srun"], returncode=ended, stderr=said)
