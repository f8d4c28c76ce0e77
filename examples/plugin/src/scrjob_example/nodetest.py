# SPDX-License-Identifier: BSD-3-Clause
"""The site's health check: a node writes what is wrong with it into a file of its own."""

from __future__ import annotations

from typing import Sequence

from scrjob.nodetests import NodeTest
from scrjob.protocols import JobEnvironment

QUESTION = 'cat "$SITE_STATE/sick.$SITE_NODE" 2>/dev/null || true'


class SiteHealth(NodeTest):
    """Fails nodes that complain or do not answer."""

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Ask every node for its complaint."""
        rexec = jobenv.rexec.bounded(self.timeout_s)
        result = rexec.rexec(["sh", "-c", QUESTION], nodes, jobenv)
        failed = {}
        for node in nodes:
            complaint = result.failure(node) or result.stdout(node).strip()
            if complaint:
                failed[node] = complaint.splitlines()[0]
        return failed
