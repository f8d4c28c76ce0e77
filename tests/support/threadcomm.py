# SPDX-License-Identifier: BSD-3-Clause
"""A communicator whose ranks are threads of this process: what the client needs of mpi4py, no more.

A rank that dies makes the others' waits end with an error after ``LIMIT_S``, so a deadlock is a failure.
"""

from __future__ import annotations

import copy
import queue
import threading
from typing import Any, Callable, Optional, Sequence

import numpy as np

LIMIT_S = 30.0


class _Shared:
    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.slots: list[Any] = [None] * size
        self.result: Any = None
        self.mail = {(a, b): queue.Queue() for a in range(size) for b in range(size)}


class ThreadComm:
    """One rank's end."""

    def __init__(self, shared: _Shared, rank: int) -> None:
        self._shared = shared
        self.rank = rank
        self.size = shared.size

    def barrier(self) -> None:
        self._shared.barrier.wait(LIMIT_S)

    def allgather(self, sendobj: Any) -> list[Any]:
        self._shared.slots[self.rank] = copy.deepcopy(sendobj)
        self.barrier()
        found = copy.deepcopy(self._shared.slots)
        self.barrier()
        return found

    def gather(self, sendobj: Any, root: int = 0) -> Optional[list[Any]]:
        found = self.allgather(sendobj)
        return found if self.rank == root else None

    def bcast(self, obj: Any, root: int = 0) -> Any:
        return self.allgather(obj if self.rank == root else None)[root]

    def scatter(self, sendobj: Optional[Sequence[Any]], root: int = 0) -> Any:
        return self.allgather(sendobj if self.rank == root else None)[root][self.rank]

    def allreduce(self, sendobj: int) -> int:
        return sum(self.allgather(sendobj))

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        self._shared.mail[self.rank, dest].put((tag, copy.deepcopy(obj)))

    def recv(self, *, source: int, tag: int = 0) -> Any:
        sent, obj = self._shared.mail[source, self.rank].get(timeout=LIMIT_S)
        assert sent == tag, f"expected tag {tag}, got {sent}"
        return obj

    def Send(self, buf: np.ndarray, dest: int, tag: int = 0) -> None:  # noqa: N802
        self.send(np.array(buf), dest, tag)

    def Recv(self, buf: np.ndarray, source: int, tag: int = 0) -> None:  # noqa: N802
        got = self.recv(source=source, tag=tag)
        assert got.shape == buf.shape
        buf[:] = got

    def Sendrecv(  # noqa: N802
        self,
        sendbuf: np.ndarray,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = 0,
        recvtag: int = 0,
    ) -> None:
        self.Send(sendbuf, dest, sendtag)
        self.Recv(recvbuf, source, recvtag)

    def Split(self, color: int = 0, key: int = 0) -> ThreadComm:  # noqa: N802
        everyone = self.allgather((color, key, self.rank))
        mine = sorted((k, r) for c, k, r in everyone if c == color)
        if self.rank == 0:
            self._shared.result = {
                c: _Shared(sum(other == c for other, _, _ in everyone)) for c, _, _ in everyone
            }
        self.barrier()
        shared = self._shared.result[color]
        self.barrier()
        return ThreadComm(shared, mine.index((key, self.rank)))

    def Dup(self) -> ThreadComm:  # noqa: N802
        return self.Split(0, self.rank)

    def Free(self) -> None:  # noqa: N802
        pass


def run(size: int, program: Callable[[ThreadComm], Any]) -> list[Any]:
    """Return what the program returned, or raised, on each rank."""
    shared = _Shared(size)
    answers: list[Any] = [None] * size

    def body(rank: int) -> None:
        try:
            answers[rank] = program(ThreadComm(shared, rank))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the test looks at it
            answers[rank] = error

    threads = [threading.Thread(target=body, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT_S)
        assert not thread.is_alive(), "deadlock"
    return answers


def run_all(size: int, program: Callable[[ThreadComm], Any]) -> list[Any]:
    """Return what the program returned on each rank; raises the first error of any."""
    answers = run(size, program)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
