# SPDX-License-Identifier: BSD-3-Clause
"""What are these processes doing? Stacks of hung ranks, as well as the node can tell.

Three sources, the first that answers for a process is taken: py-spy if it is installed (reads a
process from outside, stopped ones too), the faulthandler that ``scrjob.client`` arms when
SCR_STACK_DIR is set (sends the process STACK_SIGNAL, which writes a file), and what /proc shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob._clock import wait_for
from scrjob.errors import ScrError

if TYPE_CHECKING:
    from scrjob.protocols import Clock, CommandRunner

STACK_SIGNAL = signal.SIGUSR2
PY_SPY_TIMEOUT_S = 10.0
ANSWER_S = 1.0  # how long a signalled process has to write its stacks
READ_LIMIT = 1 << 16
PROC_FILES = ("wchan", "syscall", "stack")


def describe(
    pids: Sequence[int],
    *,
    runner: CommandRunner,
    clock: Clock,
    stack_dir: Optional[str],
    hostname: str,
) -> str:
    """Return a readable account of each process, dead ones included. Never raises for a sick process.

    Args:
        pids: process ids as this process sees them.
        runner: starts py-spy.
        clock: measures the wait for a signalled process.
        stack_dir: where signalled processes write, ``<hostname>.<pid>.txt``; None: do not signal.
        hostname: this host's, part of those names.
    """
    parts = []
    for pid in pids:
        text = (
            _py_spy(pid, runner)
            or _faulthandler(pid, clock, stack_dir, hostname)
            or "(no Python stack to be had)\n"
        )
        parts.append(f"== process {pid} {_proc_line(pid)}\n{text}{_kernel(pid)}")
    return "\n".join(parts)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(READ_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _proc_line(pid: int) -> str:
    command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    state = ""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("State:"):
            state = line.partition(":")[2].strip()
    return f"[{state}] {command}" if state else "[gone]"


def _kernel(pid: int) -> str:
    lines = []
    for name in PROC_FILES:
        text = _read(f"/proc/{pid}/{name}").strip()
        if text:
            lines.append(f"  {name}: {text.splitlines()[0] if name != 'stack' else text}")
    return "\n".join(lines) + "\n" if lines else ""


def _py_spy(pid: int, runner: CommandRunner) -> str:
    program = shutil.which("py-spy")
    if program is None:
        return ""
    try:
        answer = runner.run(
            [program, "dump", "--nonblocking", "--pid", str(pid)], timeout_s=PY_SPY_TIMEOUT_S
        )
    except ScrError:
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _faulthandler(pid: int, clock: Clock, stack_dir: Optional[str], hostname: str) -> str:
    if not stack_dir or not _catches(pid):
        return ""
    path = os.path.join(stack_dir, f"{hostname}.{_inner_pid(pid)}.txt")
    before = _size(path)
    try:
        os.kill(pid, STACK_SIGNAL)
    except (ProcessLookupError, PermissionError):
        return ""
    wait_for(lambda: _size(path) > before, clock=clock, limit_s=ANSWER_S)
    return _read(path)[before:]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _catches(pid: int) -> bool:
    """Tell whether the process has a handler for the signal: without one it would die of it."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (STACK_SIGNAL - 1) & 1)
    return False


def _inner_pid(pid: int) -> int:
    """Return the pid as the process itself sees it: in a pid namespace they differ."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def main(argv: Sequence[str]) -> int:
    """``stacks [--dir DIR] NODE=PID,PID...``: print the stacks of this node's processes; returns 0.

    The words for other nodes are passed over, so that all nodes can be sent the same command.
    """
    from scrjob._context import system_context  # noqa: PLC0415 - the program's own edge

    context = system_context()
    words = list(argv)
    stack_dir = None
    if words[:1] == ["--dir"]:
        stack_dir = words[1]
        words = words[2:]
    for word in words:
        node, _, numbers = word.rpartition("=")
        if node == context.hostname:
            sys.stdout.write(
                describe(
                    [int(number) for number in numbers.split(",")],
                    runner=context.runner,
                    clock=context.clock,
                    stack_dir=stack_dir,
                    hostname=node,
                )
            )
    return 0
