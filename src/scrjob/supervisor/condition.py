# SPDX-License-Identifier: BSD-3-Clause
"""Did the nodes run out of memory during a run? Counters after it against counters from before.

The first reading of a node is taken in the background while the program starts; a run never waits for it.
Without one nothing is known: counters alone tell only what has happened since the node was started.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Iterable, NamedTuple, Optional, Sequence

from scrjob.errors import ScrError
from scrjob.hostlist import compress_hosts
from scrjob.node.command import node_command
from scrjob.node.condition import WHOLE_NODE
from scrjob.supervisor.errand import Errand

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

BEFORE_S = 10.0  # for the readings that nobody waits for
AFTER_S = 3.0  # for those that a relaunch waits for
LINES_EACH = 3  # of one kind that are kept as evidence
SCARCE = 0.01  # free share of a file system that is worth a line


class Reading(NamedTuple):
    """What ``scrjob.node.condition`` said: kills by source, kernel lines by number, (free, size) by place."""

    kills: dict[str, int]
    kernel: dict[int, str]
    free: dict[str, tuple[int, int]]


class Change(NamedTuple):
    """What has changed on a node, in lines: kills in our groups, other kills, the kernel's words, room."""

    kills: list[str]
    elsewhere: list[str]
    kernel: list[str]
    scarce: list[str]


def parse_condition(text: str) -> Reading:
    """Return what the node-side program printed; lines of newer versions are passed over. Pure."""
    reading = Reading({}, {}, {})
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        number, _, about = rest.partition(" ")
        if not (number.isascii() and number.isdigit()):
            continue
        if kind == "kills":
            reading.kills[about] = int(number)
        elif kind == "kernel":
            reading.kernel[int(number)] = about
        elif kind == "free":
            size, _, directory = about.partition(" ")
            if size.isascii() and size.isdigit():
                reading.free[directory] = (int(number), int(size))
    return reading


def compare(before: Optional[Reading], after: Reading) -> Change:
    """Return what two readings of one node tell; ``before`` None: nothing about kills. Pure."""
    change = Change([], [], [], [])
    for directory, (free, size) in after.free.items():
        if size and free < SCARCE * size:
            change.scarce.append(f"{directory}: {free} of {size} bytes are free")
    if before is None:
        return change
    for source, count in after.kills.items():
        was = before.kills.get(source)
        if was is not None and count > was:
            line = f"kills for want of memory rose from {was} to {count} ({source})"
            (change.elsewhere if source == WHOLE_NODE else change.kills).append(line)
    last = max(before.kernel, default=-1)
    change.kernel.extend(text for number, text in sorted(after.kernel.items()) if number > last)
    return change


class Aftermath(NamedTuple):
    """What the nodes tell after a run: ``memory`` proves kills, ``notes`` prove nothing alone."""

    memory: Sequence[str] = ()
    notes: Sequence[str] = ()


class Conditions:
    """Reads the condition of nodes at a run's start and end.

    Args:
        jobenv: the job; its remote execution reaches the nodes.
    """

    def __init__(self, jobenv: JobEnvironment) -> None:
        self._jobenv = jobenv
        self._known: dict[str, Reading] = {}
        runner = jobenv.context.runner
        self._asked: Errand[dict[str, Reading]] = Errand(runner, "condition of the nodes")

    def begin(self, nodes: Sequence[str]) -> None:
        """Read the nodes in the background, to compare with later."""
        wanted = list(nodes)
        self._asked.ask(lambda: self._read(wanted, BEFORE_S))

    def settle(self) -> None:
        """Wait for a reading that is under way: it is a command on the nodes of the allocation."""
        self._asked.settle(BEFORE_S)

    def changed(self, nodes: Sequence[str], *, killed: bool) -> Aftermath:
        """Return what has changed on the nodes since ``begin``; a few seconds at most.

        Args:
            nodes: which to ask.
            killed: something of the run was ended by KILL. Only then kills are evidence, and a node
                without counters is worth a note.
        """
        after: dict[str, Reading] = {}
        try:
            self._known.update(self._asked.answer(AFTER_S) or {})
        except (ScrError, OSError) as error:
            logger.warning("condition of the nodes before the run: %s", error)
        try:
            after = self._read(nodes, AFTER_S)
        except (ScrError, OSError) as error:
            logger.warning("condition of the nodes: %s", error)
        changes = {node: compare(self._known.get(node), after[node]) for node in after}
        unknown = [node for node in nodes if node not in after or node not in self._known]
        self._known.update(after)
        return judge_changes(changes, unknown, killed=killed)

    def _read(self, nodes: Sequence[str], limit_s: float) -> dict[str, Reading]:
        jobenv = self._jobenv
        bases = [*jobenv.dir_cache(base=True), *jobenv.dir_control(base=True)]
        places = [base for base in dict.fromkeys(bases) if os.path.isabs(base)]
        argv = node_command("condition", *places)
        result = jobenv.rexec.bounded(limit_s).rexec(argv, list(nodes), jobenv)
        return {
            node: parse_condition(result.stdout(node)) for node in nodes if result.rc(node) == 0
        }


def judge_changes(changes: dict[str, Change], unknown: Sequence[str], *, killed: bool) -> Aftermath:
    """Return what the nodes' changes prove, and what they only suggest. Pure.

    A kill in one of our own groups is the run's, if something of it was killed at all. Kills of the
    whole node may be those of another job there: they count only where no group's counter rose
    anywhere, for then the nodes' groups cannot be seen from here.
    """
    sure = {node: change.kills[0] for node, change in changes.items() if change.kills}
    found = sure or {node: c.elsewhere[0] for node, c in changes.items() if c.elsewhere}
    memory = _by_line((node, line) for node, line in found.items())
    notes = _by_line((node, f"kernel: {line}") for node in found for line in changes[node].kernel)
    notes += _by_line((node, line) for node, change in changes.items() for line in change.scarce)
    if killed and unknown:
        notes.append(
            f"{compress_hosts(list(unknown))}: whether memory ran out is not known, for the counters "
            "could not be read before and after"
        )
    if killed and not found and set(changes) - set(unknown):
        notes.append("no counter of kills for want of memory rose")
    return Aftermath(memory, notes) if killed else Aftermath((), [*memory, *notes])


def _by_line(said: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each thing that was said, with all the nodes of which it was said; not too many."""
    nodes: dict[str, list[str]] = {}
    for node, line in said:
        nodes.setdefault(line, []).append(node)
    lines = [f"{compress_hosts(names)}: {line}" for line, names in nodes.items()]
    more = len(lines) - LINES_EACH
    return lines if more <= 0 else [*lines[:LINES_EACH], f"and {more} more like it"]
