# SPDX-License-Identifier: BSD-3-Clause
"""Slurm's node states: the question, the parser of the answer, and what each state means for a job.

``scontrol show node`` is asked, not ``sinfo``: it has one record a node (sinfo has one for each
partition of the node, and none for a node without one), and names the base state and all flags. sinfo
prints one word: a node that is down and drained as well reads "drained" there.

Source: sinfo(1) "NODE STATE CODES" and scontrol(1) "show", Slurm 22.05; ``*`` and other suffixes at
the words are how versions before 21.08 wrote flags. Names of newer flags: slurm.schedmd.com, 24.05.
"""

from __future__ import annotations

import enum
import logging
import re
from typing import TYPE_CHECKING, Collection, Mapping, NamedTuple, Optional, Sequence

from scrjob._slurm import fits, fold_nodes
from scrjob.errors import OutputParseError

if TYPE_CHECKING:
    from scrjob._process import CommandResult

logger = logging.getLogger(__name__)

TOOL = "scontrol show node"
REASON_LIMIT = 300  # characters of an administrator's text that are passed on


class Condition(enum.Enum):
    """What a node's state means for the job that holds it."""

    HEALTHY = "healthy"
    AVOID = "to be avoided"
    """No new step shall go there; ranks that run there go on."""
    SILENT = "silent"
    """The controller has not heard of it, or does not know it."""
    LOST = "lost"
    """Ranks cannot be running there."""


_HEALTHY = (
    *("ALLOCATED", "IDLE", "MIXED", "COMPLETING", "CLOUD", "DYNAMIC_NORM", "DYNAMIC_FUTURE"),
    *("EXTERNAL", "PERFCTRS", "RESUME", "UNDRAIN", "REBOOT_CANCELED", "BLOCKED"),
    # What the scheduler plans for others. Seen in 22.05 on all nodes of a healthy running job.
    *("PLANNED", "RESERVED"),
)
_AVOID = (
    *("DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "INVALID_REG", "INVAL", "FUTURE"),
    *("MAINTENANCE", "MAINT", "REBOOT_REQUESTED", "POWER_DOWN", "POWER_DRAIN"),
    *("POWER_UP", "POWERING_UP"),
)
_SILENT = ("NOT_RESPONDING", "UNKNOWN")
_LOST = ("DOWN", "ERROR", "POWERED_DOWN", "POWERING_DOWN", "REBOOT_ISSUED")
STATES: Mapping[str, Condition] = {
    **dict.fromkeys(_HEALTHY, Condition.HEALTHY),
    **dict.fromkeys(_AVOID, Condition.AVOID),
    **dict.fromkeys(_SILENT, Condition.SILENT),
    **dict.fromkeys(_LOST, Condition.LOST),
}
"""Each word of a compound state; docs/slurm.md shows the same table."""

MAINTENANCE = ("MAINTENANCE", "MAINT")
SUFFIXES: Mapping[str, str] = {
    "*": "NOT_RESPONDING",
    "~": "POWERED_DOWN",
    "#": "POWERING_UP",
    "!": "POWER_DOWN",
    "%": "POWERING_DOWN",
    "$": "MAINTENANCE",
    "@": "REBOOT_REQUESTED",
    "^": "REBOOT_ISSUED",
    "-": "PLANNED",
}
_WORST_FIRST = (Condition.LOST, Condition.SILENT, Condition.AVOID)

# The state stands before all free text of the record, the reason behind it, with who set it when.
_RECORD = re.compile(r"NodeName=(\S+) .*? State=(\S+)(?: |$)")
_REASON = re.compile(r" Reason=(.*?)(?: \[[^\[\]\s]*@[^\[\]\s]*\]|$)")
_NOT_FOUND = re.compile(r"Node (\S+) not found")


class NodeState(NamedTuple):
    """What the controller says of one node; ``state`` as it stands there, ``reason`` in one line."""

    state: str
    reason: str


class Finding(NamedTuple):
    """What that means; ``reason`` is one line, "" for a healthy node."""

    condition: Condition
    reason: str


def build_show_nodes(nodes: Sequence[str]) -> list[str]:
    """Return the call that asks for the nodes; for all of the cluster if their names are too long."""
    argv = ["scontrol", "--oneliner", "--", "show", "node"]
    text = fold_nodes(nodes)
    return [*argv, text] if fits(text) else argv


def parse_show_nodes(result: CommandResult, nodes: Collection[str]) -> dict[str, NodeState]:
    """Return what is said of those of ``nodes`` that the controller knows.

    Raises:
        CommandError: the controller was not reached, or did not answer.
        OutputParseError: the answer is none, or is about none of the nodes.
    """
    found: dict[str, NodeState] = {}
    missing = 0
    wanted = set(nodes)
    for line in result.stdout.splitlines():
        record = _RECORD.match(line)
        if record is None:
            missing += _NOT_FOUND.fullmatch(line) is not None
            continue  # else the second line of somebody's text
        name = record[1]
        if name in found:
            raise OutputParseError(TOOL, result.stdout, f"two records of node {name!r}")
        if name in wanted:
            why = _REASON.search(line, record.end() - 1)
            found[name] = NodeState(record[2], one_line(why[1]) if why else "")
    # A name that it does not know makes it end with 1, after the records of the others.
    if result.returncode != 0 and (result.stderr.strip() or not (found or missing)):
        result.check()
    if not found:
        raise OutputParseError(TOOL, result.stdout, "no record of any node of the job")
    return found


def one_line(text: str) -> str:
    """Return text of others as one line of printable characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 3] + "..."


def state_words(state: str) -> list[str]:
    """Return base state and flags in full: ``IDLE*+DRAIN`` gives IDLE, NOT_RESPONDING, DRAIN."""
    words = []
    for part in state.upper().split("+"):
        word = part.rstrip("".join(SUFFIXES))
        words += [word, *(SUFFIXES[suffix] for suffix in part[len(word) :])]
    return words


def judge(said: Optional[NodeState], *, held: bool, reserved: bool) -> Finding:
    """Return what the controller's word about a node means.

    Args:
        said: the word, None if it does not know the node.
        held: whether the node is still one of the job's.
        reserved: whether the job runs in a reservation; then maintenance may be what it was started
            for.
    """
    if not held:
        return Finding(Condition.LOST, "Slurm has taken it out of the job")
    if said is None:
        return Finding(Condition.SILENT, "not known to the Slurm controller")
    words = state_words(said.state)
    if reserved:
        words = [word for word in words if word not in MAINTENANCE]
    strange = [word for word in words if word not in STATES]
    if strange:
        logger.warning("Slurm state %s: %s is not known here", said.state, " ".join(strange))
    conditions = {STATES[word] for word in words if word in STATES}
    # A flag more does not make a bad node of a good one; what is no known state at all is not good.
    if strange and strange[0] == words[0]:
        conditions.add(Condition.AVOID)
    worst = next((c for c in _WORST_FIRST if c in conditions), Condition.HEALTHY)
    if worst is Condition.HEALTHY:
        return Finding(worst, "")
    state = one_line(said.state)
    return Finding(worst, f"Slurm state {state}" + (f": {said.reason}" if said.reason else ""))
