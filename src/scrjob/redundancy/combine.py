# SPDX-License-Identifier: BSD-3-Clause
"""Sums of products of large blocks, streamed from sources to sinks by several threads.

A scheme says what is to be computed, as ``Task``s; here it is done: ranges of a task are read block by
block, combined while they lie in the processor's cache, and written where they belong. Memory use is a
few blocks for each thread, whatever the sizes, the number of members and of tasks.

Source: docs/formats/redundancy.md, "XOR" and "Reed-Solomon".
"""

from __future__ import annotations

import os
import threading
from typing import (
    TYPE_CHECKING,
    Callable,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
)

if TYPE_CHECKING:
    from scrjob.redundancy.kernels import Multiplier

BLOCK_BYTES = 512 << 10
"""Bytes that are combined at a time by one thread alone: a few such blocks fit the cache of one core."""

SHARED_BLOCK_BYTES = 1 << 20
"""The same where there are several threads. What one does at a time must take longer, 30 microseconds, than
to wake another one that waits for the interpreter's lock, or they work in turns."""

RANGE_BYTES = 4 << 20
"""Bytes of a task that one thread does in one go, so that what it writes is long and in order."""

MAX_WORKERS = 8
"""More threads than this wait for memory."""

TARGETS_AT_ONCE = 2
"""Sums that are kept at a time; for more the sources are read again."""


class Source(Protocol):
    """Bytes that can be read anywhere, by several threads: a logical file, or what follows a header."""

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``."""
        ...


class Sink(Protocol):
    """Bytes that are written in any order, by several threads; long runs are in order."""

    def write(self, offset: int, view: memoryview) -> None:
        """Write ``view`` at ``offset``."""
        ...


class Span(NamedTuple):
    """Where in a source the bytes of a task begin."""

    source: Source
    offset: int


class Target(NamedTuple):
    """Where in a sink a sum goes, and the factor of each source in it (0 to 255)."""

    sink: Sink
    offset: int
    factors: Sequence[int]


class Task(NamedTuple):
    """Sums over ``length`` bytes of the sources; one for each target."""

    length: int
    sources: Sequence[Span]
    targets: Sequence[Target]

    @property
    def is_plain_sum(self) -> bool:
        """Tell whether there is one sum and no product."""
        return len(self.targets) == 1 and set(self.targets[0].factors) <= {1}


class _Range(NamedTuple):
    task: Task
    start: int
    stop: int


def usable_cpus() -> int:
    """Return how many processors this process may use, at most ``MAX_WORKERS``."""
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)


def run(
    tasks: Iterable[Task],
    *,
    workers: Optional[int] = None,
    block_bytes: Optional[int] = None,
    multiplier: Optional[Callable[[int, int], Multiplier]] = None,
) -> None:
    """Do all tasks.

    Args:
        tasks: what to compute; their sinks must not overlap.
        workers: threads, this one included; by default as many as there are processors, and not more
            than there is work for.
        block_bytes: bytes that are combined at a time; by default what suits the number of threads.
        multiplier: makes what multiplies, given the most targets at once and the block size; the
            fastest that is there by default.

    Raises:
        FormatError, OSError: from a source or a sink; the first one. Other threads have ended.
    """
    todo = list(_in_parts(tasks))
    wanted = usable_cpus() if workers is None else workers
    total = sum(task.length for task in todo)
    wanted = max(1, min(wanted, total // RANGE_BYTES))
    if block_bytes is None:
        block_bytes = BLOCK_BYTES if wanted == 1 else SHARED_BLOCK_BYTES
    targets = max((len(task.targets) for task in todo), default=0)
    crew = _Crew(_ranges(todo), targets, block_bytes, multiplier)
    helpers = [threading.Thread(target=crew.work, daemon=True) for _ in range(wanted - 1)]
    for helper in helpers:
        helper.start()
    try:
        crew.work()
    finally:
        crew.stop()
        for helper in helpers:
            helper.join()
    if crew.error is not None:
        raise crew.error


def _in_parts(tasks: Iterable[Task]) -> Iterator[Task]:
    """Split tasks with many targets, drop empty ones."""
    for task in tasks:
        if task.length:
            for first in range(0, len(task.targets), TARGETS_AT_ONCE):
                yield task._replace(targets=task.targets[first : first + TARGETS_AT_ONCE])


def _ranges(tasks: Iterable[Task]) -> Iterator[_Range]:
    for task in tasks:
        for start in range(0, task.length, RANGE_BYTES):
            yield _Range(task, start, min(start + RANGE_BYTES, task.length))


class _Crew:
    """Threads that take ranges, one after another in order, until none is left or one has failed."""

    def __init__(
        self,
        ranges: Iterator[_Range],
        targets: int,
        block_bytes: int,
        multiplier: Optional[Callable[[int, int], Multiplier]],
    ) -> None:
        self.error: Optional[BaseException] = None
        self._ranges: Optional[Iterator[_Range]] = ranges
        self._lock = threading.Lock()
        self._targets = targets
        self._block_bytes = block_bytes
        self._make_multiplier = multiplier

    def stop(self) -> None:
        with self._lock:
            self._ranges = None

    def _next(self) -> Optional[_Range]:
        with self._lock:
            return None if self._ranges is None else next(self._ranges, None)

    def work(self) -> None:
        from scrjob.redundancy import kernels  # noqa: PLC0415 - NumPy: only who combines pays

        adder: Optional[kernels.Adder] = None
        multiplier: Optional[Multiplier] = None
        try:
            while True:
                found = self._next()
                if found is None:
                    return
                if found.task.is_plain_sum:
                    adder = adder or kernels.Adder(self._block_bytes)
                    self._do(found, adder.combine)
                else:
                    if multiplier is None:
                        make = self._make_multiplier or kernels.fastest_multiplier()
                        multiplier = make(self._targets, self._block_bytes)
                    multiplier.prepare([target.factors for target in found.task.targets])
                    self._do(found, multiplier.combine)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.stop()
            with self._lock:
                self.error = self.error or error

    def _do(self, found: _Range, combine: Callable[..., Sequence[memoryview]]) -> None:
        task = found.task
        for offset in range(found.start, found.stop, self._block_bytes):
            length = min(self._block_bytes, found.stop - offset)
            sums = combine(task.sources, offset, length)
            for target, view in zip(task.targets, sums):
                target.sink.write(target.offset + offset, view)
