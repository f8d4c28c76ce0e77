# SPDX-License-Identifier: BSD-3-Clause
"""Stacks of a step's ranks from all nodes into one file, with what could not be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import pytest

from scrjob.errors import CommandError, ScrError
from scrjob.launchers.joblauncher import JobLauncher
from scrjob.node.command import node_command
from scrjob.remoteexec import RemoteExecResult
from scrjob.supervisor.stacks import NODE_LEAST_BYTES, NODE_MOST_BYTES, gather_stacks
from scrjob.testing.fakes import FakeJobEnv, FakeRemoteExec, NodeAnswer

ENVIRON = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "2"}


class Launcher(JobLauncher):
    """Knows of its ranks what a test says."""

    environ: Mapping[str, str] = {}
    pids: Mapping[str, Sequence[int]] = {}
    outside: Mapping[str, Sequence[int]] = {}
    nodes: Optional[Sequence[str]] = None
    chosen: Optional[Sequence[str]] = None
    error: Optional[ScrError] = None

    def rank_environ(self, jobstep: Any) -> Any:
        if self.error:
            raise self.error
        return self.environ

    def rank_pids(self, jobstep: Any) -> Any:
        return self.pids

    def outside_pids(self, jobstep: Any) -> Any:
        return self.outside

    def step_nodes(self, jobstep: Any) -> Any:
        return self.nodes

    def chosen_nodes(self, jobstep: Any) -> Any:
        return self.chosen


class World:
    def __init__(self, directory: Path) -> None:
        self.launcher = Launcher()
        self.answers: dict[str, NodeAnswer] = {}
        self.rexec = FakeRemoteExec(RemoteExecResult, lambda node, _: self.answers[node])
        self.jobenv = FakeJobEnv(launcher=self.launcher, rexec=self.rexec)
        self.path = directory / "stacks.txt"

    def gather(self, silent: Sequence[str] = ()) -> Optional[str]:
        return gather_stacks(self.jobenv, "step", str(self.path), "/stacks", silent)

    def asked(self) -> list[str]:
        (argv, _), *more = self.rexec.calls
        assert not more
        return argv


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_ranks_on_other_machines_are_found_by_their_environment(world: World) -> None:
    world.launcher.environ = ENVIRON
    world.launcher.nodes = ["n1", "n2"]
    world.answers = {"n1": NodeAnswer(0, "one\n"), "n2": NodeAnswer(0, "two\n")}
    assert world.gather() == str(world.path)
    assert world.path.read_text() == "#### node n1\none\n\n#### node n2\ntwo\n\n"
    limit = str(NODE_MOST_BYTES)
    named = ["--env", "SLURM_JOB_ID=5", "--env", "SLURM_STEP_ID=2"]
    assert world.asked() == node_command("stacks", "--dir", "/stacks", "--limit", limit, *named)


def test_the_nodes_it_was_launched_on_serve_until_it_is_known_better(world: World) -> None:
    world.launcher.environ = ENVIRON
    world.launcher.chosen = ["n1"]
    world.answers = {"n1": NodeAnswer(0, "one\n")}
    assert world.gather()


def test_known_processes_are_named(world: World) -> None:
    world.launcher.pids = {"n1": [4, 5], "n2": [6], "n3": []}
    world.answers = dict.fromkeys(("n1", "n2", "n3"), NodeAnswer(0, "said\n"))
    world.gather()
    assert world.asked()[-2:] == ["n1=4,5", "n2=6"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (NodeAnswer(None, failure="no answer within 15 s"), "no answer within 15 s"),
        (NodeAnswer(1, stderr="no such option\n"), "no such option"),
        (NodeAnswer(3), "exit code 3"),
    ],
)
def test_a_node_that_does_not_answer_is_told(world: World, answer: NodeAnswer, why: str) -> None:
    """Lesson B4: a node that is stopped as a whole looks like this; a stopped rank is told by its node."""
    world.launcher.environ = ENVIRON
    world.launcher.nodes = ["n1", "n2"]
    world.answers = {"n1": NodeAnswer(0, "one\n"), "n2": answer}
    world.gather()
    assert f"#### node n2\nno answer: {why}\n" in world.path.read_text()


def test_a_silent_node_is_looked_at_from_outside(world: World) -> None:
    world.launcher.pids = {"n1": [4]}
    world.launcher.outside = {"n1": [os.getpid()]}
    world.answers = {"n1": NodeAnswer(None)}
    world.gather()
    assert f"== process {os.getpid()} " in world.path.read_text()
    assert "no answer" not in world.path.read_text()


def test_only_silent_nodes_can_be_asked_for(world: World) -> None:
    world.launcher.environ = ENVIRON
    world.launcher.nodes = ["n1", "n2"]
    world.launcher.outside = {"n1": [os.getpid()], "n2": [os.getpid()]}
    world.gather(silent=["n2"])
    assert world.rexec.calls == []
    assert "node n1" not in world.path.read_text()
    world.launcher.outside = {}
    assert world.gather(silent=["n2"]) is None


@pytest.mark.parametrize("count", [1000, 100_000])
def test_many_nodes_get_a_share_of_the_file(world: World, count: int) -> None:
    world.launcher.environ = ENVIRON
    world.launcher.nodes = [f"n{number}" for number in range(count)]
    world.answers = dict.fromkeys(world.launcher.nodes, NodeAnswer(0, "said\n"))
    world.gather()
    limit = int(world.asked()[world.asked().index("--limit") + 1])
    assert limit == max(NODE_LEAST_BYTES, 2**24 // count)


def test_nothing_known_is_no_file(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assert world.gather() is None
    world.launcher.error = CommandError(["squeue"], why="it is broken")
    assert world.gather() is None
    assert "it is broken" in caplog.text
    assert not world.path.exists()
