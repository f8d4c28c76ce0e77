# SPDX-License-Identifier: BSD-3-Clause
"""Which nodes of the allocation must not be used, by whose word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Union

from scrjob.errors import NotInAllocationError

if TYPE_CHECKING:
    from scrjob.model import NodeDown
    from scrjob.protocols import JobEnvironment


def examine_nodes(
    jobenv: JobEnvironment,
    nodes: Optional[Sequence[str]] = None,
    nodes_down: Optional[Sequence[str]] = None,
    free: bool = False,
) -> dict[str, NodeDown]:
    """Return the verdict on each node that must not be used.

    Args:
        jobenv: the job; its ``nodetests`` decide.
        nodes: which to test; default all nodes of the job.
        nodes_down: known as down, not tested again.
        free: tests of capacity look at the free space, not at the size of the file system.

    Raises:
        NotInAllocationError: no nodes are known.
    """
    nodes = list(nodes or jobenv.job_nodes())
    if not nodes:
        raise NotInAllocationError(
            "the nodes of the job are not known: run inside an allocation, or set SCR_NODELIST"
        )
    for test in jobenv.nodetests.tests:
        if hasattr(test, "free"):
            test.free = free
    verdicts: dict[str, NodeDown] = jobenv.nodetests.examine(nodes, jobenv, nodes_down)
    return verdicts


def list_down_nodes(
    jobenv: JobEnvironment,
    nodes: Optional[Sequence[str]] = None,
    nodes_down: Optional[Sequence[str]] = None,
    free: bool = False,
    reason: bool = False,
    log: Any = None,
    secs: Optional[float] = None,
) -> Union[list[str], dict[str, str]]:
    """Return the nodes that must not be used.

    Args:
        jobenv: the job.
        nodes: which to test; default all nodes of the job.
        nodes_down: known as down.
        free: see ``examine_nodes``.
        reason: return {node: reason} instead of a sorted list.
        log: an SCRLog for NODE_FAIL records, one for each node.
        secs: seconds since the run began, for those records.

    Raises:
        NotInAllocationError: no nodes are known (a RuntimeError).
    """
    verdicts = examine_nodes(jobenv, nodes, nodes_down, free)
    if log is not None:
        for verdict in verdicts.values():
            log.event("NODE_FAIL", note=f"{verdict.node}: {verdict.reason}", secs=secs)
    if reason:
        return {node: verdict.reason for node, verdict in verdicts.items()}
    return sorted(verdicts)
