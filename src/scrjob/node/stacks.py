# SPDX-License-Identifier: BSD-3-Clause
"""What are these processes doing? Stacks of hung ranks, as well as the node can tell.

Three sources, the first that answers for a process is taken: py-spy if it is installed (reads a
process from outside, stopped ones too), the faulthandler that ``scrjob.client`` arms when
SCR_STACK_DIR is set (sends the process STACK_SIGNAL, which writes a file), and what /proc shows of
its threads. All of it is bounded: a hung node must not hang those who look at it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Collection, Mapping, Optional, Sequence

from scrjob._clock import Deadline, wait_for
from scrjob.errors import ScrError

if TYPE_CHECKING:
    from scrjob.protocols import Clock, CommandRunner

STACK_SIGNAL = signal.SIGUSR2
LOOK_S = 8.0  # for all processes of a node together
PY_SPY_TIMEOUT_S = 4.0
ANSWER_S = 2.0  # how long signalled processes have to write their stacks
READ_LIMIT = 1 << 16
MAPS_LIMIT = 1 << 20
COMMAND_SHOWN = 1000
THREADS_SHOWN = 16  # of each process
OUTPUT_BYTES = 1 << 18
ENVIRON_LIMIT = 1 << 20
RANK_VARIABLES = ("SCR_LOCAL_RANK", "PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
PROC_FILES = ("wchan", "syscall", "stack")
STOPPED = "Tt"


def describe(
    pids: Sequence[int],
    *,
    runner: CommandRunner,
    clock: Clock,
    stack_dir: Optional[str],
    hostname: str,
    limit: int = OUTPUT_BYTES,
) -> str:
    """Return a readable account of each process, dead ones included. Never raises for a sick process.

    The first line counts the processes by state, for that is often the answer: among ranks that wait
    (S) or poll (R) the one that somebody stopped (T) or that waits for a disk (D).

    Args:
        pids: process ids as this process sees them.
        runner: starts py-spy.
        clock: measures the waits.
        stack_dir: where signalled processes write, ``<hostname>.<pid>.txt``; None: do not signal.
        hostname: this host's, part of those names.
        limit: about so many characters are returned, and more are cut off.
    """
    if not pids:
        return "no process of the step is here\n"
    deadline = Deadline(clock, LOOK_S)
    states = {pid: _state(pid) for pid in pids}
    answers = {pid: _py_spy(pid, runner, deadline) for pid in pids}
    silent = [pid for pid in pids if not answers[pid] and states[pid][:1] not in STOPPED]
    answers.update(_faulthandler(silent, clock, stack_dir, hostname))
    found = list(states.values())
    counts = {state: found.count(state) for state in found}
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    parts = [f"processes: {len(pids)} ({said})\n"]
    for pid in sorted(pids, key=lambda pid: counts[states[pid]]):  # the odd ones first
        text = answers[pid] or "(no Python stack to be had)\n"
        command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:COMMAND_SHOWN]
        parts.append(
            f"== process {pid}{_rank(pid)} [{states[pid]}] {command}\n{text}{_threads(pid)}"
        )
    whole = "\n".join(parts)
    return whole if len(whole) <= limit else f"{whole[:limit]}\n(cut off here)\n"


def _read(path: str, limit: int = READ_LIMIT) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _status(pid: int, field: str) -> str:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{field}:"):
            return line.partition(":")[2].strip()
    return ""


def _state(pid: int) -> str:
    """Return a process's state, as "T (stopped)"; "gone" if there is none of that id."""
    return _status(pid, "State") or "gone"


def _rank(pid: int) -> str:
    """Return the rank's number by its environment, "" if no known variable tells it."""
    pairs = (
        text.partition("=") for text in _read(f"/proc/{pid}/environ", ENVIRON_LIMIT).split("\0")
    )
    environ = {name: value for name, _, value in pairs}
    return next((f" rank {environ[name]}" for name in RANK_VARIABLES if name in environ), "")


def _threads(pid: int) -> str:
    """Return what the kernel shows of each thread, one line for each that says something."""
    lines = []
    try:
        threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
    except OSError:
        return ""
    for thread in threads[:THREADS_SHOWN]:
        directory = f"/proc/{pid}/task/{thread}"
        # "PID (NAME) STATE ...": the name may hold anything.
        head, _, rest = _read(f"{directory}/stat").rpartition(")")
        said = [f"{name}: {text}" for name in PROC_FILES if (text := _kernel(directory, name))]
        words = [f"thread {thread} ({head.partition('(')[2]}) {rest.strip()[:1]}", *said]
        lines.append("  " + "  ".join(words))
    if len(threads) > THREADS_SHOWN:
        lines.append(f"  and {len(threads) - THREADS_SHOWN} more threads")
    return "\n".join(lines) + "\n"


