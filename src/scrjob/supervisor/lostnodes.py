# SPDX-License-Identifier: BSD-3-Clause
"""While data is brought home from the nodes: a node that dies in the middle is not waited for."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Callable, Iterator, Sequence

from scrjob.supervisor.heartbeat import Heartbeat
from scrjob.supervisor.settings import heartbeat_pace
from scrjob.supervisor.suspicion import Suspicion

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

LOOK_S = 0.2
SETTLE_S = 20.0  # for each question that is still out at the end


@contextlib.contextmanager
def heeded(
    jobenv: JobEnvironment, nodes: Sequence[str], say: Callable[[str], None]
) -> Iterator[None]:
    """Have ``jobenv.rexec`` give up those of ``nodes`` that die; inside of it the heartbeat goes on.

    Args:
        jobenv: the job; its resource manager says by which heartbeats nodes may be watched.
        nodes: healthy ones.
        say: is told of each node that is lost.

    Raises:
        ConfigError: a setting of the heartbeat is wrong.
    """
    pace = heartbeat_pace(jobenv) if jobenv.resmgr.heartbeats and nodes else None
    if pace is None:
        yield
        return
    heartbeat = Heartbeat(jobenv, pace, say)
    suspicion = Suspicion()
    heartbeat.begin(suspicion, nodes)
    lost: dict[str, None] = {}
    over = threading.Event()
    clock = jobenv.context.clock

    def watch() -> None:
        while not over.wait(LOOK_S):
            heartbeat.tend(lambda: nodes)
            for bad in suspicion.condemned(clock.monotonic(), clock.now()):
                if bad.node not in lost:
                    lost[bad.node] = None
                    say(f"node {bad.node} was lost: {bad.reason}; not waiting for it")

    plain = jobenv.rexec
    jobenv.rexec = plain.heeding(lambda: tuple(lost))
    watcher = threading.Thread(target=watch, name="nodes while data is saved", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(SETTLE_S)
        heartbeat.settle(SETTLE_S)
        jobenv.rexec = plain
