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


def gather_stacks(
    jobenv: JobEnvironment,
    jobstep: Any,
    path: str,
    stack_dir: str,
    silent: Sequence[str] = (),
) -> Optional[str]:
    """Write what the step's ranks are doing to ``path`` and return it, None if nothing is known.

    A node that does not answer is asked about from outside where that is possible (virtual nodes).

    Args:
        jobenv: the job; its launcher knows the ranks' processes.
        jobstep: the hung step.
        path: text file to write.
        stack_dir: where armed programs write their stacks when asked (SCR_STACK_DIR).
        silent: only these nodes, of which it is known that they do not answer.
    """
    launcher = jobenv.launcher
    text: dict[str, str] = {}
    try:
        if not silent:
            text = _from_nodes(jobenv, launcher.rank_pids(jobstep), stack_dir)
        outside = launcher.outside_pids(jobstep)
    except ScrError as error:
        logger.warning("no stacks of the hung ranks: %s", error)
        return None
    for node, pids in outside.items():
        if node not in text and (not silent or node in silent):
            text[node] = _from_here(jobenv, node, pids)
    if not text:
        return None
    body = "".join(f"#### node {node}\n{said}\n" for node, said in sorted(text.items()))
    atomic_write(path, body.encode("utf-8", "surrogateescape"))
    return path


def _from_nodes(
    jobenv: JobEnvironment, pids: dict[str, list[int]], stack_dir: str
) -> dict[str, str]:
    text = {}
    # One call per set of pids would be one per node: each node picks its own from all of them.
    words = [f"{node}={','.join(map(str, numbers))}" for node, numbers in pids.items() if numbers]
    if not words:
        return {}
    argv = node_command("stacks", "--dir", stack_dir, *words)
    result = jobenv.rexec.bounded(GATHER_S).rexec(argv, list(pids), jobenv)
    for node in pids:
        if result.rc(node) == 0:
            text[node] = result.stdout(node)
    return text


def _from_here(jobenv: JobEnvironment, node: str, pids: list[int]) -> str:
    from scrjob.node.stacks import describe  # noqa: PLC0415 - rarely needed

    return describe(
        pids,
        runner=jobenv.context.runner,
        clock=jobenv.context.clock,
        stack_dir=None,
        hostname=node,
    )


def stacks_name(directory: str, run: int) -> str:
    """Return where the stacks of run number ``run`` go."""
    return os.path.join(directory, f"stacks.run{run}.txt")
