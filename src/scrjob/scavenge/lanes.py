# SPDX-License-Identifier: BSD-3-Clause
"""One command on many nodes, on so many at a time as a file system likes, and nobody waits for the slow.

All nodes at once go in one call of remote execution. More nodes than that go in small calls, side by
side on a few threads: a slow node keeps the few others of its call waiting, not the next nodes.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, Sequence

from scrjob.errors import ScrError

if TYPE_CHECKING:
    from scrjob.remoteexec.remoteexec import RemoteExecResult
    from scrjob.scavenge.answers import NodeCopy

LANES = 16  # calls side by side; each may be a launcher's process, so not one per node

Call = Callable[[Sequence[str]], "RemoteExecResult"]
Enter = Callable[["RemoteExecResult", Sequence[str]], Sequence["NodeCopy"]]
Fail = Callable[[Sequence[str], ScrError], Sequence["NodeCopy"]]


def batches(nodes: Sequence[str], width: int) -> list[list[str]]:
    """Return the nodes of each call: one call if all may copy at once, else a lane's share of ``width``."""
    if len(nodes) <= width:
        return [list(nodes)] if nodes else []
    size = max(1, width // LANES)
    return [list(nodes[first : first + size]) for first in range(0, len(nodes), size)]


def run_in_lanes(
    nodes: Sequence[str],
    width: int,
    *,
    call: Call,
    enter: Enter,
    fail: Fail,
    stop: Callable[[], None] = lambda: None,
) -> list[NodeCopy]:
    """Return what each node did, in the order of ``nodes``.

    Args:
        nodes: all of them.
        width: how many may be at work at the same time, > 0.
        call: runs the command on nodes; comes on several threads at once.
        enter: understands the answers of a call's nodes; one at a time.
        fail: is what it means for the nodes of a call that remote execution broke down in it.
        stop: has the calls end soon; for an interruption, which would wait for all of them.

    Raises:
        ScrError: remote execution is broken: it failed for all nodes.
    """
    groups = batches(nodes, width)
    lock = threading.Lock()
    failures: list[ScrError] = []

    def one(group: list[str]) -> Sequence[NodeCopy]:
        try:
            result = call(group)
        except ScrError as error:
            with lock:
                failures.append(error)
                return fail(group, error)
        with lock:
            return enter(result, group)

    if len(groups) == 1:
        done = [one(groups[0])]
    else:
        lanes = max(1, min(LANES, width, len(groups)))
        with ThreadPoolExecutor(lanes, thread_name_prefix="scavenge lane") as pool:
            try:
                done = list(pool.map(one, groups))
            except (KeyboardInterrupt, SystemExit):
                stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    if groups and len(failures) == len(groups):
        raise failures[0]
    return [copy for copies in done for copy in copies]
