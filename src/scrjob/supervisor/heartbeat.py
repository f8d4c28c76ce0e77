# SPDX-License-Identifier: BSD-3-Clause
"""Asks the nodes of a running step whether they are alive, beside the loop that watches the step.

Pings go to all used nodes at short intervals, a command by remote execution at long ones: the kernel
of a node answers pings also when all its processes are stopped. A node that misses a ping is
doubted: it is asked at once by both, with more patience, and what it does not answer then is evidence. An
answer clears it. docs/detection.md tells the rules and how long each way takes.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Callable, Iterable, NamedTuple, Optional, Sequence

from scrjob.errors import NotSupportedError, ScrError
from scrjob.nodetests.echo import Echo
from scrjob.nodetests.ping import Patience
from scrjob.supervisor.errand import Errand
from scrjob.supervisor.pings import Answers, Pings
from scrjob.supervisor.suspicion import RULES, Evidence, Kind, Suspicion

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

QUICK = Patience(tries=1, gap_ms=100, wait_ms=500)
DOUBT_TRIES = 5
DOUBT_GAP_MS = 150
PINGS_A_SECOND = 2000  # on average, for the sake of this host; more nodes are asked less often
DEAF_ROUNDS = 3  # a node that has not answered one of so many pings never will: ICMP is filtered
MOST_FAILURES = 3  # of a tool in a row, until it is left alone ...
REST_S = 300.0  # ... for so long: a controller or this host may have trouble for some minutes
CONTROLS = (
    3  # nodes that are asked with the doubted ones, to know that their answers could be heard
)
ALONE_S = 5.0  # a doubted node that has answered is not doubted again before
ECHO_S = 8.0  # for a command by remote execution on few nodes ...
ECHO_NODE_S = 0.005  # ... and for each of many, side by side
ECHOES_A_SECOND = 100  # on average; more nodes run the command less often
MANY = 16  # so many nodes, and half of all, are not lost at once, but a command comes late to many
LATE_S = 1.0  # that remote execution may take beyond its deadline before it is not waited for
NETWORK_LIMIT_S = 60.0  # for which silence all around is taken for a fault of our own network


class Pace(NamedTuple):
    """How often nodes are asked, in seconds, 0 for never; and what a doubted node gets to answer."""

    ping_s: float
    echo_s: float
    patience_s: float


class _Asked(NamedTuple):
    """One question to some nodes: when, for how long, and whose answers show that it reached them."""

    began: float
    limit_s: float
    nodes: Sequence[str]
    controls: Sequence[str]


class _Doubt:
    """Nodes that are asked in both ways at once."""

    def __init__(self, asked: _Asked, *, by_command: bool) -> None:
        self.asked = asked
        self.pings: Optional[Answers] = None
        self.failed: Optional[dict[str, str]] = None
        self.waits_for_pings = True
        self.waits_for_commands = by_command


class Heartbeat:
    """Watches the nodes of one job's runs.

    Args:
        jobenv: the job; its resource manager says which questions make sense.
        pace: how often; None: never.
        say: tells the user one line.
    """

    def __init__(
        self, jobenv: JobEnvironment, pace: Optional[Pace], say: Callable[[str], None]
    ) -> None:
        kinds = jobenv.resmgr.heartbeats if pace else ()
        self._jobenv = jobenv
        self._pace = pace or Pace(0.0, 0.0, 0.0)
        self._say = say
        self._clock = jobenv.context.clock
        self._own = _short(jobenv.context.hostname)
        self._ways: set[Kind] = set()  # that make sense here and are not missing
        if "ping" in kinds and self._pace.ping_s > 0:
            self._ways.add(Kind.PING)
        if "echo" in kinds and self._pace.echo_s > 0:
            self._ways.add(Kind.ECHO)
        self._pings = Pings(jobenv)
        runner = jobenv.context.runner
        self._round: Errand[tuple[_Asked, Answers]] = Errand(runner, "heartbeat: pings")
        self._echo: Errand[tuple[_Asked, dict[str, str]]] = Errand(runner, "heartbeat: command")
        self._doubt_pings: Errand[Answers] = Errand(runner, "doubted nodes: pings")
        self._doubt_echo: Errand[dict[str, str]] = Errand(runner, "doubted nodes: command")
        self._failures = {Kind.PING: 0, Kind.ECHO: 0}
        self._rest_until = {Kind.PING: 0.0, Kind.ECHO: 0.0}
        self._heard: set[str] = set()  # have ever answered a ping
        self._silent_since: Optional[float] = None
        self.begin(Suspicion(), ())

    def begin(self, suspicion: Suspicion, nodes: Sequence[str]) -> None:
        """Watch a new step.

        Args:
            suspicion: gets the evidence.
            nodes: all that are healthy; those that the step does not use are asked as controls.
        """
        self._suspicion = suspicion
        self._nodes = list(nodes)
        self._began = self._next_round = self._clock.monotonic()
        self._next_echo = self._began + self._pace.echo_s
        self._up: dict[str, None] = {}  # have answered the last pings
        self._to_doubt: dict[str, None] = {}
        self._to_echo: dict[str, float] = {}  # when to ask a node by a command, beside the regular
        self._alone: dict[str, float] = {}  # until when a node is not doubted
        self._deaf: dict[str, int] = {}  # pings that were not answered, of nodes that never did
        self._doubt: Optional[_Doubt] = None
        self._pings.forget_failures()

    def tend(self, used: Callable[[], Sequence[str]]) -> None:
        """Take the answers that are there and ask what is due; returns at once.

        Args:
            used: the nodes on which the step runs; only they are judged.
        """
        if Kind.PING in self._ways:
            self._take_round(used)
            self._take_doubt()
        if self._can_ask(Kind.PING):
            if not self._round.is_out and self._clock.monotonic() >= self._next_round:
                self._ask_round(used())
            if self._doubt is None and self._to_doubt:
                self._ask_doubted()
        if Kind.ECHO in self._ways:
            self._take_echo(used)
        if self._can_ask(Kind.ECHO) and not self._echo.is_out:
            self._ask_echo(used)

    def confirm(self, nodes: Sequence[str]) -> None:
        """Ask nodes at once of which somebody says that they are lost."""
        for node in nodes:
            if self._can_ask(Kind.PING) and node in self._heard:
                self._to_doubt[node] = None
            else:
                self._to_echo[node] = self._clock.monotonic()

    def settle(self, limit_s: float) -> None:
        """Wait for questions that are still out, at most so many seconds for each."""
        for errand in (self._round, self._echo, self._doubt_pings, self._doubt_echo):
            errand.settle(limit_s)

    # -- pings to all ---------------------------------------------------------------------------

    def _ask_round(self, used: Sequence[str]) -> None:
        nodes = [
            node for node in [*used, *self._spares(used)] if self._deaf.get(node, 0) < DEAF_ROUNDS
        ]
        if not nodes:
            self._next_round = float("inf")
            return
        now = self._clock.monotonic()
        self._next_round = now + max(self._pace.ping_s, len(nodes) / PINGS_A_SECOND)
        asked = _Asked(now, 0.0, nodes, ())
        self._round.ask(lambda: (asked, self._pings.ask(nodes, QUICK)))

    def _take_round(self, used: Callable[[], Sequence[str]]) -> None:
        try:
            found = self._round.answer()
        except (ScrError, OSError) as error:
            self._failed(Kind.PING, error)
            return
        if found is None:
            return
        asked, answers = found
        self._failures[Kind.PING] = 0
        self._heard |= answers.answered
        if any(_short(node) != self._own for node in answers.answered):
            self._silent_since = None
        self._up = dict.fromkeys(node for node in asked.nodes if node in answers.answered)
        for node in answers.answered:
            self._suspicion.answered(node, Kind.PING, asked.began)
        missed = [node for node in asked.nodes if node in answers.silent]
        judged = set(used()) if missed else set()
        for node in missed:
            if node not in self._heard:
                self._deaf[node] = self._deaf.get(node, 0) + 1
            elif node in judged and self._alone.get(node, 0.0) <= asked.began:
                self._to_doubt[node] = None

    # -- doubted nodes ----------------------------------------------------------------------------

    def _ask_doubted(self) -> None:
        nodes, self._to_doubt = list(self._to_doubt), {}
        wait_s = self._pace.patience_s
        asked = _Asked(self._clock.monotonic(), wait_s, nodes, self._controls(nodes, self._up))
        everybody = [*nodes, *asked.controls]
        wait_ms = max(DOUBT_GAP_MS, int(1000 * wait_s) - (DOUBT_TRIES - 1) * DOUBT_GAP_MS)
        patience = Patience(DOUBT_TRIES, DOUBT_GAP_MS, wait_ms)
        by_command = self._can_ask(Kind.ECHO)
        self._doubt = _Doubt(asked, by_command=by_command)
        self._doubt_pings.ask(lambda: self._pings.ask(everybody, patience))
        if by_command:
            self._doubt_echo.ask(lambda: self._run_echo(everybody, wait_s))

    def _take_doubt(self) -> None:
        doubt = self._doubt
        if doubt is None:
            return
        if doubt.waits_for_pings:
            try:
                doubt.pings = self._doubt_pings.answer()
            except (ScrError, OSError) as error:
                self._failed(Kind.PING, error)
            doubt.waits_for_pings = self._doubt_pings.is_out
        if doubt.waits_for_commands:
            try:
                doubt.failed = self._doubt_echo.answer()
            except (ScrError, OSError) as error:
                self._failed(Kind.ECHO, error)
            late = self._clock.monotonic() > doubt.asked.began + doubt.asked.limit_s + LATE_S
            doubt.waits_for_commands = self._doubt_echo.is_out and not late
        if not doubt.waits_for_pings and not doubt.waits_for_commands:
            self._doubt = None
            self._weigh(doubt)

    def _weigh(self, doubt: _Doubt) -> None:
        asked, failed = doubt.asked, doubt.failed
        pings = doubt.pings or Answers(set(), set())
        ran = (
            set()
            if failed is None
            else {n for n in [*asked.nodes, *asked.controls] if n not in failed}
        )
        silent = [node for node in asked.nodes if node in pings.silent and node not in ran]
        heard = not silent or self._could_hear(pings.answered & set(asked.controls))
        now = self._clock.monotonic()
        for node in asked.nodes:
            if node in ran:
                self._suspicion.answered(node, Kind.ECHO, asked.began)
                self._alone[node] = now + ALONE_S
            elif node in pings.answered:
                self._suspicion.answered(node, Kind.PING, asked.began)
                self._alone[node] = now + ALONE_S
                self._to_echo.setdefault(
                    node, now
                )  # it may be slow: with the patience of the regular
            elif node in silent and heard:
                what = f"no answer to {DOUBT_TRIES} pings within {asked.limit_s:g} s"
                self._suspicion.add(Evidence(node, Kind.PING, what, now))
                if failed and ran & set(asked.controls):
                    self._suspicion.add(Evidence(node, Kind.ECHO, failed[node], now))

    def _could_hear(self, answered: set[str]) -> bool:
        """Tell whether silence counts: somebody else answered, or all are silent for long."""
        now = self._clock.monotonic()
        if answered:
            return True
        if self._silent_since is None:
            self._silent_since = now
            self._say(
                "no node but this host answers pings: that may be this host's network, nobody is "
                f"taken for dead because of it for {NETWORK_LIMIT_S:g} s"
            )
        return now - self._silent_since >= NETWORK_LIMIT_S

    # -- commands by remote execution -------------------------------------------------------------

    def _ask_echo(self, used: Callable[[], Sequence[str]]) -> None:
        now = self._clock.monotonic()
        if now >= self._next_echo:
            nodes = list(used())
            self._next_echo = now + max(self._pace.echo_s, len(nodes) / ECHOES_A_SECOND)
        else:
            nodes = [node for node, when in self._to_echo.items() if when <= now]
        if not nodes:
            return
        for node in nodes:
            self._to_echo.pop(node, None)
        controls = self._controls(nodes, [*self._up, *self._spares(nodes)])
        everybody = [*nodes, *controls]
        limit_s = ECHO_S + float(int(ECHO_NODE_S * len(everybody)))
        asked = _Asked(now, limit_s, nodes, controls)
        self._echo.ask(lambda: (asked, self._run_echo(everybody, limit_s)))

    def _take_echo(self, used: Callable[[], Sequence[str]]) -> None:
        try:
            found = self._echo.answer()
        except (ScrError, OSError) as error:
            self._failed(Kind.ECHO, error)
            return
        if found is None or found[0].began < self._began:
            return
        asked, failed = found
        self._failures[Kind.ECHO] = 0
        for node in [*asked.nodes, *asked.controls]:
            if node not in failed:
                self._suspicion.answered(node, Kind.ECHO, asked.began)
        if not failed:
            return
        judged = set(used())
        others = [node for node in [*asked.nodes, *asked.controls] if _short(node) != self._own]
        most = max(MANY, len(judged) // 2)
        if len(failed) > most or all(node in failed for node in others):
            why = next(iter(failed.values()))
            count = len(failed)
            logger.warning(
                "remote execution is broken, or late: %d nodes ran no command: %s", count, why
            )
            return
        now = self._clock.monotonic()
        for node in asked.nodes:
            if node in failed and node in judged:
                self._suspicion.add(Evidence(node, Kind.ECHO, failed[node], now))
                self._to_echo[node] = now + (RULES[Kind.ECHO].again_s or 0.0)

    def _run_echo(self, nodes: Sequence[str], limit_s: float) -> dict[str, str]:
        test = Echo()
        test.timeout_s = limit_s
        return test.execute(nodes, self._jobenv)

    # -- helpers ------------------------------------------------------------------------------------

    def _controls(self, asked: Sequence[str], others: Iterable[str]) -> list[str]:
        """Return some of ``others`` to ask beside ``asked``: none of those, and not this host."""
        taken = set(asked)
        fit = (n for n in dict.fromkeys(others) if n not in taken and _short(n) != self._own)
        return list(itertools.islice(fit, CONTROLS))

    def _spares(self, used: Sequence[str]) -> list[str]:
        taken = set(used)
        return [node for node in self._nodes if node not in taken][:CONTROLS]

    def _can_ask(self, kind: Kind) -> bool:
        return kind in self._ways and self._clock.monotonic() >= self._rest_until[kind]

    def _failed(self, kind: Kind, error: Exception) -> None:
        """Note that a tool could not be used: that says nothing about any node."""
        if isinstance(error, NotSupportedError):
            self._ways.discard(kind)
            logger.warning("no heartbeat by %s any more: %s", kind.value, error)
            return
        self._failures[kind] += 1
        logger.info("heartbeat by %s: %s", kind.value, error)
        if self._failures[kind] >= MOST_FAILURES:
            self._rest_until[kind] = self._clock.monotonic() + REST_S
        if self._failures[kind] == MOST_FAILURES:
            rest = f"again every {REST_S:g} s until it works"
            logger.warning("no heartbeat by %s now, %s: %s", kind.value, rest, error)


def _short(name: str) -> str:
    return name.partition(".")[0]
