# SPDX-License-Identifier: BSD-3-Clause
"""Stacks of a hung step's ranks, from every node that answers, into the job's state directory."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Optional, Sequence

from scrjob._fsio import atomic_write
from scrjob.errors import ScrError
from scrjob.node.command import node_command

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

GATHER_S = 15.0
TOTAL_BYTES = 1 << 24  # of the file; each node gets its share ...
NODE_LEAST_BYTES = 1 << 12  # ... but so much
NODE_MOST_BYTES = 1 << 18


def gather_stacks(
    jobenv: JobEnvironment,
    jobstep: Any,
    path: str,
    stack_dir: str,
    silent: Sequence[str] = (),
) -> Optional[str]:
    """Write what the step's ranks are doing to ``path`` and return it, None if nothing is known.

    All nodes are asked at once. One that does not answer is asked about from outside where that is
    possible (virtual nodes); else the file says that it did not answer, for its ranks may be what
    the others wait for.

    Args:
        jobenv: the job; its launcher knows the ranks' processes, or how they are to be found.
        jobstep: the hung step.
        path: text file to write.
        stack_dir: where armed programs write their stacks when asked (SCR_STACK_DIR).
        silent: only these nodes, of which it is known that they do not answer.
    """
    launcher = jobenv.launcher
    text: dict[str, str] = {}
    missing: dict[str, str] = {}
    try:
        if not silent:
            text, missing = _from_nodes(jobenv, jobstep, stack_dir)
        outside = launcher.outside_pids(jobstep)
    except ScrError as error:
        logger.warning("no stacks of the hung ranks: %s", error)
        return None
    for node, pids in outside.items():
        if node not in text and (not silent or node in silent):
            text[node] = _from_here(jobenv, node, pids)
    if not text and not missing:
        return None
    silence = {node: f"no answer: {why}" for node, why in missing.items()}
    parts = [f"#### node {node}\n{said}\n" for node, said in {**silence, **text}.items()]
    atomic_write(path, "".join(parts).encode("utf-8", "surrogateescape"))
    return path


def _from_nodes(
    jobenv: JobEnvironment, jobstep: Any, stack_dir: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return what each node says of its ranks, and of the others why they say nothing."""
    launcher = jobenv.launcher
    pids = launcher.rank_pids(jobstep)
    environ = launcher.rank_environ(jobstep)
    nodes = list(pids)
    if environ:
        nodes = list(launcher.step_nodes(jobstep) or launcher.chosen_nodes(jobstep) or ())
    if not nodes:
        return {}, {}
    words = ["--dir", stack_dir, "--limit", str(_share(len(nodes)))]
    for name, value in environ.items():
        words += ["--env", f"{name}={value}"]
    # One call per set of pids would be one per node: each node picks its own from all of them.
    words += [f"{node}={','.join(map(str, numbers))}" for node, numbers in pids.items() if numbers]
    result = jobenv.rexec.bounded(GATHER_S).rexec(node_command("stacks", *words), nodes, jobenv)
    text, missing = {}, {}
    for node in nodes:
        if result.rc(node) == 0:
            text[node] = result.stdout(node)
        else:
            said = result.stderr(node).strip()
            missing[node] = result.failure(node) or said or f"exit code {result.rc(node)}"
    return text, missing


def _share(nodes: int) -> int:
    return max(NODE_LEAST_BYTES, min(NODE_MOST_BYTES, TOTAL_BYTES // nodes))


def _from_here(jobenv: JobEnvironment, node: str, pids: list[int]) -> str:
    from scrjob.node.stacks import describe, ranks_of  # noqa: PLC0415 - rarely needed

    return describe(
        ranks_of({}, pids),
        runner=jobenv.context.runner,
        clock=jobenv.context.clock,
        stack_dir=None,
        hostname=node,
    )


def stacks_name(directory: str, run: int) -> str:
    """Return where the stacks of run number ``run`` go."""
    return os.path.join(directory, f"stacks.run{run}.txt")
