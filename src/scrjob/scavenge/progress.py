# SPDX-License-Identifier: BSD-3-Clause
"""How far a copy is: bytes, rate and time left, per node and in all, for whoever shows it.

The nodes write ``scrjob.progress.<host>`` into the dataset's directory in the prefix; only those of
nodes that are at work are read.

Source: docs/scavenge.md, "progress".
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Protocol, Sequence

from scrjob._fsio import read_bounded
from scrjob.errors import FormatError

if TYPE_CHECKING:
    from scrjob.protocols import Clock

PROGRESS_FILE = "scrjob.progress."
FILE_LIMIT_BYTES = 1 << 12
LINE_S = 5.0  # from one line to the next where there is no terminal
RATE_S = 30.0  # the rate is that of so many seconds past
NODES_SHOWN = 3

_KIB = 1024
_SENSELESS = (
    *(OSError, FormatError, ValueError, KeyError, TypeError, OverflowError),
    RecursionError,  # of very deeply nested brackets
)


class NodeProgress(NamedTuple):
    """How far one node is; bytes and files of all kinds that it copies."""

    node: str
    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int
    rate: float = 0.0


class Snapshot(NamedTuple):
    """How far a copy is.

    Attributes:
        dataset_id, name: of which dataset.
        active: the nodes at work of which something is known, the slowest first: with the most to do.
        finished: nodes that are done, given up or had nothing to do.
        nodes: all nodes.
        done_bytes: copied so far, by all nodes.
        total_bytes: expected, as far as is known: grows as nodes begin if the descriptor is silent.
        rate: bytes per second, of the last seconds.
        left_s: seconds until all is copied at this rate, None unknown.
    """

    dataset_id: int
    name: str
    active: Sequence[NodeProgress]
    finished: int
    nodes: int
    done_bytes: int
    total_bytes: int
    rate: float
    left_s: Optional[float]


class Progress(Protocol):
    """Shows snapshots: a bar, lines, or nothing."""

    def show(self, now: Snapshot) -> None:
        """Take a snapshot; comes about once a second, from another thread than ``close``."""
        ...

    def close(self) -> None:
        """The copy is over; nothing comes until the next one begins."""
        ...


class Rate:
    """Bytes per second over the last seconds."""

    def __init__(self, window_s: float = RATE_S) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, when: float, done: int) -> float:
        """Take a count at a moment (monotonic seconds) and return the rate, 0 while it is not known."""
        self._seen.append((when, done))
        while len(self._seen) > 2 and self._seen[1][0] <= when - self._window_s:  # noqa: PLR2004 - a pair
            self._seen.popleft()
        began, first = self._seen[0]
        return max(0.0, (done - first) / (when - began)) if when > began else 0.0


def read_node(directory: str, node: str) -> Optional[NodeProgress]:
    """Return what a node's progress file says, None without one that can be read.

    A node may know itself by the first part of the name that the job has for it.
    """
    for host in dict.fromkeys((node, node.partition(".")[0])):
        if "/" in host:
            continue
        try:
            data = read_bounded(
                os.path.join(directory, PROGRESS_FILE + host), limit=FILE_LIMIT_BYTES
            )
            told: Any = json.loads(data)
            numbers = [
                max(0, int(told[key]))
                for key in ("done_bytes", "total_bytes", "done_files", "total_files")
            ]
        except _SENSELESS:
            continue
        return NodeProgress(node, *numbers)
    return None


class Lines:
    """Progress as lines of text, one every few seconds.

    Args:
        say: gets each line.
        clock: tells when the next one is due.
        every_s: seconds from one to the next; the first comes after so many, too.
    """

    def __init__(self, say: Callable[[str], None], clock: Clock, every_s: float = LINE_S) -> None:
        self._say = say
        self._clock = clock
        self._every_s = every_s
        self._next: Optional[float] = None

    def show(self, now: Snapshot) -> None:
        """Say where the copy is, if it is time to."""
        moment = self._clock.monotonic()
        if self._next is None:
            self._next = moment + self._every_s
        if moment >= self._next:
            self._next = moment + self._every_s
            self._say(line(now))

    def close(self) -> None:
        """Begin anew with the next copy."""
        self._next = None


def line(now: Snapshot) -> str:
    """Return a snapshot as one line."""
    text = f"copying {now.name}: {size(now.done_bytes)}"
    if now.total_bytes:
        share = min(100, 100 * now.done_bytes // now.total_bytes)
        text += f" of {size(now.total_bytes)} ({share}%)"
    if now.rate:
        text += f", {size(now.rate)}/s"
    if now.left_s is not None:
        text += f", {duration(now.left_s)} left"
    text += f", {now.finished} of {now.nodes} nodes done"
    slowest = [
        f"{node.node} {size(node.done_bytes)} of {size(node.total_bytes)} at {size(node.rate)}/s"
        for node in now.active[:NODES_SHOWN]
    ]
    return text + (f"; slowest: {', '.join(slowest)}" if slowest else "")


def size(count: float) -> str:
    """Return bytes for people, e.g. ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < _KIB or unit == "TiB":
            break
        count /= _KIB
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds for people, e.g. ``1:05`` or ``2:00:00``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text
