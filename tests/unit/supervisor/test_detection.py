# SPDX-License-Identifier: BSD-3-Clause
"""How long it takes to notice which fault of a node, and which healthy nodes are left alone."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any, Callable

import pytest

from scripted_cluster import Cluster, Launcher, Step
from scripted_job import Job
from scrjob.errors import CommandNotFoundError, CommandTimeoutError, ScrError
from scrjob.model import Said, StepMessage
from scrjob.run import run

DEATH_S = 20.3  # after the launch
NO_ANSWER = CommandTimeoutError(["ask"], why="no answer within 10 s")
Deed = Callable[[Cluster], Any]


def job(tmp_path: Path, deed: Deed, steps: int = 1, wanted: int = 4, **options: Any) -> Job:
    made = Job(tmp_path, [Step(None, at={DEATH_S: deed})] + [Step()] * steps, wanted)
    made.cluster.heartbeats = ("ping", "echo")
    vars(made.cluster).update(options)
    return made


def noticed_after(made: Job) -> float:
    first = made.state()["runs"][0]
    return float(first["ended"] - first["started"] - DEATH_S)


def nothing(cluster: Cluster) -> None:
    """No deed."""


def healthy(tmp_path: Path, deed: Deed, seconds: float = 400.0, **options: Any) -> Job:
    """A job of one run in which nobody is to be condemned."""
    made = Job(tmp_path, [Step(seconds, at={DEATH_S: deed})], options.pop("wanted", 4))
    made.cluster.heartbeats = ("ping", "echo")
    vars(made.cluster).update(options)
    environ = options.pop("environ", {})
    assert made.run(**environ) == 0
    assert made.causes() == ["success"]
    assert made.state()["bad_nodes"] == {}
    assert made.cluster.abandoned == []
    return made


def message(cluster: Cluster, node: str) -> None:
    text = f"error: Node failure on {node}"
    cluster.said.append(StepMessage(Said.NODE_FAILED, node, text, cluster.clock.now()))


class TestDeadNode:
    def test_is_known_in_seconds_though_the_manager_says_nothing(self, tmp_path: Path) -> None:
        """Lesson B7."""
        made = job(tmp_path, lambda c: c.power_off("n2"))
        assert made.run(SCR_RUNS="2") == 0
        assert made.causes() == ["node down", "success"]
        assert noticed_after(made) < 5.5
        assert made.cluster.launches[1][1:] == (["n1", "n3", "n4", "n5"], ["n2"])
        bad = made.state()["bad_nodes"]["n2"]
        assert bad["test"] == "ping + remote execution"
        assert "no answer to 5 pings within 3 s (0.0 s before)" in bad["evidence"]

    def test_the_step_is_abandoned_not_asked_to_end(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.power_off("n2"))
        made.run(SCR_RUNS="2")
        assert made.cluster.abandoned == [["n2"]]

    def test_is_known_without_remote_execution(self, tmp_path: Path) -> None:
        def deed(cluster: Cluster) -> None:
            cluster.dark.add("n2")
            cluster.failing["rexec"] = ScrError("no agent")

        made = job(tmp_path, deed)
        made.run(SCR_RUNS="1")
        assert made.causes() == ["node down"]
        assert noticed_after(made) < 10
        assert made.state()["bad_nodes"]["n2"]["test"] == "ping"

    def test_is_known_if_remote_execution_fails_everywhere(self, tmp_path: Path) -> None:
        """Then its failure is no evidence; two series of pings are."""

        def deed(cluster: Cluster) -> None:
            cluster.silent.update(cluster.nodes)
            cluster.dark.add("n2")

        made = job(tmp_path, deed)
        made.run(SCR_RUNS="1")
        assert noticed_after(made) < 10
        assert made.state()["bad_nodes"]["n2"]["test"] == "ping"

    def test_is_known_if_remote_execution_is_late(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.power_off("n2"), late=20.0)
        made.run(SCR_RUNS="1")
        assert noticed_after(made) < 11
        assert made.state()["bad_nodes"]["n2"]["test"] == "ping"

    def test_is_known_without_pings(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.silent.add("n2"), dark={f"n{i}" for i in range(1, 6)})
        made.run(SCR_RUNS="2")
        assert made.causes() == ["node down", "success"]
        assert made.state()["bad_nodes"]["n2"]["test"] == "remote execution"
        assert noticed_after(made) < 80

    def test_the_time_can_be_set(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.power_off("n2"))
        made.run(SCR_RUNS="2", SCR_HEARTBEAT_PING="20", SCR_HEARTBEAT_ECHO="0")
        assert 19 < noticed_after(made) < 50

    def test_a_word_of_the_launcher_has_it_asked_at_once(self, tmp_path: Path) -> None:
        def deed(cluster: Cluster) -> None:
            cluster.power_off("n2")
            message(cluster, "n2")

        made = job(tmp_path, deed)
        made.run(SCR_RUNS="2", SCR_HEARTBEAT_PING="60")
        assert noticed_after(made) < 5

    def test_all_used_nodes_at_once_while_a_spare_answers(self, tmp_path: Path) -> None:
        def deed(cluster: Cluster) -> None:
            for node in ("n1", "n2", "n3", "n4"):
                cluster.power_off(node)

        made = job(tmp_path, deed)
        assert made.run(SCR_RUNS="2") == 69
        assert noticed_after(made) < 5.5
        assert sorted(made.state()["bad_nodes"]) == ["n1", "n2", "n3", "n4"]

    def test_one_after_the_other_in_two_runs(self, tmp_path: Path) -> None:
        """What was known about the first run says nothing about the second."""
        made = Job(
            tmp_path,
            [
                Step(None, at={5: lambda c: c.power_off("n2")}),
                Step(None, at={5: lambda c: c.power_off("n3")}),
                Step(),
            ],
            wanted=2,
        )
        made.cluster.heartbeats = ("ping", "echo")
        assert made.run(SCR_RUNS="-1", SCR_MIN_NODES="2") == 0
        assert made.causes() == ["node down", "node down", "success"]
        assert all(run["ended"] - run["started"] < 11 for run in made.state()["runs"])

    def test_a_spare_is_not_the_runs_business(self, tmp_path: Path) -> None:
        made = healthy(tmp_path, lambda c: c.power_off("n5"), 100)
        assert not [nodes for nodes in made.cluster.runner.pinged if nodes[0] == "n5"]


class TestStoppedNode:
    """Its kernel answers pings, but nothing runs on it any more."""

    def test_is_found_by_commands_that_do_not_run(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.silent.add("n2"))
        assert made.run(SCR_RUNS="2") == 0
        assert made.causes() == ["node down", "success"]
        assert noticed_after(made) < 55
        assert made.state()["bad_nodes"]["n2"]["test"] == "remote execution"

    def test_is_found_sooner_if_the_manager_misses_it_too(self, tmp_path: Path) -> None:
        def deed(cluster: Cluster) -> None:
            cluster.silent.add("n2")
            cluster.unheard["n2"] = "not responding"

        made = job(tmp_path, deed)
        made.run(SCR_RUNS="2")
        assert noticed_after(made) < 20
        assert made.state()["bad_nodes"]["n2"]["test"] == (
            "resource manager's silence + remote execution"
        )


class TestHealthyNode:
    def test_that_is_slow_is_left_alone(self, tmp_path: Path) -> None:
        """Answers come late, but they come: neither pings nor commands condemn it."""
        healthy(tmp_path, lambda c: c.slow.add("n2"))

    def test_that_is_slow_is_not_asked_all_the_time(self, tmp_path: Path) -> None:
        made = healthy(tmp_path, lambda c: c.slow.add("n2"), 100)
        doubted = [nodes for nodes in made.cluster.runner.pinged if nodes[0] == "n2"]
        assert 5 < len(doubted) < 20

    def test_whose_ping_was_lost(self, tmp_path: Path) -> None:
        healthy(tmp_path, lambda c: setattr(c, "lose_pings", 40))

    def test_that_filters_pings_from_some_moment_on(self, tmp_path: Path) -> None:
        made = healthy(tmp_path, lambda c: c.dark.add("n2"))
        doubted = [nodes for nodes in made.cluster.runner.pinged if nodes[0] == "n2"]
        assert 20 < len(doubted) < 70

    def test_of_which_the_manager_has_not_heard(self, tmp_path: Path) -> None:
        healthy(tmp_path, lambda c: c.unheard.update(n2="not responding"))

    def test_of_which_the_manager_has_heard_again(self, tmp_path: Path) -> None:
        """Its word of some time ago is no second kind of evidence beside pings that are lost now."""

        def lose_pings(cluster: Cluster) -> None:
            cluster.failing["rexec"] = ScrError("no agent")
            cluster.dark.add("n2")

        deeds: dict[float, Deed] = {
            20: lambda c: c.unheard.update(n2="not responding"),
            25: lambda c: c.unheard.clear(),
            30.3: lose_pings,
            34.5: lambda c: c.dark.clear(),
        }
        made = Job(tmp_path, [Step(100, at=deeds)])
        made.cluster.heartbeats = ("ping", "echo")
        assert made.run() == 0
        assert made.state()["bad_nodes"] == {}

    def test_about_which_a_program_prints_what_the_launcher_would(self, tmp_path: Path) -> None:
        healthy(tmp_path, lambda c: message(c, "n2"))

    def test_whose_remote_execution_is_broken_as_that_of_all(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            healthy(
                tmp_path,
                lambda c: c.silent.update(c.nodes),
                200,
                node_tests=(),
            )
        assert "remote execution is broken, or late: 5 nodes" in caplog.text

    def test_whose_remote_execution_raises(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            healthy(tmp_path, lambda c: c.failing.update(rexec=ScrError("no agent")), 200)
        assert caplog.text.count("no heartbeat by remote execution now") == 1


class TestOwnNetwork:
    """All nodes are silent at once, used and spare: then it may be us."""

    def all_dark(self, cluster: Cluster) -> None:
        for node in cluster.nodes:
            cluster.power_off(node)

    def test_nobody_is_condemned_for_a_while(self, tmp_path: Path) -> None:
        def again(cluster: Cluster) -> None:
            cluster.dark.clear()
            cluster.silent.clear()

        deeds = {DEATH_S: self.all_dark, 70.0: again, 200.0: self.all_dark, 250.0: again}
        made = Job(tmp_path, [Step(400, at=deeds)])
        made.cluster.heartbeats = ("ping", "echo")
        assert made.run() == 0
        assert made.state()["bad_nodes"] == {}
        assert sum("may be this host's network" in line for line in made.told) == 2

    def test_the_while_is_bounded(self, tmp_path: Path) -> None:
        made = job(tmp_path, self.all_dark)
        made.run(SCR_RUNS="1")
        assert made.causes() == ["node down"]
        assert 60 < noticed_after(made) < 75

    def test_the_managers_word_counts_all_the_same(self, tmp_path: Path) -> None:
        def lost(cluster: Cluster) -> None:
            cluster.down["n3"] = "down"

        made = Job(tmp_path, [Step(None, at={DEATH_S: self.all_dark, DEATH_S + 20: lost})])
        made.cluster.heartbeats = ("ping", "echo")
        made.run(SCR_RUNS="1")
        assert 19 < noticed_after(made) < 22
        assert made.cluster.abandoned == [["n3"]]

    def test_that_this_host_answers_itself_proves_nothing(self, tmp_path: Path) -> None:
        def deed(cluster: Cluster) -> None:
            for node in ("n2", "n3", "n4", "n5"):
                cluster.power_off(node)

        made = job(tmp_path, deed, hostname="n1.cluster")
        made.run(SCR_RUNS="1")
        assert noticed_after(made) > 60


class TestManager:
    def test_one_that_hangs_holds_up_nothing(self, tmp_path: Path) -> None:
        """Neither the heartbeat nor a signal waits for its answer."""
        made = job(tmp_path, lambda c: c.power_off("n2"), manager_takes=30.0)
        assert made.run(SCR_RUNS="2") == 0
        assert noticed_after(made) < 5.5

    def test_one_that_is_slow_is_heard(self, tmp_path: Path) -> None:
        """It is not asked again before it has answered."""
        made = job(tmp_path, lambda c: c.kill_node("n2"), manager_takes=3.0, heartbeats=())
        made.run(SCR_RUNS="1")
        assert noticed_after(made) < 7

    def test_one_that_is_slow_to_tell_the_end(self, tmp_path: Path) -> None:
        made = Job(tmp_path, [Step(None, ends_on_halt=True)])
        made.cluster.manager_takes = 20.0
        made.cluster.end = int(made.cluster.clock.now()) + 600
        assert made.run() == 75
        assert made.causes() == ["out of time"]

    def test_one_that_hangs_and_a_signal(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.send(signal.SIGTERM), manager_takes=30.0)
        assert made.run(SCR_HALT_GRACE="2") == 75
        assert noticed_after(made) < 3

    def test_one_that_fails_is_told_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            healthy(tmp_path, lambda c: c.failing.update(down_nodes=NO_ANSWER), 100)
        assert caplog.text.count("could not be asked for lost nodes") == 1

    def test_one_that_notices_deaths_itself_needs_no_heartbeat(self, tmp_path: Path) -> None:
        made = job(tmp_path, lambda c: c.kill_node("n2"), heartbeats=())
        made.run(SCR_RUNS="2")
        assert noticed_after(made) < 1
        assert made.cluster.runner.pinged == []
        assert made.state()["bad_nodes"]["n2"]["test"] == "resource manager"


def test_the_heartbeat_can_be_switched_off(tmp_path: Path) -> None:
    made = Job(tmp_path, [Step(200, at={DEATH_S: lambda c: c.power_off("n2")})])
    made.cluster.heartbeats = ("ping", "echo")
    assert made.run(SCR_HEARTBEAT="0") == 0
    assert made.cluster.runner.pinged == []


def test_without_fping_and_ping_commands_must_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = job(tmp_path, lambda c: c.power_off("n2"))
    made.cluster.failing["fping"] = CommandNotFoundError(["fping"], why="No such file")
    with caplog.at_level(logging.WARNING):
        made.run(SCR_RUNS="2")
    assert noticed_after(made) < 75
    assert made.state()["bad_nodes"]["n2"]["test"] == "remote execution"
    assert caplog.text.count("no heartbeat by ping any more: to ping nodes fping or ping") == 1


def test_nodes_that_filter_pings_are_soon_not_pinged(tmp_path: Path) -> None:
    made = healthy(tmp_path, nothing, 100, dark={f"n{i}" for i in range(1, 6)})
    assert len(made.cluster.runner.pinged) == 3


def test_a_launcher_that_cannot_be_asked_for_its_nodes(tmp_path: Path) -> None:
    """Its word is missed, not taken for "no nodes"; the run goes on."""

    class Mute(Launcher):
        def step_nodes(self, jobstep: Any) -> Any:
            raise NO_ANSWER

    made = Job(tmp_path, [Step()])
    jobenv = made.cluster.jobenv()
    jobenv.launcher = Mute(made.cluster)
    signals = made.cluster.signals
    assert run("scripted", ["./app"], jobenv=jobenv, say=made.told.append, signals=signals) == 0
