# SPDX-License-Identifier: BSD-3-Clause
"""The table of processes as /proc shows it, and the ending of whole trees of them.

Source: proc(5), ``/proc/[pid]/stat`` and ``/proc/[pid]/status``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob._clock import SystemClock, wait_for

if TYPE_CHECKING:
    from scrjob.protocols import Clock

KILL_LIMIT_S = (
    5.0  # a process that does not vanish after KILL sits in the kernel: nothing more to do
)
GONE_STATES = "ZXx"
STOPPED_STATES = "Tt"


class ProcessInfo(NamedTuple):
    """One process: ``start`` (clock ticks since boot) tells it from a later one of the same id."""

    pid: int
    ppid: int
    pgrp: int
    state: str
    start: int

    @property
    def alive(self) -> bool:
        """Tell whether it still runs: it is no zombie."""
        return self.state not in GONE_STATES


def read_process(pid: int) -> Optional[ProcessInfo]:
    """Return one process, zombies included, None if there is none of that id."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may hold anything: the fields begin after the last bracket.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessInfo(
        pid, int(fields[1]), int(fields[2]), fields[0].decode("ascii"), int(fields[19])
    )


def is_alive(pid: int, start: int) -> bool:
    """Tell whether the very process that began at ``start`` still runs."""
    process = read_process(pid)
    return process is not None and process.start == start and process.alive


def process_table() -> dict[int, ProcessInfo]:
    """Return all processes that we can see."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read_process(int(name))
            if process is not None:
                table[process.pid] = process
    return table


def descendants(root: int, table: Optional[dict[int, ProcessInfo]] = None) -> list[ProcessInfo]:
    """Return the living processes below ``root``, parents before children, ``root`` left out."""
    children: dict[int, list[ProcessInfo]] = {}
    for process in (process_table() if table is None else table).values():
        children.setdefault(process.ppid, []).append(process)
    found: list[ProcessInfo] = []
    level = [root]
    while level:
        below = [process for pid in level for process in children.get(pid, ())]
        found.extend(below)
        level = [process.pid for process in below]
    return [process for process in found if process.alive]


def send_signal(pid: int, number: int) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def reap_children() -> dict[int, int]:
    """Collect all children that have ended; returns process id -> wait status."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def kill_tree(root: int, *, clock: Optional[Clock] = None, limit_s: float = KILL_LIMIT_S) -> bool:
    """KILL everything below ``root``, which itself lives on; True when nothing is left.

    ``root`` must adopt the orphans of its tree (pid 1 of a namespace, or a subreaper), or what is
    below a killed process escapes.
    """

    def none_left() -> bool:
        left = descendants(root)
        for process in left:
            send_signal(process.pid, signal.SIGKILL)
        return not left

    return wait_for(none_left, clock=clock or SystemClock(), limit_s=limit_s)


def stop_tree(root: int, *, clock: Optional[Clock] = None, limit_s: float = KILL_LIMIT_S) -> bool:
    """SIGSTOP ``root`` and everything below it; True when all are stopped."""

    def all_stopped() -> bool:
        own = read_process(root)
        running = [] if own is None else [own]
        running += descendants(root)
        running = [p for p in running if p.alive and p.state not in STOPPED_STATES]
        for process in running:
            send_signal(process.pid, signal.SIGSTOP)
        return not running

    return wait_for(all_stopped, clock=clock or SystemClock(), limit_s=limit_s)


def continue_tree(root: int) -> None:
    """SIGCONT ``root`` and everything below it."""
    for process in descendants(root):
        send_signal(process.pid, signal.SIGCONT)
    send_signal(root, signal.SIGCONT)


def pid_inside(pid: int) -> Optional[int]:
    """Return the id that a process has in its own namespace, None if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def has_mark(pid: int, mark: bytes) -> bool:
    """Tell whether a process was started with ``mark`` (``NAME=value``) in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # gone, or not ours
        return False


def exit_code(status: int) -> int:
    """Return what a shell shows for a wait status: the exit code, or 128+N for signal N."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def describe_status(status: int) -> str:
    """Return ``was killed by signal 9 (SIGKILL)`` or ``ended with exit code 3``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unnamed"
        return f"was killed by signal {number} ({name})"
    return f"ended with exit code {os.WEXITSTATUS(status)}"
