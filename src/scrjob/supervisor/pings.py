# SPDX-License-Identifier: BSD-3-Clause
"""Pings to the nodes of a run, at addresses that are looked up once.

A ping of ten thousand nodes takes a second, to look up their names may take ten: the pings that are
sent every second go to addresses.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import CommandTimeoutError
from scrjob.nodetests.ping import SIDE_BY_SIDE, Patience, unanswered

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

LOOK_UP_S = 20.0  # for all names together; a dead name server costs several seconds a name
TOOL_S = 5.0  # for fping beside the time that its requests take
REQUESTS_A_SECOND = 1000  # that fping sends at least, see nodetests.ping

_LOOK_UP = """\
import concurrent.futures, socket, sys
def look_up(name):
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError:
        return
    sys.stdout.write(name + " " + found[0][4][0] + "\\n")
    sys.stdout.flush()
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(look_up, sys.stdin.read().split()))
"""


def build_look_up() -> list[str]:
    """Return the call that reads names and prints ``NAME ADDRESS`` for each that has one.

    A process of its own, for nothing ends a look-up in this one before its time.
    """
    return [sys.executable, "-I", "-S", "-c", _LOOK_UP]


def parse_look_up(text: str) -> dict[str, str]:
    """Return the addresses by name. Pure."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}  # noqa: PLR2004 - name, address


class Answers(NamedTuple):
    """Which nodes answered pings and which did not; one without a known address is in neither."""

    answered: set[str]
    silent: set[str]


class Pings:
    """Sends pings for one job.

    Args:
        jobenv: the job.
    """

    def __init__(self, jobenv: JobEnvironment) -> None:
        self._jobenv = jobenv
        # Replaced, never changed: rounds and doubts ask from threads, the next run forgets meanwhile.
        self._addresses: dict[str, Optional[str]] = {}

    def ask(self, nodes: Sequence[str], patience: Patience) -> Answers:
        """Return who answers. Takes as long as ``patience`` says if somebody does not.

        Raises:
            NotSupportedError: neither fping nor ping is installed.
            ScrError: a tool fails.
        """
        addresses = self._look_up(nodes)
        known = {node: address for node in nodes if (address := addresses[node]) is not None}
        targets = list(dict.fromkeys(known.values()))
        seconds = (patience.tries * patience.gap_ms + patience.wait_ms) / 1000
        seconds += patience.tries * len(targets) / REQUESTS_A_SECOND
        silent = unanswered(targets, self._jobenv, patience, TOOL_S + seconds, SIDE_BY_SIDE)
        down = {node for node, address in known.items() if address in silent}
        return Answers(set(known) - down, down)

    def forget_failures(self) -> None:
        """Look up anew what could not be found, the next time that it is needed."""
        self._addresses = {node: address for node, address in self._addresses.items() if address}

    def _look_up(self, nodes: Sequence[str]) -> Mapping[str, Optional[str]]:
        """Return the addresses of at least these nodes, None for one that has none."""
        known = self._addresses
        names = [node for node in nodes if node not in known]
        if not names:
            return known
        runner = self._jobenv.context.runner
        try:
            said = runner.run(
                build_look_up(),
                timeout_s=LOOK_UP_S,
                env=self._jobenv.context.environ,
                stdin="\n".join(names).encode("utf-8", "surrogateescape"),
            ).stdout
        except CommandTimeoutError as error:
            said = error.stdout
        found = parse_look_up(said)
        missing = [name for name in names if name not in found]
        if missing:
            logger.info("no address is known of %d nodes, e.g. %s", len(missing), missing[0])
        new = {name: found.get(name) for name in names}
        self._addresses = {**self._addresses, **new}
        return {**known, **new}
