# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that the user excludes by SCR_EXCLUDE_NODES."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob import hostlist
from scrjob.errors import ConfigError, UsageError
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment


class SCRExcludeNodes(NodeTest):
    """Fails the nodes of ``SCR_EXCLUDE_NODES`` (any node list syntax)."""

    name = "scr_exclude_nodes"
    authoritative = True

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the excluded ones among ``nodes``.

        Raises:
            ConfigError: the list cannot be understood; using a node that it means would be worse.
        """
        excluded = set(excluded_nodes(jobenv))
        return {node: "User excluded via SCR_EXCLUDE_NODES" for node in nodes if node in excluded}


def excluded_nodes(jobenv: JobEnvironment) -> list[str]:
    """Return the nodes that the user names, whether they are of the job or not.

    Raises:
        ConfigError: the list cannot be understood.
    """
    try:
        return list(hostlist.expand_hosts(jobenv.param.get("SCR_EXCLUDE_NODES") or ""))
    except UsageError as error:
        raise ConfigError(f"SCR_EXCLUDE_NODES: {error}") from error
