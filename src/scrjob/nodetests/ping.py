# SPDX-License-Identifier: BSD-3-Clause
"""Nodes whose network does not answer: one fping for all, or many pings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.errors import CommandNotFoundError, NotSupportedError
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

ANSWER_S = 2  # a node that answers later is taken for dead; ping knows whole seconds only
SIDE_BY_SIDE = 64
FPING_ALL_UP, FPING_SOME_DOWN, FPING_UNKNOWN_NAME = 0, 1, 2  # fping(8), "diagnostics"


def build_fping(nodes: Sequence[str]) -> list[str]:
    """Return the fping call that prints the names of the unreachable ones."""
    return ["fping", "-u", "-r", "1", "-t", str(500 * ANSWER_S), "-i", "1", "--", *nodes]


def build_ping(node: str) -> list[str]:
    """Return the call that asks one node once."""
    return ["ping", "-n", "-c", "1", "-W", str(ANSWER_S), "--", node]


class Ping(NodeTest):
    """Fails nodes that do not answer an ICMP echo request within two seconds."""

    name = "ping"

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the nodes without an answer.

        Raises:
            NotSupportedError: neither fping nor ping is installed.
            CommandTimeoutError: the tool itself hangs.
        """
        if not nodes:
            return {}
        runner = jobenv.context.runner
        try:
            answer = runner.run(
                build_fping(nodes), timeout_s=self.timeout_s, env=jobenv.context.environ
            )
        except CommandNotFoundError:
            return self._ping_each(nodes, jobenv)
        if answer.returncode not in (FPING_ALL_UP, FPING_SOME_DOWN, FPING_UNKNOWN_NAME):
            answer.check()
        # An unknown name is told on stderr as "NAME: Name or service not known".
        silent = set(answer.stdout.split())
        silent.update(line.partition(":")[0].strip() for line in answer.stderr.splitlines())
        return {node: "Failed to ping" for node in nodes if node in silent}

    def _ping_each(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only without fping

        def answers(node: str) -> bool:
            result = jobenv.context.runner.run(
                build_ping(node), timeout_s=self.timeout_s, env=jobenv.context.environ
            )
            return result.returncode == 0

        try:
            with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(nodes))) as pool:
                alive = list(pool.map(answers, nodes))
        except CommandNotFoundError as error:
            raise NotSupportedError("the test ping needs fping or ping on this host") from error
        return {node: "Failed to ping" for node, up in zip(nodes, alive) if not up}
