# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that the resource manager reports as bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment


class ResMgrDown(NodeTest):
    """Fails what ``ResourceManager.down_nodes`` names."""

    name = "resmgr"
    authoritative = True

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return those of ``nodes`` that the manager reports, with its reasons."""
        down = jobenv.resmgr.down_nodes()
        return {node: down[node] for node in nodes if node in down}
