# SPDX-License-Identifier: BSD-3-Clause
"""Should no further run be started? Halt conditions, then nodes left against nodes needed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.errors import ConfigError, NotInAllocationError

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)


def min_nodes(jobenv: JobEnvironment) -> Optional[int]:
    """Return SCR_MIN_NODES, None if unset.

    Raises:
        ConfigError: it is no number above 0.
    """
    text = jobenv.param.get("SCR_MIN_NODES")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"SCR_MIN_NODES={text!r}: expected a number of nodes above 0")
    return int(text)


def nodes_needed(jobenv: JobEnvironment, nodelist: Sequence[str]) -> int:
    """Return how many nodes a run needs: SCR_MIN_NODES, else those of the last run, else all."""
    return min_nodes(jobenv) or jobenv.runnode_count() or len(nodelist)


def nodes_remaining(nodelist: Sequence[str], down_nodes: Sequence[str]) -> int:
    """Return how many of ``nodelist`` are not down."""
    return len(set(nodelist) - set(down_nodes))


def exit_reason(
    jobenv: JobEnvironment,
    down_nodes: Optional[Sequence[str]] = None,
    needed: Optional[int] = None,
) -> Optional[str]:
    """Return why no further run should be started, None if one should.

    Args:
        jobenv: the job.
        down_nodes: nodes that cannot be used.
        needed: nodes that a run needs; default ``nodes_needed``.

    Raises:
        NotInAllocationError: no nodes are known.
    """
    halt = halt_reason(jobenv)
    if halt:
        return halt
    nodelist = jobenv.job_nodes()
    if not nodelist:
        raise NotInAllocationError(
            "the nodes of the job are not known: run inside an allocation, or set SCR_NODELIST"
        )
    remaining = nodes_remaining(nodelist, down_nodes or ())
    wanted = needed if needed is not None else nodes_needed(jobenv, nodelist)
    if remaining < wanted:
        return f"nodes_remaining={remaining} < nodes_needed={wanted}"
    return None


def halt_reason(jobenv: JobEnvironment) -> Optional[str]:
    """Return the halt condition that holds, None if there is none."""
    from scrjob.cli import SCRRetriesHalt  # noqa: PLC0415 - keeps the module light

    found = SCRRetriesHalt(jobenv.dir_prefix(), context=jobenv.context).check()
    return f"Halt condition detected: {found}" if found else None


def should_exit(
    jobenv: JobEnvironment,
    down_nodes: Optional[Sequence[str]] = None,
    min_nodes: Optional[int] = None,
    verbose: bool = False,
) -> bool:
    """Return True if no further run should be started.

    Raises:
        NotInAllocationError: no nodes are known (a RuntimeError).
    """
    reason = exit_reason(jobenv, down_nodes, min_nodes)
    if reason and verbose:
        logger.info("%s", reason)
    return reason is not None
