# SPDX-License-Identifier: BSD-3-Clause
"""Which questions are asked after a run, and which are not, because the answer is known or tells nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional, Sequence

import pytest

from scrjob.errors import CommandError, CommandTimeoutError
from scrjob.launchers.joblauncher import JobLauncher
from scrjob.model import Cause, ExitStatus, NodeDown, Said, StepMessage
from scrjob.remoteexec import RemoteExec, RemoteExecResult
from scrjob.resmgrs import ResourceManager
from scrjob.supervisor.inquest import Ended, Inquest
from scrjob.supervisor.monitor import Seen
from scrjob.testing.fakes import FakeJobEnv

NODES = ["n1", "n2", "n3"]
KILLED = ExitStatus(137, 9)
SEVEN = ExitStatus(7)
DEAD = NodeDown("n2", "silent", "heartbeat")
TASK = StepMessage(Said.TASK_FAILED, "n3", "n3: task 2: Killed", 1.0)


class World(ResourceManager, RemoteExec):
    """Notes who was asked: the manager, the node tests, which nodes for their counters."""

    def __init__(self, prefix: Path) -> None:
        super().__init__("FAKE")
        (prefix / ".scr").mkdir()
        self.ends: Optional[tuple[Cause, str]] = None
        self.errors: list[Exception] = []
        self.bad: list[NodeDown] = []
        self.asked: list[str] = []
        env = FakeJobEnv(
            str(prefix),
            param=SimpleNamespace(get_int=lambda *_: None),
            resmgr=self,
            rexec=self,
            launcher=JobLauncher("fake"),
        )
        self.inquest = Inquest(env, self.test_nodes)

    def ending(self) -> Optional[tuple[Cause, str]]:
        self.asked.append("manager")
        if self.errors:
            raise self.errors.pop()
        return self.ends

    def test_nodes(self) -> list[NodeDown]:
        self.asked.append("tests")
        return self.bad

    def rexec(self, argv: Any, nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        self.asked += nodes
        return RemoteExecResult(argv, nodes)

    def judge(self, seen: Seen, **parts: Any) -> Cause:
        return self.inquest.judge(Ended(seen, NODES, **parts)).cause


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_is_asked_after_a_success(world: World) -> None:
    assert world.judge(Seen(ExitStatus(0))) is Cause.SUCCESS
    assert world.asked == []


def test_all_are_asked_after_a_failure(world: World) -> None:
    assert world.judge(Seen(SEVEN)) is Cause.APPLICATION
    assert world.asked == ["manager", "tests", *NODES]


def test_only_the_nodes_that_the_launcher_names_are_asked(world: World) -> None:
    world.judge(Seen(KILLED), messages=[TASK])
    assert world.asked == ["manager", "tests", "n3"]


def test_a_name_that_is_no_node_of_the_run_is_not_asked(world: World) -> None:
    world.judge(Seen(KILLED), messages=[TASK._replace(node="x9")])
    assert world.asked == ["manager", "tests", *NODES]


def test_a_lost_node_needs_no_question(world: World) -> None:
    """Lesson B7."""
    assert world.judge(Seen(KILLED, down=[DEAD], forced=True)) is Cause.NODE_DOWN
    assert world.asked == []


def test_a_node_that_fails_a_test_needs_no_counters(world: World) -> None:
    world.bad = [DEAD]
    assert world.judge(Seen(KILLED)) is Cause.NODE_DOWN
    assert world.asked == ["manager", "tests"]


def test_a_spare_that_fails_a_test_is_not_why_the_run_ended(world: World) -> None:
    world.bad = [DEAD._replace(node="spare")]
    assert world.judge(Seen(SEVEN)) is Cause.APPLICATION
    assert world.asked[2:] == NODES


@pytest.mark.parametrize(
    "seen", [Seen(KILLED, signal_name="SIGTERM"), Seen(KILLED, time_up=True, forced=True)]
)
def test_of_a_run_that_we_stopped_only_the_manager_may_tell_more(world: World, seen: Seen) -> None:
    world.judge(seen)
    assert world.asked == ["manager"]


def test_a_run_that_we_killed_did_not_run_out_of_memory(world: World) -> None:
    assert world.judge(Seen(KILLED, hang="no progress", forced=True)) is Cause.HANG
    assert world.asked == ["manager", "tests"]


def test_a_launch_that_failed_has_no_counters_to_compare(world: World) -> None:
    assert world.judge(Seen(None), launch_error="no such launcher") is Cause.LAUNCH
    assert world.asked == ["manager", "tests"]


def test_nodes_of_an_allocation_that_ends_are_not_tested(world: World) -> None:
    world.ends = (Cause.CANCELLED, "cancelled")
    assert world.judge(Seen(KILLED)) is Cause.CANCELLED
    assert world.asked == ["manager"]


def test_a_manager_that_cannot_be_asked(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.errors = [CommandTimeoutError(["squeue"], why="no answer within 10 s")] * 2
    assert world.judge(Seen(SEVEN)) is Cause.APPLICATION
    assert "FAKE does not say whether it ends the allocation" in caplog.text


def test_a_question_that_was_killed_with_the_job_is_asked_again(world: World) -> None:
    """Lesson A13: TERM goes to all processes of a batch job, so to the tool that asks."""
    world.ends = (Cause.CANCELLED, "cancelled")
    world.errors = [CommandError(["squeue"], returncode=-15)]
    assert world.judge(Seen(KILLED, signal_name="SIGTERM")) is Cause.CANCELLED


def test_the_known_end_tells(world: World) -> None:
    """Lesson B1."""
    terminated = Seen(ExitStatus(143))
    assert world.judge(terminated, end_time=1_000_000_100) is Cause.APPLICATION
    assert world.judge(terminated, end_time=999_999_990) is Cause.TIME_LIMIT
    assert world.judge(terminated, end_time=0) is Cause.APPLICATION
    assert world.judge(terminated, end_time=-1) is Cause.APPLICATION
