# SPDX-License-Identifier: BSD-3-Clause
"""Do files in cache grow? Asked from the nodes when nothing else shows progress and the time is nearly up.

A checkpoint of huge files may take longer than any other sign is awaited. Two looks at all nodes are
compared, the first when half of the time is over, the second at its end, so that a program that
shows progress costs its nodes next to nothing. The nodes are asked beside the loop that watches
the step, which must not wait for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline
from scrjob.errors import ScrError
from scrjob.hostlist import compress_hosts
from scrjob.node.command import node_command
from scrjob.supervisor.errand import Errand

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

ASK_S = 20.0  # for all nodes together
GIVE_UP_S = 2 * ASK_S  # for remote execution that does not keep to it
_EXTENT = re.compile(r"[0-9]+ [0-9]+ [0-9]+")


class Growth(NamedTuple):
    """What two looks at the nodes tell: whether any file has changed, and in words what is known."""

    grew: bool
    told: str


class CacheGrowth:
    """Compares what the nodes have in cache.

    Args:
        jobenv: whose cache.
        nodes: returns where the program runs, as far as known.
    """

    def __init__(self, jobenv: JobEnvironment, nodes: Callable[[], Sequence[str]]) -> None:
        self._jobenv = jobenv
        self._nodes = nodes
        self._errand: Errand[_Answer] = Errand(jobenv.context.runner, "cache growth")
        self._give_up: Optional[Deadline] = None
        self._before: Optional[_Answer] = None

    def forget(self) -> None:
        """Drop what is known: something else has shown progress."""
        self._errand.settle(0.0)
        self._before = None

    def compare(self, *, at_end: bool) -> Optional[Growth]:
        """Return what is known at the end of the time, None as long as it is being asked.

        Call it again and again: at first with ``at_end`` false, so that there is something to
        compare with.
        """
        try:
            if not self._errand.is_out:
                if self._before is not None and not at_end:
                    return None
                self._ask()
            answer = self._errand.answer()
        except (ScrError, OSError) as error:
            answer = _Answer({}, {}, str(error))
        if answer is None and self._give_up is not None and self._give_up.passed():
            self._errand.settle(0.0)
            answer = _Answer({}, {}, "no answer")
        if answer is None:
            return None
        before, self._before = self._before, answer
        return None if before is None else _compare(before, answer)

    def _ask(self) -> None:
        jobenv = self._jobenv
        nodes = list(self._nodes())
        rexec = jobenv.rexec.bounded(ASK_S)
        self._give_up = Deadline(jobenv.context.clock, GIVE_UP_S)
        self._errand.ask(lambda: _look(rexec, nodes, jobenv))


class _Answer(NamedTuple):
    """Node -> its line, and node -> why there is none; ``failed``: why nobody could be asked."""

    lines: dict[str, str]
    unknown: dict[str, str]
    failed: str = ""


def _look(rexec: Any, nodes: Sequence[str], jobenv: JobEnvironment) -> _Answer:
    result = rexec.rexec(node_command("growth", *jobenv.dir_cache()), nodes, jobenv)
    lines, unknown = {}, {}
    for node in nodes:
        line = result.stdout(node).strip()
        if result.rc(node) == 0 and _EXTENT.fullmatch(line):
            lines[node] = line
        else:
            said = (result.stderr(node).strip() or line).splitlines()
            unknown[node] = result.failure(node) or (said[-1] if said else "it failed")
    return _Answer(lines, unknown)


def _compare(before: _Answer, after: _Answer) -> Growth:
    """Unknown is no growth, but it is told."""
    both = [node for node in after.lines if node in before.lines]
    changed = [node for node in both if after.lines[node] != before.lines[node]]
    if changed:
        return Growth(True, f"files in cache changed on {compress_hosts(changed)}")
    told = [f"no file in cache changed on {compress_hosts(both)}"] if both else []
    unknown = {**before.unknown, **after.unknown}
    failed = before.failed or after.failed
    if failed:
        told.append(f"whether files in cache grow is not known: {failed}")
    elif unknown:
        why = next(iter(unknown.values()))
        told.append(f"not known of the cache on {compress_hosts(list(unknown))}: {why}")
    return Growth(False, "; ".join(told))
