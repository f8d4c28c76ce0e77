# SPDX-License-Identifier: BSD-3-Clause
"""Job steps: the directory that describes one, who its processes are, and how to end all of it.

::

    steps/N/plan.json       what to start where: see Plan
    steps/N/words           program and arguments, each closed by NUL
    steps/N/agent           what mpiexec runs in place of srun
    steps/N/job             job id and prefix of the program, each closed by NUL
    steps/N/starter         "PID START": the process that runs the step
    steps/N/failure         there if a node could not do its part
    steps/N/keeper.X        "NODE PID START": on a node, looks after what the step started there
    steps/N/rank.R          "NODE PID" (as the node counts), then "WAIT-STATUS SECONDS" when it ended

Everything is found again from the directory alone, so that a supervisor that comes later can end
a step that its dead predecessor left.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob._clock import SystemClock, wait_for
from scrjob._fsio import read_bounded
from scrjob.errors import NotInAllocationError, ScrError
from scrjob.localrm import _proc, _start
from scrjob.localrm._wire import join_words

if TYPE_CHECKING:
    from scrjob.localrm.client import Allocation
    from scrjob.protocols import Clock

KILL_LIMIT_S = 5.0


class Plan(NamedTuple):
    """A step: how many ranks on which node, in rank order; ``mpiexec`` None for plain programs."""

    hosts: list[tuple[str, int]]
    mpiexec: Optional[str]
    python: str

    @property
    def nodes(self) -> list[str]:
        """Return the node of each rank."""
        return [node for node, count in self.hosts for _ in range(count)]


class Rank(NamedTuple):
    """One rank; ``pid`` as its node counts; ``status`` None and ``when`` 0 while it has not ended."""

    rank: int
    node: str
    pid: int
    status: Optional[int]
    when: float


def place(ranks: int, nodes: Sequence[str]) -> list[tuple[str, int]]:
    """Return how many of ``ranks`` each node gets: blocks in order, sizes that differ by one at most."""
    share, more = divmod(ranks, len(nodes))
    hosts = [(node, share + (index < more)) for index, node in enumerate(nodes)]
    return [(node, count) for node, count in hosts if count]


def allocation_path(step: str) -> str:
    """Return the directory of the allocation to which a step belongs."""
    return os.path.dirname(os.path.dirname(step))


def create(allocation: Allocation, plan: Plan, argv: Sequence[str]) -> str:
    """Make the directory of a new step and return it."""
    base = os.path.join(allocation.path, "steps")
    number = len(os.listdir(base))
    while True:
        step = os.path.join(base, str(number))
        try:
            os.mkdir(step, 0o700)
            break
        except FileExistsError:
            number += 1
    _write(step, "words", join_words([os.fsencode(word) for word in argv]))
    _write(step, "plan.json", json.dumps(plan._asdict()).encode("ascii"))
    agent = _start.command(plan.python, "agent_exec", step)
    script = f'#!/bin/sh\nexec {shlex.join(agent)} "$@"\n'
    _write(step, "agent", os.fsencode(script))
    os.chmod(os.path.join(step, "agent"), 0o700)
    return step


def read_plan(step: str) -> Plan:
    """Return the plan of a step."""
    with open(os.path.join(step, "plan.json"), encoding="ascii") as file:
        record = json.load(file)
    return Plan(
        [(node, count) for node, count in record["hosts"]], record["mpiexec"], record["python"]
    )


def read_words(step: str) -> list[bytes]:
    """Return program and arguments of a step."""
    return read_bounded(os.path.join(step, "words")).split(b"\0")[:-1]


def record_job(step: str, job: Sequence[bytes]) -> None:
    """Note of which job a step is."""
    _write(step, "job", join_words(job))


def of(allocation: Allocation, job: Sequence[bytes]) -> list[str]:
    """Return the steps of a job, those that have ended too."""
    base = os.path.join(allocation.path, "steps")
    paths = [os.path.join(base, number) for number in _names(base, "")]
    return [step for step in paths if _read(step, "job") == join_words(job)]


def running(path: str) -> list[str]:
    """Return the steps of the allocation at ``path`` that have not ended, in the order of their numbers."""
    base = os.path.join(path, "steps")
    found = [os.path.join(base, number) for number in sorted(_names(base, ""), key=int)]
    return [step for step in found if starter(step) is not None]


def record_starter(step: str) -> None:
    """Note that this process runs the step."""
    _write(step, "starter", _identity(os.getpid()))


def record_failure(step: str) -> None:
    """Note that a node could not do its part."""
    _write(step, "failure", b"")


def has_failed(step: str) -> bool:
    """Tell whether a node could not do its part: it died, or could not start what it was to start."""
    return os.path.exists(os.path.join(step, "failure"))


def record_keeper(step: str, name: str, pid: int) -> None:
    """Note a process that looks after the step's programs on a node."""
    _write(step, f"keeper.{name}", _identity(pid))


def record_start(step: str, rank: int, node: str, pid: int) -> None:
    """Note where a rank runs."""
    _write(step, f"rank.{rank}", b"%s %d\n" % (os.fsencode(node), pid))


