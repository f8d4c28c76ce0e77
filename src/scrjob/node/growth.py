# SPDX-License-Identifier: BSD-3-Clause
"""Do files in this node's cache grow? Prints one line that changes when any of them does."""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple, Sequence

from scrjob._clock import Deadline, SystemClock

ENTRY_LIMIT = 1_000_000
TIME_LIMIT_S = 10.0


class Extent(NamedTuple):
    """What lies below some directories: files, their bytes, the latest change (ns since the epoch)."""

    files: int
    size_bytes: int
    changed_ns: int


class TooLargeError(Exception):
    """There is more than can be looked at in the time or number allowed."""


def measure(directories: Sequence[str], deadline: Deadline, limit: int = ENTRY_LIMIT) -> Extent:
    """Return what lies below the directories. Links are not followed.

    What vanishes meanwhile, and a directory that is not there, counts as empty.

    Raises:
        TooLargeError: more than ``limit`` entries, or the deadline has passed.
        OSError: a directory cannot be read.
    """
    files = size = changed = seen = 0
    left = list(directories)
    while left:
        if deadline.passed():
            raise TooLargeError(f"not all of {seen} entries could be looked at in time")
        try:
            entries = list(os.scandir(left.pop()))
        except FileNotFoundError:
            continue
        seen += len(entries)
        if seen > limit:
            raise TooLargeError(f"more than {limit} entries")
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            changed = max(changed, status.st_mtime_ns)
            if stat.S_ISDIR(status.st_mode):
                left.append(entry.path)
            else:
                files += 1
                size += status.st_size
    return Extent(files, size, changed)


def main(argv: Sequence[str]) -> int:
    """``growth DIR...``: print files, bytes and time of the latest change; returns 0, 1 if not known."""
    try:
        extent = measure(argv, Deadline(SystemClock(), TIME_LIMIT_S))
    except (OSError, TooLargeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(" ".join(map(str, extent)) + "\n")
    return 0
