# SPDX-License-Identifier: BSD-3-Clause
"""The program that runs one job step: starts its ranks, watches them, ends with the real exit code.

With MPI the ranks are mpiexec's; without, each is started directly on its node. Either way the step
is over soon after a rank failed or a node died, and nothing of it is left then.
"""

from __future__ import annotations

import os
import selectors
import signal
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from scrjob._clock import Deadline, SystemClock, wait_for
from scrjob.errors import ScrError
from scrjob.localrm import _proc, _start, steps
from scrjob.localrm._linux import (
    EXIT_CANNOT_EXECUTE,
    adopt_orphans,
    fill_streams,
    spawn,
)
from scrjob.localrm._proc import exit_code
from scrjob.localrm.client import Allocation
from scrjob.localrm.rank import FORWARDED

if TYPE_CHECKING:
    from scrjob.localrm.remote import RemoteProgram

NODE_DEATH_GRACE_S = 0.7  # for the launcher to end by itself after a node's death
RANK_FAILURE_GRACE_S = 1.0  # for the other ranks to end after one has failed
TERM_GRACE_S = 1.0  # from TERM to KILL for plain ranks
TYPED_BYTES = 4096  # a line of a terminal is not longer
LOOK_EVERY_S = 0.5  # at the ranks' records
KEEPERS_GONE_LIMIT_S = 2.0
RANK = "SCR_LOCAL_RANK"
SIZE = "SCR_LOCAL_SIZE"
EXIT_NODE_DIED = 128 + signal.SIGKILL

MPI_DEFAULTS = {
    b"MPIR_CVAR_CH4_NETMOD": b"ofi",
    b"FI_PROVIDER": b"tcp",
    b"FI_TCP_IFACE": b"lo",
}
"""MPICH between virtual nodes: TCP over the loopback; shared memory between nodes it cannot have."""


def main(args: Sequence[str], environ: Mapping[bytes, bytes]) -> int:
    """Run the step to its end; returns the exit code of the first rank that failed, 128+N for signal N.

    Args:
        args: the step's directory.
        environ: environment of the ranks.
    """
    step = args[0]
    fill_streams()
    adopt_orphans()
    steps.record_starter(step)
    plan = steps.read_plan(step)
    kind = _PlainStep if plan.mpiexec is None else _MpiStep
    try:
        return kind(step, plan, environ).run()
    except (ScrError, OSError) as error:
        _say(str(error))
        return EXIT_CANNOT_EXECUTE
    finally:
        _proc.kill_tree(os.getpid())
        wait_for(lambda: not steps.keepers(step), clock=SystemClock(), limit_s=KEEPERS_GONE_LIMIT_S)


def _say(text: str) -> None:
    os.write(2, os.fsencode(f"scr_local: {text}\n".replace("\0", "?")))


class _Step:
    """What both kinds share: signals, news of nodes, and when to lose patience."""

    def __init__(self, step: str, plan: steps.Plan, environ: Mapping[bytes, bytes]) -> None:
        self.step = step
        self.plan = plan
        self.environ = environ
        self.clock = SystemClock()
        self.allocation = Allocation(steps.allocation_path(step), self.clock)
        self.selector = selectors.DefaultSelector()
        self.node_died_at: Optional[float] = None
        self.patience: Optional[Deadline] = None
        self._catch_signals()
        self._watch_nodes()

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *FORWARDED):
            signal.signal(number, _ignore)
        self.selector.register(reader, selectors.EVENT_READ, self._on_signal)

    def _on_signal(self, reader: Any) -> None:
        for number in set(os.read(reader, 4096)).intersection(FORWARDED):
            try:
                steps.signal_ranks(self.allocation, self.step, number)
            except ScrError:
                return  # the allocation is over: the loop sees it too

    def _watch_nodes(self) -> None:
        news = self.allocation.watch()
        self.selector.register(news, selectors.EVENT_READ, self._on_news)

    def _on_news(self, news: Any) -> None:
        mine = {node for node, _ in self.plan.hosts}
        try:
            for line in news.read():
                for node in line.get("nodes", [line]):
                    if node["name"] in mine and node["state"] == "dead":
                        self._node_died(f"{node['name']} died: {node['reason']}")
        except EOFError:
            self.selector.unregister(news)
            self._node_died("the allocation's manager died")

    def _node_died(self, what: str) -> None:
        if self.node_died_at is None:
            self.node_died_at = self.clock.monotonic()
            _say(f"step {steps.name(self.step)}: {what}; ending the step")
            self._lose_patience(NODE_DEATH_GRACE_S)

    def _lose_patience(self, seconds: float) -> None:
        deadline = Deadline(self.clock, seconds)
        if self.patience is None or self.patience.left() > deadline.left():
            self.patience = deadline

    def _turn(self, limit: float = LOOK_EVERY_S) -> None:
        """Wait for something to happen, and deal with it."""
        if self.patience is not None:
            limit = min(limit, self.patience.left())
        for key, _ in self.selector.select(limit):
            key.data(key.fileobj)

    def _code(self, otherwise: int) -> int:
        """Return the step's exit code from what is known of its ranks, ``otherwise`` if that is nothing."""
        ended = sorted((r.when, r.status) for r in steps.ranks(self.step) if r.status)
        if self.node_died_at is not None and (not ended or ended[0][0] > self.node_died_at):
            return EXIT_NODE_DIED
        if ended and ended[0][1] is not None:
            return exit_code(ended[0][1])
        return otherwise


