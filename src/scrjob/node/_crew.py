# SPDX-License-Identifier: BSD-3-Clause
"""A few threads that copy: parts of large files, and small files where the file system lets one wait.

Reading, checksums and writing run without Python's lock, so two cores copy a large file in little more
than half the time. Small files cost mostly Python's own work; on a local disk one thread is quickest.
Whether a thread waits is seen from its voluntary context switches.
"""

from __future__ import annotations

import resource
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Callable, Optional

from scrjob.errors import ScrError
from scrjob.node._transfer import PART_BYTES, Transfer

if TYPE_CHECKING:
    from scrjob.node._meter import Meter

THREADS = 4
LARGE_BYTES = 1 << 20  # from here on a file is made durable by itself
CHUNK_FILES = 16  # small files that a thread takes at once
TASKS_AHEAD = 8  # that wait for a thread; each may hold CHUNK_FILES descriptors
TICK_S = 1.0
WAITS_PER_FILE = 1.0  # from here on several threads are worth their cost

Task = Callable[[memoryview], None]


class Crew:
    """Copies what it is given.

    Args:
        meter: asked before each piece.
        piece_bytes: working space of each thread.
        watch: called about once a second while waiting; may stop the meter.
    """

    def __init__(self, meter: Meter, piece_bytes: int, watch: Callable[[], None]) -> None:
        self._meter = meter
        self._piece = piece_bytes
        self._watch = watch
        self._buffer = memoryview(bytearray(piece_bytes))
        self._small: list[Transfer] = []
        self._syncs_alone = True
        self._waits = False
        self._tasks: deque[Optional[Task]] = deque()
        self._open = 0
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._failure: Optional[BaseException] = None

    def copy(self, transfer: Transfer, *, syncs_alone: bool) -> None:
        """Copy a file, now or later; what fails is noted in it.

        Args:
            transfer: not created yet.
            syncs_alone: a small file, too, is made durable by itself.
        """
        if transfer.size >= LARGE_BYTES:
            self._copy_large(transfer)
            return
        self._small.append(transfer)
        self._syncs_alone = syncs_alone
        if len(self._small) >= CHUNK_FILES:
            self._copy_gathered()

    def wait(self) -> None:
        """Return when all is copied.

        Raises:
            StoppedError: not all is; the meter was stopped.
        """
        self._copy_gathered()
        with self._changed:
            while self._open and self._failure is None:
                if not self._changed.wait(TICK_S):
                    self._look()
        if self._failure is not None:
            raise self._failure

    def close(self, limit_s: float) -> bool:
        """End the threads; False if one hangs in a call of the system, which is left behind after a while."""
        with self._changed:
            self._tasks.clear()
            self._tasks.extend([None] * len(self._threads))
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(limit_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _look(self) -> None:
        """Watch, and raise StoppedError if that made us stop."""
        self._watch()
        self._meter.check()

    def _copy_gathered(self) -> None:
        chunk, self._small = self._small, []
        if not chunk:
            return
        task = partial(self._copy_chunk, chunk, self._syncs_alone)
        if self._waits:
            self._do(task)
            return
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        task(self._buffer)
        waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        self._waits = waits >= WAITS_PER_FILE * len(chunk)
        self._look()

    def _copy_chunk(self, chunk: list[Transfer], syncs_alone: bool, buffer: memoryview) -> None:
        spend = self._meter.spend
        for transfer in chunk:
            try:
                transfer.create()
                transfer.move(0, transfer.size, buffer, spend)
                transfer.finish(durable=syncs_alone)
            except (ScrError, OSError) as error:
                transfer.discard(error)
        self._meter.count_files(len(chunk))

    def _copy_large(self, transfer: Transfer) -> None:
        try:
            transfer.create()
        except OSError as error:
            transfer.discard(error)
            return
        starts = range(0, transfer.size, PART_BYTES)
        transfer.left = len(starts)
        for start in starts:
            self._do(partial(self._copy_part, transfer, start))

    def _copy_part(self, transfer: Transfer, start: int, buffer: memoryview) -> None:
        end = min(transfer.size, start + PART_BYTES)
        try:
            if transfer.error is None:
                transfer.move(start, end, buffer, self._meter.spend)
                transfer.start_writing(start, end)
        except (ScrError, OSError) as error:
            transfer.error = error
        with self._changed:
            transfer.left -= 1
            if transfer.left:
                return
        try:
            if transfer.error is not None:
                raise transfer.error
            transfer.finish(durable=True)
        except (ScrError, OSError) as error:
            transfer.discard(error)
        self._meter.count_files(1)

    def _do(self, task: Task) -> None:
        """Let a thread do it; waits while many tasks are ahead of it."""
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        with self._changed:
            while len(self._tasks) >= TASKS_AHEAD and self._failure is None:
                if not self._changed.wait(TICK_S):
                    self._look()
            self._tasks.append(task)
            self._open += 1
            self._changed.notify_all()

    def _work(self) -> None:
        buffer = memoryview(bytearray(self._piece))
        while True:
            with self._changed:
                while not self._tasks:
                    self._changed.wait()
                task = self._tasks.popleft()
                self._changed.notify_all()
            if task is None:
                return
            try:
                task(buffer)
            except BaseException as failure:  # noqa: BLE001 - raised again where it is waited for
                self._failure = failure
            with self._changed:
                self._open -= 1
                self._changed.notify_all()
