# SPDX-License-Identifier: BSD-3-Clause
"""What the suites watch from outside: errors, processes, descriptors, the state of this process."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, Iterator, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def raises(kind: type[BaseException], what: str) -> Iterator[None]:
    """Fail with ``what`` unless exactly such an error comes out of the block."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, nothing was raised")


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Fail if the block changes the environment or the directory of this process."""
    before = dict(os.environ), os.getcwd()
    yield
    assert (dict(os.environ), os.getcwd()) == before, "environment or directory was changed"


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves open descriptors or dead children of this process."""
    open_before, dead_before = len(os.listdir("/proc/self/fd")), zombies()
    yield
    # Threads of a pool may need a moment to let go of their pipes.
    eventually(
        lambda: len(os.listdir("/proc/self/fd")) <= open_before, "descriptors closed", limit_s=2.0
    )
    assert zombies() <= dead_before, "dead children were not waited for"


def zombies() -> set[int]:
    """Return the process ids of this process's children that ended and were not waited for."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # The name in brackets may hold blanks; state and parent follow it.
            state, parent = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.add(int(pid))
    return found


def processes_with(marker: str) -> list[int]:
    """Return the process ids of all living processes that have ``marker`` in an argument."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(pid) != os.getpid() and marker in Path("/proc", pid, "cmdline").read_text(
                "utf-8", "surrogateescape"
            ):
                found.append(int(pid))
    return found


def eventually(condition: Callable[[], T], what: str, *, limit_s: float = 5.0) -> T:
    """Return the first true answer of ``condition``; fail with ``what`` after ``limit_s`` seconds."""
    end = time.monotonic() + limit_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def within(limit_s: float, what: str) -> Iterator[None]:
    """Fail if the block takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= limit_s, f"{what} took {took:.1f} s, at most {limit_s:g} s are allowed"


def is_one_line(text: str) -> bool:
    """Tell whether ``text`` says something and has no line break."""
    return bool(text.strip()) and text.splitlines() == [text]
