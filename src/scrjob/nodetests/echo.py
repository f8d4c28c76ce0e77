# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that do not run a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

WORD = "scrjob-node-answers"


class Echo(NodeTest):
    """Fails nodes on which ``echo`` through remote execution does not give back its word in time."""

    name = "echo"

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the nodes that gave no, or another, answer."""
        result = jobenv.rexec.bounded(self.timeout_s).rexec(["echo", WORD], nodes, jobenv)
        failed = {}
        for node in nodes:
            code = result.rc(node)
            if code is None:
                failed[node] = f"Failed to echo: {result.failure(node)}"
            elif code != 0:
                failed[node] = f"Failed to echo: exit code {code}"
            elif WORD not in result.stdout(node):
                failed[node] = "Failed to echo: another answer than asked for"
        return failed
