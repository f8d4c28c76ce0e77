# SPDX-License-Identifier: BSD-3-Clause
"""A node that dies while data is brought home: remote execution is told not to wait for it."""

from __future__ import annotations

import threading
from typing import Any, Sequence

import pytest

from scrjob._clock import SystemClock
from scrjob.errors import ConfigError
from scrjob.param import Param
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult
from scrjob.supervisor.lostnodes import heeded
from scrjob.testing.fakes import FakeJobEnv, FakeRunner, fake_context, said

LIMIT_S = 20.0
ALIVE = ["n1", "n2"]


class Manager:
    heartbeats: Sequence[str] = ("ping",)


class Waiting(RemoteExec):
    """A long call that ends when the others are done and the lost are given up."""

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        end = threading.Event()
        clock = SystemClock()
        began = clock.monotonic()
        result = RemoteExecResult(argv, nodes)
        while self.lost is not None and not self.lost():
            end.wait(0.05)
            assert clock.monotonic() - began < LIMIT_S, "nothing was lost"
        for node in nodes:
            if node not in (self.lost() if self.lost else ()):
                result.set_rc(node, 0)
        return result


class Network:
    """Answers fping for the living; looking up addresses gives the names back."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.rounds = 0

    def answer(self, argv: Sequence[str]) -> Any:
        if argv[0] != "fping":
            return said(argv, "n1 n1\nn2 n2\nn3 n3\n")
        self.rounds += 1
        if self.rounds > 2:
            self.dead.add("n3")
        nodes = argv[argv.index("--") + 1 :]
        tries = int(argv[argv.index("-C") + 1])
        lines = [f"{n} : {' '.join(['-' if n in self.dead else '0.1'] * tries)}\n" for n in nodes]
        return said(argv, stderr="".join(lines), returncode=int(bool(self.dead & set(nodes))))


def job(**settings: str) -> Any:
    network = Network()

    class Runner(FakeRunner):
        def beside(self, function: Any, name: str) -> None:
            threading.Thread(target=function, daemon=True).start()

    context = fake_context(settings, runner=Runner(network.answer), clock=SystemClock())
    jobenv = FakeJobEnv(context=context)
    jobenv.param = Param(environ=settings, prefix="/nowhere")
    jobenv.resmgr = Manager()
    jobenv.rexec = Waiting()
    return jobenv


def test_a_node_that_dies_meanwhile_is_not_waited_for() -> None:
    jobenv = job(SCR_HEARTBEAT_PING="0.2", SCR_HEARTBEAT_PATIENCE="1")
    plain = jobenv.rexec
    lines: list[str] = []
    with heeded(jobenv, [*ALIVE, "n3"], lines.append):
        result = jobenv.rexec.bounded(60.0).rexec(["copy"], [*ALIVE, "n3"], jobenv)
    assert [result.rc(node) for node in ("n1", "n2", "n3")] == [0, 0, None]
    assert any("n3" in line and "not waiting" in line for line in lines), lines
    assert jobenv.rexec is plain


def test_without_a_heartbeat_everything_is_as_it_was() -> None:
    jobenv = job(SCR_HEARTBEAT="0")
    plain = jobenv.rexec
    with heeded(jobenv, ALIVE, pytest.fail):
        assert jobenv.rexec is plain


def test_a_wrong_setting_is_told() -> None:
    with (
        pytest.raises(ConfigError, match="SCR_HEARTBEAT_PING"),
        heeded(job(SCR_HEARTBEAT_PING="often"), ALIVE, pytest.fail),
    ):
        pass
