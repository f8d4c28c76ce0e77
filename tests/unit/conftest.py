# SPDX-License-Identifier: BSD-3-Clause
"""Unit tests leave no process behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

import pytest


def children() -> set[str]:
    """Return the process ids of this process's children, dead ones that nobody waited for included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail a test that leaves a child process."""
    if not os.path.exists("/proc/thread-self/children"):
        yield  # the kernel was built without this list
        return
    before = children()
    yield
    assert children() <= before, "a child process was left behind"