def _kernel(directory: str, name: str) -> str:
    """Return one of the kernel's files in one line, "" if there is nothing in it."""
    text = "; ".join(_read(f"{directory}/{name}").split("\n")).strip("; ")
    return "" if text == "0" else text  # wchan of a thread that does not wait, or for root only


def _py_spy(pid: int, runner: CommandRunner, deadline: Deadline) -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    program = beside if os.access(beside, os.X_OK) else shutil.which("py-spy")
    time_s = min(PY_SPY_TIMEOUT_S, deadline.left())
    if program is None or time_s <= 0 or not _is_python(pid):
        return ""
    try:
        answer = runner.run([program, "dump", "--nonblocking", "--pid", str(pid)], timeout_s=time_s)
    except ScrError:
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _is_python(pid: int) -> bool:
    return "python" in _read(f"/proc/{pid}/maps", MAPS_LIMIT)


def _faulthandler(
    pids: Sequence[int], clock: Clock, stack_dir: Optional[str], hostname: str
) -> dict[int, str]:
    """Let processes write their stacks, all at once; returns what each has written."""
    if not stack_dir:
        return dict.fromkeys(pids, "")
    sizes: dict[str, int] = {}
    paths = {pid: os.path.join(stack_dir, f"{hostname}.{_inner_pid(pid)}.txt") for pid in pids}
    for pid, path in paths.items():
        size = _size(path)
        # Without its file it is no client of ours, and without a handler it would die of the signal.
        if size is None or not _catches(pid):
            continue
        try:
            os.kill(pid, STACK_SIGNAL)
        except (ProcessLookupError, PermissionError):
            continue
        sizes[path] = size
    last: dict[str, int] = {}

    def all_written() -> bool:
        # Bit by bit: it is all there when it grows no more.
        nonlocal last
        before, last = last, {path: _size(path) or 0 for path in sizes}
        return last == before and all(last[path] > size for path, size in sizes.items())

    wait_for(all_written, clock=clock, limit_s=ANSWER_S)
    return {pid: _read(path)[sizes[path] :] if path in sizes else "" for pid, path in paths.items()}


def _size(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _catches(pid: int) -> bool:
    """Tell whether the process has a handler for the signal."""
    caught = _status(pid, "SigCgt")
    return bool(caught) and bool(int(caught, 16) >> (STACK_SIGNAL - 1) & 1)


def _inner_pid(pid: int) -> int:
    """Return the pid as the process itself sees it: in a pid namespace they differ."""
    numbers = _status(pid, "NSpid").split()
    return int(numbers[-1]) if numbers else pid


def main(argv: Sequence[str]) -> int:
    """``stacks [--dir DIR] [--limit BYTES] [--env NAME=VALUE]... [NODE=PID,PID...]...``.

    Prints the stacks of this node's processes of a step: those with all of the variables, or with the
    ids given for this node, and what they have started. The words for other nodes are passed over, so
    that all nodes can be sent the same command. Returns 0.
    """
    import getopt  # noqa: PLC0415 - a tenth of argparse's start-up time

    from scrjob._context import system_context  # noqa: PLC0415 - the program's own edge

    context = system_context()
    options, words = getopt.getopt(list(argv), "", ["dir=", "limit=", "env="])
    chosen = dict(options)
    pairs = [text.partition("=") for name, text in options if name == "--env"]
    environ = {name: value for name, _, value in pairs}
    known = [
        int(number)
        for node, numbers in (word.rpartition("=")[::2] for word in words)
        if node == context.hostname
        for number in numbers.split(",")
    ]
    sys.stdout.write(
        describe(
            ranks_of(environ, known),
            runner=context.runner,
            clock=context.clock,
            stack_dir=chosen.get("--dir"),
            hostname=context.hostname,
            limit=int(chosen.get("--limit", OUTPUT_BYTES)),
        )
    )
    return 0


def ranks_of(environ: Mapping[str, str], known: Collection[int]) -> list[int]:
    """Return the processes of a step on this node, those of the known ones that are gone included."""
    from scrjob.node.ranks import find_ranks  # noqa: PLC0415 - rarely needed

    found = find_ranks(environ, known, uid=os.geteuid(), without=os.getpid())
    return found + [pid for pid in known if not os.path.exists(f"/proc/{pid}")]
