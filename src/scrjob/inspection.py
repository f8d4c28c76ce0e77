# SPDX-License-Identifier: BSD-3-Clause
"""Which cached datasets could be had back if some nodes were lost? Asked from the nodes, nothing is copied.

Source: docs/howto/inspect.md.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Iterable, Mapping, NamedTuple, Optional, Sequence

from scrjob.cached import SENSELESS
from scrjob.formats import dataset, kvtree
from scrjob.formats.rank2file import MAX_RANKS
from scrjob.formats.redset_header import DATA_SET, MAP_SET, Descriptor
from scrjob.node.command import node_command
from scrjob.redundancy import inspect

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

ASK_S = 60.0


class Inspected(NamedTuple):
    """What can be had of one dataset.

    Attributes:
        id: which dataset.
        details: its descriptor.
        verdict: ranks, groups, reasons; None if not even the number of ranks is known.
        why: what else speaks against it, one line; "" for nothing.
    """

    id: int
    details: dataset.Descriptor
    verdict: Optional[inspect.Verdict]
    why: str

    @property
    def recoverable(self) -> bool:
        """Tell whether all files could be brought to the prefix."""
        return not self.why and self.verdict is not None and self.verdict.recoverable

    def reasons(self) -> list[str]:
        """Return lines for people."""
        return ([self.why] if self.why else []) + (self.verdict.reasons() if self.verdict else [])


def recoverable(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    *cntldirs: str,
    relocations: Sequence[str] = (),
    level: int = logging.WARNING,
    limit_s: float = ASK_S,
) -> dict[int, Inspected]:
    """Return what can be had of each dataset that any of ``nodes`` holds, newest first, by id.

    Args:
        jobenv: the job; its way to reach nodes is used.
        nodes: those whose caches can still be read; all others count as lost. One that does not answer does,
            too, with a line in the log.
        cntldirs: control directories on the nodes; default: those of the job.
        relocations: ``OLD=NEW``: recorded paths below OLD are really below NEW.
        level: of that line.
        limit_s: seconds in which the nodes are to answer.

    Raises:
        NotSupportedError: nodes cannot be reached from here.
    """
    words = [f"--relocate={move}" for move in relocations]
    argv = node_command("inspect", "--json", *words, *(cntldirs or jobenv.dir_control()))
    result = jobenv.rexec.bounded(limit_s).rexec(argv, list(nodes), jobenv)
    answers: list[Mapping[str, Any]] = []
    for node in nodes:
        if result.rc(node) is None:
            why = result.failure(node)
            logger.log(level, "node %s does not answer, it counts as lost: %s", node, why)
            continue
        if result.stderr(node):
            logger.log(level, "node %s: %s", node, result.stderr(node).strip())
        try:
            answers += [checked(row) for row in json.loads(result.stdout(node))["datasets"]]
        except SENSELESS as error:
            logger.log(
                level, "node %s: its answer makes no sense, it counts as lost: %r", node, error
            )
    return decide(answers)


def checked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a dataset of a node's answer in the types that ``decide`` needs.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, FormatError: it is none.
    """
    ranks = []
    fileless: set[int] = set()
    for rank in row["ranks"]:
        sets = {}
        for name, place in rank["sets"].items():
            fields = {key: place[key] for key in Descriptor._fields}
            told = {int(i): int(world) for i, world in place["told"]}
            sets[str(name)] = (Descriptor(**fields), told)
            fileless.update(map(int, place["fileless"]))
        job = None if rank["job"] is None else int(rank["job"])
        ranks.append(
            {
                "rank": int(rank["rank"]),
                "job": job,
                "filemap": bool(rank["filemap"]),
                "whole": bool(rank["whole"]),
                "sets": sets,
            }
        )
    tree = kvtree.decode(bytes.fromhex(row["descriptor"]))
    return {
        "id": int(row["id"]),
        "details": dataset.parse(tree),
        "bypass": bool(row["bypass"]),
        "ranks": ranks,
        "fileless": fileless,
    }


def decide(answers: Iterable[Mapping[str, Any]]) -> dict[int, Inspected]:
    """Return the verdicts by id, newest first, from what the nodes hold."""
    held: dict[int, list[Mapping[str, Any]]] = {}
    for row in answers:
        held.setdefault(row["id"], []).append(row)
    return {number: _decide(number, held[number]) for number in sorted(held, reverse=True)}


def _decide(number: int, rows: list[Mapping[str, Any]]) -> Inspected:
    # A node that was away while the number was used again holds an older dataset: it is of no use.
    newest = max(rows, key=lambda row: row["details"].created_us or 0)["details"]
    rows = [row for row in rows if row["details"].created_us == newest.created_us]
    held = [rank for row in rows for rank in row["ranks"]]
    # Of two nodes that hold the same rank, one may hold all of it.
    ranks = {
        rank["rank"]: rank
        for rank in sorted(held, key=lambda rank: (rank["whole"], rank["filemap"]))
    }
    members = [
        (name, place, told)
        for rank in ranks.values()
        for name, (place, told) in rank["sets"].items()
        if name in (MAP_SET, DATA_SET)
    ]
    job = next((rank["job"] for rank in ranks.values() if rank["job"]), None)
    job = job or next((place.world_ranks for _, place, _ in members), None)
    if job is None or job <= 0:
        return Inspected(number, newest, None, "no node holds any file of it")
    if job > MAX_RANKS or not inspect.is_believable(job, len(ranks) + len(members)):
        return Inspected(number, newest, None, f"a job of {job} ranks is impossible")
    missing = {
        rank: rank in ranks and ranks[rank]["filemap"]
        for rank in range(job)
        if rank not in ranks or not ranks[rank]["whole"]
    }
    verdict = inspect.judge(
        missing,
        inspect.views(members),
        protects_files=not all(row["bypass"] for row in rows),
        fileless={rank for row in rows for rank in row["fileless"]},
    )
    return Inspected(number, newest, verdict, "" if newest.complete else "it was never completed")