class _MpiStep(_Step):
    """Ranks under MPICH's mpiexec, each in a wrapper that records its end."""

    def run(self) -> int:
        plan = self.plan
        hosts = ",".join(f"{node}:{count}" for node, count in plan.hosts)
        argv = [
            plan.mpiexec or "",
            *("-localhost", "127.0.0.1"),
            *("-launcher", "slurm", "-launcher-exec", os.path.join(self.step, "agent")),
            *("-hosts", hosts, "-n", str(len(plan.nodes))),
            *_start.command(plan.python, "rank", self.step, "PMI_RANK", "PMI_SIZE"),
        ]
        stdin = self._stdin()
        mpiexec = spawn(
            [os.fsencode(word) for word in argv],
            env={**MPI_DEFAULTS, **self.environ},
            streams=(stdin, 1, 2),
            death_signal=signal.SIGKILL,
        )
        if stdin:
            os.close(stdin)
        status: Optional[int] = None
        while status is None:
            self._turn()
            status = _proc.reap_children().get(mpiexec)
            if any(rank.status for rank in steps.ranks(self.step)):
                self._lose_patience(RANK_FAILURE_GRACE_S)
            if self.patience is not None and self.patience.passed():
                _proc.send_signal(mpiexec, signal.SIGKILL)
        if not steps.has_failed(self.step):
            return self._code(exit_code(status))
        news = Deadline(self.clock, NODE_DEATH_GRACE_S)
        while self.node_died_at is None and not news.passed():
            self._turn(news.left())  # the word of a node's death may come after its effect
        return self._code(EXIT_CANNOT_EXECUTE)

    def _stdin(self) -> int:
        """Return what mpiexec reads: our stdin, or a pipe that we fill from the terminal.

        mpiexec takes no input from a terminal whose foreground it is not. We do: the kernel stops us
        for it, and whoever watches the step lends us the terminal.
        """
        if not os.isatty(0):
            return 0
        reader, writer = os.pipe2(os.O_CLOEXEC)

        def relay(terminal: Any) -> None:
            try:
                typed = os.read(terminal, TYPED_BYTES)
                if typed:
                    os.write(writer, typed)
                    return
            except OSError:
                pass  # the terminal, or the program that read from it, is gone
            self.selector.unregister(terminal)
            os.close(writer)

        self.selector.register(0, selectors.EVENT_READ, relay)
        return reader


class _PlainStep(_Step):
    """Ranks started directly, told who they are by SCR_LOCAL_RANK and SCR_LOCAL_SIZE."""

    def run(self) -> int:
        cwd = os.getcwd()
        argv = _start.command(self.plan.python, "rank", self.step, RANK, SIZE)
        environ = {os.fsdecode(k): os.fsdecode(v) for k, v in self.environ.items()}
        environ[SIZE] = str(len(self.plan.nodes))
        self._running: dict[int, RemoteProgram] = {}
        for rank, node in enumerate(self.plan.nodes):
            self._running[rank] = self.allocation.start(
                node, argv, environ={**environ, RANK: str(rank)}, cwd=cwd, streams=(0, 1, 2)
            )
            self._register(rank)
        killed = False
        while self._running:
            self._turn()
            if self.patience is None or not self.patience.passed():
                continue
            if killed:
                break
            killed = True
            steps.signal_ranks(self.allocation, self.step, signal.SIGTERM)
            self.patience = Deadline(self.clock, TERM_GRACE_S)
        for program in self._running.values():
            program.close()
        return self._code(EXIT_CANNOT_EXECUTE if steps.has_failed(self.step) else 0)

    def _register(self, rank: int) -> None:
        program = self._running[rank]
        self.selector.register(program, program.events, lambda _: self._on_rank(rank))

    def _on_rank(self, rank: int) -> None:
        program = self._running[rank]
        self.selector.unregister(program)
        known = program.pid
        program.advance()
        if program.pid and not known:
            steps.record_keeper(self.step, str(rank), program.keeper)
        if not program.over:
            self._register(rank)
            return
        del self._running[rank]
        if program.failure is not None:
            steps.record_failure(self.step)
            if self.node_died_at is None:
                _say(f"rank {rank} on {program.node}: {program.failure}")
        if program.status != 0:
            self._lose_patience(RANK_FAILURE_GRACE_S)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor tells."""
