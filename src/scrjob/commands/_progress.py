# SPDX-License-Identifier: BSD-3-Clause
"""How far a scavenge is, on stderr: bars on a terminal, else a line every few seconds."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Optional

from scrjob._clock import SystemClock
from scrjob.scavenge.progress import Lines, duration, size

if TYPE_CHECKING:
    from scrjob.scavenge.progress import NodeProgress, Progress, Snapshot

NODE_BARS = 5


def progress(say: Callable[[str], None]) -> Progress:
    """Return what shows the progress: bars if stderr is a terminal, else lines that ``say`` gets."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":  # noqa: TID251 - of this terminal
        return Bars()
    return Lines(say, SystemClock())


class Bars:
    """One bar for all nodes together, and one for each of those with the most to do.

    That the terminal is lost meanwhile is no error: then nothing is drawn any more.

    Args:
        console: of rich; default: stderr.
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._shown: Any = None
        self._tasks: dict[str, Any] = {}
        self._is_lost = False

    def show(self, now: Snapshot) -> None:
        """Draw the bars."""
        self._unless_lost(lambda: self._show(now))

    def close(self) -> None:
        """Take the bars away: what became of the dataset is told in words."""
        if self._shown is not None:
            self._unless_lost(self._shown.stop)
        self._shown = None
        self._tasks = {}

    def _unless_lost(self, draw: Callable[[], None]) -> None:
        if self._is_lost:
            return
        try:
            draw()
        except (OSError, SystemExit):  # rich ends the program when its pipe is closed
            self._is_lost = True

    def _show(self, now: Snapshot) -> None:
        if self._shown is None:
            self._shown = _display(self._console)
            self._shown.start()
        text = f"{now.name} {now.finished}/{now.nodes} nodes"
        self._draw("", text, now.done_bytes, now.total_bytes, now.rate)
        rows = {row.node: row for row in now.active[:NODE_BARS]}
        for node in [name for name in self._tasks if name and name not in rows]:
            self._shown.remove_task(self._tasks.pop(node))
        for row in rows.values():
            self._draw_node(row)
        self._shown.refresh()

    def _draw_node(self, row: NodeProgress) -> None:
        self._draw(row.node, f"  {row.node}", row.done_bytes, row.total_bytes, row.rate)

    def _draw(self, key: str, text: str, done: int, total: int, rate: float) -> None:
        shown = self._shown
        if key not in self._tasks:
            self._tasks[key] = shown.add_task("", total=None, rate="", left="")
        left: Optional[float] = (total - done) / rate if rate else None
        shown.update(
            self._tasks[key],
            description=_plain(text),
            completed=done,
            total=total or None,
            rate=f"{size(rate)}/s" if rate else "",
            left="" if left is None else duration(left),
        )


def _display(console: Any) -> Any:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import (  # noqa: PLC0415 - same
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=console or Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _plain(text: str) -> str:
    """Return a text without what rich would take for markup, or a terminal for a command."""
    from rich.markup import escape  # noqa: PLC0415 - only on a terminal

    return escape("".join(c if c.isprintable() else "?" for c in text))