def record_end(step: str, rank: int, status: int, when: float) -> None:
    """Note a rank's wait status, and when it ended on the monotonic clock."""
    path = os.path.join(step, f"rank.{rank}")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d %.6f\n" % (status, when))
    finally:
        os.close(fd)


def _write(step: str, name: str, data: bytes) -> None:
    """Write a small record so that no reader sees half of it; it need not outlive the machine."""
    path = os.path.join(step, name)
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.replace(f"{path}.new", path)


def _identity(pid: int) -> bytes:
    process = _proc.read_process(pid)
    return b"%d %d\n" % (pid, process.start if process else 0)


def ranks(step: str) -> list[Rank]:
    """Return the ranks that have reported so far, in rank order; [] when the step is gone."""
    found = []
    for name in _names(step, "rank."):
        lines = _read(step, name).splitlines()
        if not lines:
            continue
        node, pid = lines[0].split()
        status, when = lines[1].split() if len(lines) > 1 else (None, b"0")
        found.append(
            Rank(
                int(name.partition(".")[2]),
                os.fsdecode(node),
                int(pid),
                None if status is None else int(status),
                float(when),
            )
        )
    return sorted(found)


def _names(step: str, start: str) -> list[str]:
    try:
        names = os.listdir(step)
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(start) and not name.endswith(".new")]


def _read(step: str, name: str) -> bytes:
    try:
        return read_bounded(os.path.join(step, name))
    except FileNotFoundError:
        return b""


def keepers(step: str) -> list[int]:
    """Return the living processes that look after the step on its nodes."""
    return [pid for name in _names(step, "keeper.") for pid in _alive(step, name)]


def _alive(step: str, name: str) -> list[int]:
    words = _read(step, name).split()
    if len(words) != 2 or not _proc.is_alive(int(words[0]), int(words[1])):  # noqa: PLR2004 - pid, start
        return []
    return [int(words[0])]


def starter(step: str) -> Optional[int]:
    """Return the process that runs the step, None if it is gone."""
    found = _alive(step, "starter")
    return found[0] if found else None


def rank_processes(allocation: Allocation, step: str) -> dict[int, int]:
    """Return rank -> process id as this side sees it, of the ranks that still run.

    Raises:
        ScrError: the allocation cannot be asked.
    """
    running = {(r.node, r.pid): r.rank for r in ranks(step) if r.status is None}
    wanted = {node for node, _ in running}
    table = _proc.process_table()
    found = {}
    for node in allocation.live_status().nodes:
        if node.name not in wanted or not node.pid:
            continue
        for process in _proc.descendants(node.pid, table):
            rank = running.get((node.name, _proc.pid_inside(process.pid) or 0))
            if rank is not None:
                found[rank] = process.pid
    return found


def signal_ranks(allocation: Allocation, step: str, number: int) -> None:
    """Send a signal to all ranks that still run, on whichever node."""
    for pid in rank_processes(allocation, step).values():
        _proc.send_signal(pid, number)


def kill(
    allocation: Allocation, step: str, *, grace_s: float, clock: Optional[Clock] = None
) -> bool:
    """End the whole step: TERM to its ranks, a grace, KILL to everything; True if nothing is left.

    Works on stopped nodes too, for KILL reaches stopped processes, and needs no answer from any node.
    """
    clock = clock or SystemClock()
    if starter(step) is not None:
        try:
            signal_ranks(allocation, step, signal.SIGTERM)
        except ScrError:
            grace_s = 0.0  # the allocation is over, or does not know its nodes: no politeness left
        wait_for(
            lambda: starter(step) is None or not _can_end(allocation, step),
            clock=clock,
            limit_s=grace_s,
        )

    def nothing_left() -> bool:
        roots = [*keepers(step)]
        first = starter(step)
        if first is not None:
            roots.append(first)
        for root in roots:
            _kill_with_descendants(root)
        return not roots

    return wait_for(nothing_left, clock=clock, limit_s=KILL_LIMIT_S)


def _can_end(allocation: Allocation, step: str) -> bool:
    """Tell whether some rank is left that could still end by itself: it is not stopped."""
    try:
        left = rank_processes(allocation, step).values()
    except ScrError:
        return False
    states = [
        process.state for process in map(_proc.read_process, left) if process and process.alive
    ]
    return not states or any(state not in _proc.STOPPED_STATES for state in states)


def _kill_with_descendants(root: int) -> None:
    """KILL a process and all below it, from the bottom up so that nothing is re-parented away first."""
    for process in reversed(_proc.descendants(root)):
        _proc.send_signal(process.pid, signal.SIGKILL)
    _proc.send_signal(root, signal.SIGKILL)


def find(allocation: Allocation, record: str) -> str:
    """Return the directory of the step that ``record`` names.

    Raises:
        NotInAllocationError: it belongs to another allocation.
    """
    job_id, _, number = record.partition(".")
    if job_id != allocation.info.job_id or not number.isdigit():
        raise NotInAllocationError(
            f"step {record!r} is none of allocation {allocation.info.job_id}"
        )
    return os.path.join(allocation.path, "steps", number)


def name(step: str) -> str:
    """Return the text by which ``find`` finds a step again: ``JOBID.N``."""
    return f"{os.path.basename(allocation_path(step))}.{os.path.basename(step)}"
