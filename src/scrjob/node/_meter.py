# SPDX-License-Identifier: BSD-3-Clause
"""How fast the copy of a node may be, how far it is, and whether it is to stop."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Optional

from scrjob.node._transfer import StoppedError

if TYPE_CHECKING:
    from scrjob.protocols import Clock

REPORT_S = 1.0
BURST_S = 0.25  # a pause does not give the right to more than this afterwards
LEAST_PIECE_BYTES = 4096
_PREFIX = "scrjob.progress."


class Meter:
    """Counts bytes for all threads.

    Args:
        clock: measures and waits.
        bytes_per_s: so many at most, over all threads; None: no limit.
        report: where to tell how far it is; None: nowhere.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        bytes_per_s: Optional[int] = None,
        report: Optional[Progress] = None,
    ) -> None:
        self.clock = clock
        self.stopped = False
        self._rate = bytes_per_s
        self._report = report
        self._lock = threading.Lock()
        self._due = clock.monotonic()

    def piece(self, size: int) -> int:
        """Return how many bytes to copy at once, at most ``size``: with a limit no second's worth."""
        if self._rate is None:
            return size
        return max(1, min(size, max(LEAST_PIECE_BYTES, int(self._rate * BURST_S))))

    def spend(self, size: int) -> None:
        """Count bytes that are about to be copied; waits as long as the limit says.

        Raises:
            StoppedError: ``stop`` was called.
        """
        if self.stopped:
            self.check()
        if self._rate is not None:
            with self._lock:
                now = self.clock.monotonic()
                start = max(self._due, now - BURST_S)
                self._due = start + size / self._rate
            if start > now:
                self.clock.sleep(start - now)
        if self._report is not None:
            with self._lock:
                self._report.add(size, 0, self.clock)

    def check(self) -> None:
        """Raise StoppedError if the copy is to stop."""
        if self.stopped:
            raise StoppedError("nobody waits for this copy any more: it was given up")

    def count_files(self, files: int, skipped_bytes: int = 0) -> None:
        """Count files that are done with, and their bytes if they need not be copied."""
        if self._report is not None:
            with self._lock:
                self._report.add(skipped_bytes, files, self.clock)

    def stop(self) -> None:
        """Let all threads end at their next piece."""
        self.stopped = True

    def close(self) -> None:
        """Take the report away."""
        if self._report is not None:
            with self._lock:
                self._report.remove()


class Progress:
    """The file ``scrjob.progress.<host>``: a JSON object, replaced at most once a second.

    Keys: ``total_bytes``, ``done_bytes``, ``total_files``, ``done_files``, ``updated`` (Unix seconds). The
    totals are what lies in cache, so what is done may end a little below or above.

    Args:
        directory: of the dataset in the prefix.
        host: name of this node.
        temporary: name in the same directory.
        total_bytes: of all files in cache.
        total_files: their number.
    """

    def __init__(
        self, directory: str, host: str, temporary: str, *, total_bytes: int, total_files: int
    ) -> None:
        self._path = os.path.join(directory, f"{_PREFIX}{host}")
        self._temporary = os.path.join(directory, temporary)
        self._total = total_bytes, total_files
        self._bytes = self._files = 0
        self._told = float("-inf")

    def add(self, size: int, files: int, clock: Clock) -> None:
        """Count, and tell if the last time is a second ago."""
        self._bytes += size
        self._files += files
        now = clock.monotonic()
        if now - self._told >= REPORT_S:
            self._told = now
            self._write(clock.now())

    def _write(self, updated: float) -> None:
        content = {
            "total_bytes": self._total[0],
            "done_bytes": self._bytes,
            "total_files": self._total[1],
            "done_files": self._files,
            "updated": updated,
        }
        # Not to be able to tell is no reason not to copy.
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            flags |= os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO of this name must not keep us waiting
            fd = os.open(self._temporary, flags, 0o666)
            try:
                os.write(fd, json.dumps(content).encode("ascii"))
            finally:
                os.close(fd)
            os.replace(self._temporary, self._path)

    def remove(self) -> None:
        """Remove the file."""
        for path in (self._temporary, self._path):
            with contextlib.suppress(OSError):
                os.unlink(path)


def cache_extent(directory: str) -> tuple[int, int]:
    """Return bytes and number of the files of a dataset in cache, metadata included."""
    size = files = 0
    for place in (directory, os.path.join(directory, ".scr")):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
                    files += 1
    return size, files
