# SPDX-License-Identifier: BSD-3-Clause
"""The heartbeat alone: what an answer clears, which answers come too late, what is asked how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List, Sequence

import pytest

from scripted_cluster import Cluster
from scrjob.errors import CommandTimeoutError
from scrjob.nodetests.ping import Patience
from scrjob.supervisor.heartbeat import REST_S, Heartbeat, Pace
from scrjob.supervisor.pings import Pings
from scrjob.supervisor.suspicion import Suspicion

NODES = ["n1", "n2", "n3", "n4", "n5"]
USED = NODES[:4]


class Beats:
    """A heartbeat on a scripted cluster."""

    def __init__(self, tmp_path: Path, *kinds: str, echo_s: float = 30.0) -> None:
        self.cluster = Cluster(tmp_path, NODES, [])
        self.cluster.heartbeats = kinds
        self.told: list[str] = []
        self.suspicion = Suspicion()
        self.jobenv = self.cluster.jobenv()
        self.heartbeat = Heartbeat(self.jobenv, Pace(1.0, echo_s, 3.0), self.told.append)
        self.heartbeat.begin(self.suspicion, NODES)

    def wait(self, seconds: float) -> None:
        for _ in range(round(10 * seconds)):
            self.heartbeat.tend(lambda: USED)
            self.cluster.clock.advance(0.1)
            self.cluster.runner.go_on(end=False)

    def suspects(self) -> list[str]:
        return self.suspicion.suspects(self.cluster.clock.monotonic())

    def condemned(self) -> list[str]:
        clock = self.cluster.clock
        return [bad.node for bad in self.suspicion.condemned(clock.monotonic(), clock.now())]


def test_a_command_that_ran_clears_one_that_did_not(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "echo")
    beats.cluster.silent.add("n2")
    beats.wait(46)
    assert beats.suspects() == ["n2"]
    beats.cluster.silent.clear()
    beats.wait(14)
    assert beats.suspects() == []
    assert beats.condemned() == []


def test_answers_about_the_last_step_say_nothing_about_this_one(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping", "echo", echo_s=10.0)
    beats.wait(5)
    beats.cluster.power_off("n2")
    beats.wait(6)
    assert beats.condemned() == ["n2"]
    beats.suspicion = Suspicion()
    beats.heartbeat.begin(beats.suspicion, NODES)
    beats.cluster.dark.clear()
    beats.wait(4)
    beats.cluster.silent.clear()
    beats.wait(4)
    assert beats.suspects() == []


def test_a_round_of_pings_to_many_nodes_takes_its_time(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping")
    many = [f"n{i}" for i in range(1, 10_001)]
    beats.cluster.nodes = many
    beats.heartbeat.begin(beats.suspicion, many)
    for _ in range(110):
        beats.heartbeat.tend(lambda: many)
        beats.cluster.clock.advance(0.1)
        beats.cluster.runner.go_on(end=False)
    assert len(beats.cluster.runner.pinged) == 3


class Name(str):
    """A node's name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_what_is_asked_of_many_nodes_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    """Nodes are not looked for in lists of nodes: of ten thousand that takes a second."""
    beats = Beats(tmp_path, "ping", "echo", echo_s=2.0)
    many = [Name(f"n{i}") for i in range(1, 1001)]
    beats.cluster.nodes = list(many)
    beats.heartbeat.begin(beats.suspicion, many)
    Name.compared = 0
    for second in range(14):
        beats.cluster.dark = set(many[:400]) if second == 3 else set()
        for _ in range(10):
            beats.heartbeat.tend(lambda: many)
            beats.cluster.clock.advance(0.1)
            beats.cluster.runner.go_on(end=False)
    assert any(len(call) == 403 for call in beats.cluster.runner.pinged)
    assert Name.compared < 100 * len(many)


