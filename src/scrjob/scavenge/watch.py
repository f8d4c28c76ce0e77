# SPDX-License-Identifier: BSD-3-Clause
"""While the nodes copy: how far is each, and which one does not move any more."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Iterator, Mapping, NamedTuple, Optional, Sequence

from scrjob._fsio import atomic_write, read_bounded
from scrjob.errors import FormatError
from scrjob.scavenge.progress import (
    FILE_LIMIT_BYTES,
    PROGRESS_FILE,
    NodeProgress,
    Rate,
    Snapshot,
    read_node,
)

if TYPE_CHECKING:
    from scrjob.protocols import Clock
    from scrjob.scavenge.answers import NodeCopy
    from scrjob.scavenge.progress import Progress

logger = logging.getLogger(__name__)

LOOK_S = 1.0
LONGEST_LOOK_S = (
    2 * LOOK_S
)  # of a pause between two looks, what counts as time in which a node stood still
JOIN_S = 5.0
SYNCING_FROM = 0.99  # of the bytes: what a copy expects may be a little more than it copies
SYNC_PATIENCE = 5  # a node with much memory has much to bring to a slow file system at the end
PROBE = "scrjob.scavenge.probe"


class _Node:
    """One node at work. ``last`` is what its file said; what an older copy left there is no news."""

    def __init__(self, before: Optional[NodeProgress]) -> None:
        self.before = before
        self.last: Optional[NodeProgress] = None
        self.idle_s = 0.0
        self.rate = Rate()


class Totals(NamedTuple):
    """What nodes that are done have brought."""

    nodes: int = 0
    bytes: int = 0


class Watch:
    """Follows the nodes that are at work by their progress files.

    A node is given up when its file has not changed for ``stall_s`` seconds. Its file system may be what
    stands still, and then for all nodes: so only time counts in which we ourselves could look, and
    write. A node that has written all may take longer: it waits for its data to be durable.

    A node without such a file is not at work yet, or has ended, or hangs before its first byte, in a file
    system that stands still for it alone: it is given up when nobody else has moved for as long either.

    Args:
        directory: the dataset's in the prefix.
        dataset_id: its number.
        name: its name.
        nodes: how many nodes are to copy.
        total_bytes: what they are to copy together, as far as is known; 0 unknown.
        clock: measures.
        stall_s: seconds; 0: nobody is given up.
        progress: is shown each look, if given.
    """

    def __init__(
        self,
        directory: str,
        *,
        dataset_id: int,
        name: str,
        nodes: int,
        total_bytes: int,
        clock: Clock,
        stall_s: float,
        progress: Optional[Progress],
    ) -> None:
        self._directory = directory
        self._dataset_id = dataset_id
        self._name = name
        self._count = nodes
        self._expected = total_bytes
        self._clock = clock
        self._stall_s = stall_s
        self._progress = progress
        self._active: dict[str, _Node] = {}
        self._done = Totals()
        self._rate = Rate()
        self._looked = clock.monotonic()
        self._heard: dict[str, Optional[NodeProgress]] = {}
        self._quiet_s = 0.0  # since any node was heard of
        self._files: Optional[dict[str, bytes]] = None
        self._lock = threading.Lock()
        self.stalled: dict[str, str] = {}

    def begin(self, nodes: Sequence[str]) -> None:
        """These nodes start to copy."""
        found = {node: _Node(read_node(self._directory, node)) for node in nodes}
        with self._lock:
            self._active.update(found)

    def end(self, copies: Sequence[NodeCopy]) -> None:
        """These nodes have ended, or were given up."""
        with self._lock:
            for copy in copies:
                self._active.pop(copy.node, None)
                done = self._done
                self._done = Totals(done.nodes + 1, done.bytes + (copy.bytes or 0))

    def look(self) -> Snapshot:
        """Read the files of the active nodes, note who stands still, show it."""
        with self._lock:
            active = dict(self._active)
        told = {node: read_node(self._directory, node) for node in active}
        moment = self._clock.monotonic()
        passed = min(moment - self._looked, LONGEST_LOOK_S)
        self._looked = moment
        self._quiet_s = self._quiet_s + passed if told == self._heard else 0.0
        self._heard = told
        still = []
        for node, state in active.items():
            now = told[node]
            if now is not None and now == state.before:
                continue
            state.before = None
            if now is None:
                state.idle_s = 0.0  # not begun, or done: the file goes when the copy ends
            elif now == state.last:
                state.idle_s += passed
                if self._stall_s and state.idle_s >= self._patience(now):
                    still.append(node)
            else:
                state.last = now
                state.idle_s = 0.0
        if (
            self._stall_s
            and self._quiet_s >= self._stall_s * SYNC_PATIENCE
            and not self._any_moved()
        ):
            still = list(active)
        if still and not set(still) <= set(self.stalled) and self._can_write():
            why = f"no progress for {self._stall_s:g} s: given up"
            self.stalled = {**dict.fromkeys(still, why), **self.stalled}
        snapshot = self._snapshot(active, moment)
        if self._progress is not None:
            self._progress.show(snapshot)
        return snapshot

    def _patience(self, now: NodeProgress) -> float:
        """Return the seconds that a node may stand still: more if all is written and only not yet durable."""
        all_written = now.done_bytes >= SYNCING_FROM * now.total_bytes
        return self._stall_s * (SYNC_PATIENCE if all_written else 1)

    def _any_moved(self) -> bool:
        """Tell whether any progress file has changed since this was asked last, ``stall_s`` seconds ago.

        A node may know itself under another name than the job does, and so seem silent.
        """
        found = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):
                if name.startswith(PROGRESS_FILE):
                    path = os.path.join(self._directory, name)
                    with contextlib.suppress(OSError, FormatError):
                        found[name] = read_bounded(path, limit=FILE_LIMIT_BYTES)
        has_moved = found != self._files
        self._files = found
        if has_moved:
            self._quiet_s -= self._stall_s
        return has_moved

    def _can_write(self) -> bool:
        path = os.path.join(self._directory, PROBE)
        try:
            atomic_write(path, b"")
            os.unlink(path)
        except OSError as error:
            logger.warning("nobody is given up while %s cannot be written: %s", path, error)
            return False
        return True

    def _snapshot(self, active: Mapping[str, _Node], moment: float) -> Snapshot:
        rows = [
            state.last._replace(rate=state.rate.note(moment, state.last.done_bytes))
            for state in active.values()
            if state.last is not None
        ]
        rows.sort(key=lambda row: row.done_bytes - row.total_bytes)
        done = self._done.bytes + sum(row.done_bytes for row in rows)
        known = self._done.bytes + sum(row.total_bytes for row in rows)
        total = max(self._expected, known)
        rate = self._rate.note(moment, done)
        return Snapshot(
            self._dataset_id,
            self._name,
            rows,
            self._done.nodes,
            self._count,
            done,
            total,
            rate,
            (total - done) / rate if rate else None,
        )

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look once a second, on a thread, while the block runs."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_S):
                self.look()

        watcher = threading.Thread(target=watch, name="progress of a scavenge", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(JOIN_S)
            if self._progress is not None:
                self._progress.close()
