# SPDX-License-Identifier: BSD-3-Clause
"""Nodes whose network does not answer: one fping for all, or many pings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob.errors import CommandNotFoundError, NotSupportedError, OutputParseError
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

SIDE_BY_SIDE = 64
SPREAD_MS = 1000  # over which the requests to all nodes are spread, so that no queue overflows
CLOSEST_MS, WIDEST_MS = 0.1, 1.0  # between two requests
FPING_ALL_UP, FPING_SOME_DOWN, FPING_UNKNOWN_NAME = 0, 1, 2  # fping(8), "diagnostics"


class Patience(NamedTuple):
    """How a node is asked: ``tries`` requests, ``gap_ms`` apart, each given ``wait_ms`` to be answered."""

    tries: int
    gap_ms: int
    wait_ms: int


TEST = Patience(2, 300, 1000)


def build_fping(nodes: Sequence[str], patience: Patience) -> list[str]:
    """Return the fping call that tells on stderr when each node has answered each request.

    Source: fping(8) 5.1. In counting mode an answer that takes longer than the gap still counts, and
    the call ends as soon as all have answered. Fractions of a millisecond need version 5; older ones
    take them for 0.
    """
    apart = min(WIDEST_MS, max(CLOSEST_MS, SPREAD_MS / max(1, len(nodes))))
    tries, gap, wait = map(str, patience)
    return ["fping", "-q", "-C", tries, "-p", gap, "-t", wait, "-i", f"{apart:g}", "--", *nodes]


def parse_fping(text: str, nodes: Sequence[str], returncode: int) -> set[str]:
    """Return the nodes that answered no request, and those whose name does not resolve. Pure.

    Raises:
        OutputParseError: nothing is said about a node, though all names resolve.
    """
    silent: dict[str, bool] = {}
    for line in text.splitlines():  # "node1 : 0.052 -"
        name, found, times = line.rpartition(" : ")
        if found:
            silent[name.strip()] = set(times.split()) <= {"-"}
    untold = [node for node in nodes if node not in silent]
    if untold and returncode != FPING_UNKNOWN_NAME:
        raise OutputParseError("fping", text, f"nothing is said about {untold[0]}")
    return {node for node in nodes if silent.get(node, True)}


def build_ping(node: str, patience: Patience) -> list[str]:
    """Return the call that asks one node; ping sends once a second and waits for whole seconds."""
    wait_s = -(-patience.wait_ms // 1000)
    return ["ping", "-n", "-c", str(patience.tries), "-W", str(wait_s), "--", node]


def unanswered(
    nodes: Sequence[str],
    jobenv: JobEnvironment,
    patience: Patience,
    timeout_s: float,
    most_pings: Optional[int] = None,
) -> set[str]:
    """Return those of ``nodes``, names or addresses, that do not answer an ICMP echo request.

    Args:
        nodes: all asked at once; a name that does not resolve is no answer.
        jobenv: the job; fping, or ping, must be on its PATH.
        patience: how they are asked.
        timeout_s: how long the tools themselves may take.
        most_pings: how many calls of ping may do what fping does in one; None: any number.

    Raises:
        NotSupportedError: neither fping nor ping is installed, or ping does not do.
        ScrError: the tool hangs or fails.
    """
    if not nodes:
        return set()
    environ = jobenv.context.environ
    argv = build_fping(nodes, patience)
    try:
        answer = jobenv.context.runner.run(argv, timeout_s=timeout_s, env=environ)
    except CommandNotFoundError:
        if most_pings is not None and len(nodes) > most_pings:
            why = f"to ping {len(nodes)} nodes all the time fping is needed on this host"
            raise NotSupportedError(why) from None
        return _ping_each(nodes, jobenv, patience, timeout_s)
    if answer.returncode not in (FPING_ALL_UP, FPING_SOME_DOWN, FPING_UNKNOWN_NAME):
        answer.check()
    return parse_fping(answer.stderr, nodes, answer.returncode)


def _ping_each(
    nodes: Sequence[str], jobenv: JobEnvironment, patience: Patience, timeout_s: float
) -> set[str]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only without fping

    def answers(node: str) -> bool:
        argv = build_ping(node, patience)
        result = jobenv.context.runner.run(argv, timeout_s=timeout_s, env=jobenv.context.environ)
        return result.returncode == 0

    try:
        with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(nodes))) as pool:
            alive = list(pool.map(answers, nodes))
    except CommandNotFoundError as error:
        raise NotSupportedError("to ping nodes fping or ping is needed on this host") from error
    return {node for node, up in zip(nodes, alive) if not up}


class Ping(NodeTest):
    """Fails nodes that do not answer an ICMP echo request within a second."""

    name = "ping"

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the nodes without an answer.

        Raises:
            ScrError: see ``unanswered``.
        """
        silent = unanswered(nodes, jobenv, TEST, self.timeout_s)
        return {node: "Failed to ping" for node in nodes if node in silent}