def test_controls_are_asked_with_a_doubted_node(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping", "echo")
    beats.wait(3)
    beats.cluster.power_off("n2")
    beats.wait(4.5)
    asked = [call for call in beats.cluster.runner.pinged if call[0] == "n2"]
    assert asked == [["n2", "n1", "n3", "n4"]]


def test_addresses_are_looked_up_once(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping")
    beats.wait(20)
    looked_up = [call for call in beats.cluster.runner.calls if call[0] != "fping"]
    assert len(looked_up) == 1
    assert len(beats.cluster.runner.pinged) > 10


def test_a_name_without_an_address_is_looked_up_again_in_the_next_run(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping")
    strange = [*NODES, "x1"]

    def used() -> Sequence[str]:
        return strange

    for _ in range(2):
        beats.heartbeat.begin(beats.suspicion, strange)
        for _ in range(30):
            beats.heartbeat.tend(used)
            beats.cluster.clock.advance(0.1)
            beats.cluster.runner.go_on(end=False)
    runner: Any = beats.cluster.runner
    looked_up = [o["stdin"] for c, o in zip(runner.calls, runner.options) if c[0] != "fping"]
    assert looked_up == [b"n1\nn2\nn3\nn4\nn5\nx1", b"x1"]
    assert beats.suspects() == []


def test_what_is_forgotten_while_pings_are_sent_does_not_disturb_them(tmp_path: Path) -> None:
    """A round of the last run may still be on its way when the next run begins."""
    pings = Pings(Beats(tmp_path).jobenv)

    class Nodes(List[str]):
        def __iter__(self) -> Iterator[str]:
            yield from super().__iter__()
            pings.forget_failures()

    quick = Patience(tries=1, gap_ms=100, wait_ms=500)
    for nodes in (["n1", "x1"], Nodes(["n1", "x1"]), ["n1", "x1"]):
        assert pings.ask(nodes, quick) == ({"n1"}, set())


def test_settling_waits_for_nothing_when_nothing_is_out(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "ping", "echo")
    beats.heartbeat.settle(60.0)


def test_a_tool_that_fails_now_and_then_is_used_on(tmp_path: Path) -> None:
    """Its failure says nothing about any node, also in the middle of a doubt."""
    beats = Beats(tmp_path, "ping")
    beats.wait(3)
    hangs = CommandTimeoutError(["fping"], why="no answer within 5 s")
    for _ in range(5):
        beats.cluster.failing["fping"] = hangs
        beats.wait(2)
        del beats.cluster.failing["fping"]
        beats.wait(2)
    assert beats.suspects() == []
    beats.cluster.dark.add("n2")
    beats.wait(0.6)
    beats.cluster.failing["fping"] = hangs
    beats.wait(1)
    assert beats.suspects() == []
    del beats.cluster.failing["fping"]
    beats.wait(9)
    assert beats.condemned() == ["n2"]


def test_a_tool_that_always_fails_is_seldom_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats = Beats(tmp_path, "ping")
    beats.cluster.failing["fping"] = CommandTimeoutError(["fping"], why="no answer within 5 s")
    beats.wait(20)
    assert len([call for call in beats.cluster.runner.calls if call[0] == "fping"]) == 3
    beats.wait(2 * REST_S)
    assert len([call for call in beats.cluster.runner.calls if call[0] == "fping"]) == 5
    assert caplog.text.count("no heartbeat by ping now") == 1


def test_a_tool_that_works_again_is_used_again(tmp_path: Path) -> None:
    """A controller that was away for some minutes does not cost a long job its heartbeat."""
    beats = Beats(tmp_path, "echo")
    beats.cluster.failing["rexec"] = CommandTimeoutError(["srun"], why="no controller")
    beats.wait(100)
    del beats.cluster.failing["rexec"]
    beats.cluster.silent.add("n2")
    beats.wait(100)
    assert beats.condemned() == []
    beats.wait(REST_S)
    assert beats.condemned() == ["n2"]


def test_a_word_about_a_node_that_is_not_pinged_has_it_run_a_command(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "echo")
    beats.wait(1)
    beats.cluster.silent.add("n2")
    beats.heartbeat.confirm(["n2"])
    beats.wait(9)
    assert beats.suspects() == ["n2"]


def test_remote_execution_that_is_late_for_many_nodes_condemns_none(tmp_path: Path) -> None:
    beats = Beats(tmp_path, "echo")
    many = [f"n{i}" for i in range(1, 101)]
    for late, believed in ((60, False), (40, True)):
        beats.suspicion = Suspicion()
        beats.heartbeat.begin(beats.suspicion, many)
        beats.cluster.silent = set(many[:late])
        for _ in range(390):
            beats.heartbeat.tend(lambda: many)
            beats.cluster.clock.advance(0.1)
            beats.cluster.runner.go_on(end=False)
        assert bool(beats.suspects()) == believed
