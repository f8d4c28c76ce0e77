# SPDX-License-Identifier: BSD-3-Clause
"""Do files in cache grow? Asked from the nodes when nothing else shows progress and the time is nearly up.

A checkpoint of huge files may take longer than any other sign is awaited. Two looks at all nodes are
compared, the first when half of the time is over, the second at its end, so that a program that
shows progress costs its nodes next to nothing. The nodes are asked in a thread: whoever watches a
step must not wait for them.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob.errors import ScrError
from scrjob.hostlist import compress_hosts
from scrjob.node.command import node_command

if TYPE_CHECKING:
    import threading

    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

ASK_S = 20.0  # for all nodes together
GIVE_UP_S = 2 * ASK_S  # for remote execution that does not keep to it
_EXTENT = re.compile(r"[0-9]+ [0-9]+ [0-9]+")
NAP_S = 0.05  # each look waits so long for an answer, which is often there by then


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
        self._question: Optional[_Question] = None
        self._before: Optional[_Answer] = None

    def forget(self) -> None:
        """Drop what is known: something else has shown progress."""
        self._question = self._before = None

    def compare(self, *, at_end: bool) -> Optional[Growth]:
        """Return what is known at the end of the time, None as long as it is being asked.

        Call it again and again: at first with ``at_end`` false, so that there is something to
        compare with.
        """
        if self._question is None and (self._before is None or at_end):
            self._question = _Question(self._jobenv, self._nodes)
        if self._question is None:
            return None
        answer = self._question.answer()
        if answer is None:
            return None
        self._question = None
        before, self._before = self._before, answer
        return None if before is None else _compare(before, answer)


class _Answer(NamedTuple):
    """Node -> its line, and node -> why there is none; ``failed``: why nobody could be asked."""

    lines: dict[str, str]
    unknown: dict[str, str]
    failed: str = ""


class _Question:
    """One look at all nodes, in a thread that is not waited for."""

    def __init__(self, jobenv: JobEnvironment, nodes: Callable[[], Sequence[str]]) -> None:
        import threading  # noqa: PLC0415 - needed only by programs that show no progress

        self._clock = jobenv.context.clock
        self._began = self._clock.monotonic()
        self._found: Optional[_Answer] = None
        self._thread: Optional[threading.Thread] = None
        try:
            asked = list(nodes())
            rexec = jobenv.rexec.bounded(ASK_S)
        except ScrError as error:
            self._found = _Answer({}, {}, str(error))
            return

        def ask() -> None:
            self._found = _ask(rexec, asked, jobenv)

        self._thread = threading.Thread(target=ask, name="cache growth", daemon=True)
        self._thread.start()

    def answer(self) -> Optional[_Answer]:
        """Return what is known, None if it is not yet."""
        if self._thread is None:
            return self._found
        self._thread.join(NAP_S)
        late = self._clock.monotonic() - self._began > GIVE_UP_S
        if self._found is None and (late or not self._thread.is_alive()):
            return _Answer({}, {}, "no answer")
        return self._found


def _ask(rexec: Any, nodes: Sequence[str], jobenv: JobEnvironment) -> _Answer:
    argv = node_command("growth", *jobenv.dir_cache())
    try:
        result = rexec.rexec(argv, nodes, jobenv)
    except (ScrError, OSError) as error:
        return _Answer({}, {}, str(error))
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
