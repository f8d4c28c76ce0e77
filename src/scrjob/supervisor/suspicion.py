# SPDX-License-Identifier: BSD-3-Clause
"""Which nodes of a run are lost, by what evidence. Pure: it has no clock and asks nobody.

A node is condemned by a word that is sure, by two kinds of evidence, or by one kind twice with some
time between; never by one kind once, for every kind can be wrong about a healthy node
(docs/detection.md).
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Optional, Sequence

from scrjob.model import NodeDown

WINDOW_S = 60.0
"""Older evidence says nothing about now."""


class Kind(enum.Enum):
    """Where evidence comes from."""

    LOST = "resource manager"
    SILENT = "resource manager's silence"
    SAID = "launcher's message"
    PING = "ping"
    ECHO = "remote execution"


class Rule(NamedTuple):
    """What one kind of evidence is worth.

    Attributes:
        sure: it condemns alone.
        again_s: seconds that must lie between two of it that condemn; None: two say no more than one.
        clears: what an answer of this kind proves wrong; () for kinds that are no questions.
    """

    sure: bool = False
    again_s: Optional[float] = None
    clears: tuple[Kind, ...] = ()


RULES = {
    Kind.LOST: Rule(sure=True),
    # A manager repeats what it knows from one look; a program can print a launcher's words.
    Kind.SILENT: Rule(),
    Kind.SAID: Rule(),
    Kind.PING: Rule(again_s=3.0, clears=(Kind.PING,)),
    # As long as a service on a node may take to be started anew.
    Kind.ECHO: Rule(again_s=20.0, clears=(Kind.PING, Kind.ECHO, Kind.SAID, Kind.SILENT)),
}


class Evidence(NamedTuple):
    """Something that speaks against a node: what was seen, in words, and when (monotonic seconds)."""

    node: str
    kind: Kind
    what: str
    when: float


class Suspicion:
    """Collects the evidence about the nodes of one run."""

    def __init__(self) -> None:
        self._found: dict[str, list[Evidence]] = {}

    def add(self, evidence: Evidence) -> None:
        """Take a piece of evidence. Of a kind whose repetition says nothing only the newest is kept."""
        known = self._found.setdefault(evidence.node, [])
        if RULES[evidence.kind].again_s is None:
            known[:] = [old for old in known if old.kind is not evidence.kind]
        known.append(evidence)

    def answered(self, node: str, kind: Kind, when: float) -> None:
        """Drop what an answer proves wrong; ``when`` is the monotonic moment of the question."""
        clears = RULES[kind].clears
        left = [
            old for old in self._found.get(node, ()) if old.kind not in clears or old.when > when
        ]
        self._keep(node, left)

    def withdraw(self, node: str, kind: Kind) -> None:
        """Drop what somebody said and does not say any more."""
        self._keep(node, [old for old in self._found.get(node, ()) if old.kind is not kind])

    def suspects(self, now: float) -> list[str]:
        """Return the nodes against which anything speaks at this moment."""
        return [node for node in list(self._found) if self._fresh(node, now)]

    def condemned(self, now: float, now_unix: float) -> list[NodeDown]:
        """Return the nodes that are lost, with all that speaks against them.

        Args:
            now: monotonic seconds.
            now_unix: the same moment in Unix seconds, for the verdict.
        """
        verdicts = []
        for node in list(self._found):
            evidence = self._fresh(node, now)
            if _is_enough(evidence):
                verdicts.append(_verdict(node, evidence, now, now_unix))
        return verdicts

    def _fresh(self, node: str, now: float) -> list[Evidence]:
        self._keep(node, [old for old in self._found[node] if now - old.when <= WINDOW_S])
        return self._found.get(node, [])

    def _keep(self, node: str, evidence: list[Evidence]) -> None:
        if evidence:
            self._found[node] = evidence
        else:
            self._found.pop(node, None)


def _is_enough(evidence: Sequence[Evidence]) -> bool:
    if len({one.kind for one in evidence}) > 1 or any(RULES[one.kind].sure for one in evidence):
        return True
    again_s = RULES[evidence[0].kind].again_s if evidence else None
    when = [one.when for one in evidence]
    return again_s is not None and max(when) - min(when) >= again_s


def _verdict(node: str, evidence: Sequence[Evidence], now: float, now_unix: float) -> NodeDown:
    sure = [one for one in evidence if RULES[one.kind].sure]
    counted = sorted(sure or evidence, key=lambda one: one.when)
    kinds = dict.fromkeys(one.kind.value for one in counted)
    return NodeDown(
        node,
        reason="; ".join(dict.fromkeys(one.what for one in counted)),
        test=" + ".join(kinds),
        when=now_unix,
        seconds=now - counted[0].when,
        evidence="; ".join(f"{one.what} ({now - one.when:.1f} s before)" for one in counted),
    )
