# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that the resource manager reports as bad."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Sequence

from scrjob._clock import Deadline
from scrjob.errors import NotInAllocationError, ScrError
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

ECHO_S = 5.0
DOUBT_S = 15.0  # a controller that was restarted hears of its nodes within a few seconds
ASK_AGAIN_S = 1.0


class ResMgrDown(NodeTest):
    """Fails what ``ResourceManager.down_nodes`` names.

    Of a node that the manager only has not heard of, it says no more than that: a controller that was
    just restarted knows nothing of healthy nodes. Such a node is failed if it does not answer a ping
    either, or runs no command while the manager goes on missing it.
    """

    name = "resmgr"
    authoritative = True

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return those of ``nodes`` that the manager reports, with its reasons."""
        down = jobenv.resmgr.down_nodes()
        bad = {node: down[node] for node in nodes if node in down}
        if not bad or not jobenv.resmgr.heartbeats:
            return bad
        silent = jobenv.resmgr.watch_nodes().silent
        doubted = [node for node in bad if node in silent]
        cleared = set(doubted) - set(self._confirmed(doubted, jobenv))
        return {node: why for node, why in bad.items() if node not in cleared}

    def _confirmed(self, doubted: list[str], jobenv: JobEnvironment) -> list[str]:
        """Return the nodes against which there is more than the manager's silence."""
        dead = self._no_ping(doubted, jobenv)
        left = [node for node in doubted if node not in dead]
        clock = jobenv.context.clock
        deadline = Deadline(clock, DOUBT_S)
        while left:
            left = self._no_echo(left, jobenv)
            if not left or deadline.passed():
                break
            clock.sleep(ASK_AGAIN_S)
            try:
                silent = jobenv.resmgr.watch_nodes().silent
            except NotInAllocationError:
                raise
            except ScrError as error:  # what it said before of other nodes still holds
                logger.info("the manager could not be asked again: %s", error)
                continue
            left = [node for node in left if node in silent]
        return [*dead, *left]

    def _no_ping(self, nodes: Sequence[str], jobenv: JobEnvironment) -> list[str]:
        from scrjob.nodetests.ping import Ping  # noqa: PLC0415 - only if a node is doubted

        if not nodes or "ping" not in jobenv.resmgr.heartbeats:
            return []
        try:
            return list(Ping().execute(nodes, jobenv))
        except ScrError as error:
            logger.info("nodes of which the manager has not heard cannot be pinged: %s", error)
            return []

    def _no_echo(self, nodes: Sequence[str], jobenv: JobEnvironment) -> list[str]:
        from scrjob.nodetests.echo import Echo  # noqa: PLC0415 - only if a node is doubted

        echo = Echo()
        echo.timeout_s = min(self.timeout_s, ECHO_S)
        try:
            return list(echo.execute(nodes, jobenv))
        except ScrError as error:
            logger.info("nodes of which the manager has not heard cannot be asked: %s", error)
            return list(nodes)
