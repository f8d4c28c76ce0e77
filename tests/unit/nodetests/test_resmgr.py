# SPDX-License-Identifier: BSD-3-Clause
"""The manager's word about nodes, and what its silence is worth."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import pytest

from scrjob.errors import CommandError, NotInAllocationError, NotSupportedError
from scrjob.model import NodeWatch
from scrjob.nodetests.resmgr import DOUBT_S, ResMgrDown
from scrjob.remoteexec.remoteexec import RemoteExecResult
from scrjob.testing.fakes import FakeClock, FakeJobEnv, FakeRunner, fake_context, said

NODES = ["n1", "n2", "n3"]


class Manager:
    """Calls n1 drained; has not heard of the silent ones, of each for so many questions."""

    heartbeats: Sequence[str] = ("echo",)

    def __init__(self, silent: dict[str, int], errors: Sequence[Exception] = ()) -> None:
        self.silent = silent
        self.errors = list(errors)  # the first answers when it is asked once more
        self.asked = 0

    def down_nodes(self) -> dict[str, str]:
        return {"n1": "drained", **dict.fromkeys(self.silent, "not responding")}

    def watch_nodes(self) -> NodeWatch:
        self.asked += 1
        if self.asked > 1 and self.errors:
            raise self.errors.pop()
        self.silent = {node: left - 1 for node, left in self.silent.items() if left > 0}
        return NodeWatch({}, dict.fromkeys(self.silent, "not responding"))  # type: ignore[arg-type]


class Remote:
    """Runs commands on all nodes but the dead ones."""

    def __init__(self, dead: Sequence[str] = (), error: Any = None) -> None:
        self.dead = dead
        self.error = error

    def bounded(self, timeout_s: float) -> Remote:
        assert timeout_s <= DOUBT_S
        return self

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        if self.error:
            raise self.error
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            if node not in self.dead:
                result.append_stdout(node, argv[1])
                result.set_rc(node, 0)
        return result


def failed(
    manager: Manager, remote: Remote, runner: Optional[FakeRunner] = None
) -> tuple[dict[str, str], float]:
    clock = FakeClock()
    jobenv = FakeJobEnv(context=fake_context(clock=clock, runner=runner or FakeRunner()))
    jobenv.resmgr = manager
    jobenv.rexec = remote
    began = clock.monotonic()
    return ResMgrDown().execute(NODES, jobenv), clock.monotonic() - began


def test_the_managers_silence_about_a_node_that_answers_is_no_verdict() -> None:
    """A healthy but slow node is not condemned: the manager's silence alone is one kind of evidence."""
    assert failed(Manager({"n2": 99}), Remote()) == ({"n1": "drained"}, 0.0)


def test_a_node_that_does_not_answer_either_is_bad() -> None:
    bad, _ = failed(Manager({"n2": 99}), Remote(dead=["n2"]))
    assert bad == {"n1": "drained", "n2": "not responding"}


def test_it_is_waited_for_a_controller_that_hears_of_its_nodes_again() -> None:
    """Lesson A23: a condition is waited for, not a time. After a restart no node is known for a moment."""
    bad, seconds = failed(Manager({"n2": 4, "n3": 2}), Remote(dead=["n2", "n3"]))
    assert bad == {"n1": "drained"}
    assert 0 < seconds < DOUBT_S


def test_a_manager_that_goes_away_meanwhile_has_said_what_it_said() -> None:
    manager = Manager({"n2": 4}, [CommandError(["squeue"], returncode=1)] * 2)
    bad, seconds = failed(manager, Remote(dead=["n2"]))
    assert (bad, manager.errors) == ({"n1": "drained"}, [])
    assert 0 < seconds < DOUBT_S
    with pytest.raises(NotInAllocationError):
        failed(Manager({"n2": 4}, [NotInAllocationError("ended")]), Remote(dead=["n2"]))


def test_without_remote_execution_the_managers_word_stays() -> None:
    bad, seconds = failed(Manager({"n2": 99}), Remote(error=NotSupportedError("none")))
    assert bad == {"n1": "drained", "n2": "not responding"}
    assert seconds >= DOUBT_S


@pytest.mark.parametrize(
    ("heartbeats", "pinged", "bad"),
    [
        (("ping", "echo"), [["n2", "n3"]], {"n1": "drained", "n2": "not responding"}),
        (("echo",), [], {"n1": "drained"}),
    ],
)
def test_no_answer_to_pings_is_enough_where_pings_get_through(
    heartbeats: Sequence[str], pinged: list[list[str]], bad: dict[str, str]
) -> None:
    manager = Manager({"n2": 99, "n3": 99})
    manager.heartbeats = heartbeats
    runner = FakeRunner(lambda argv: said(argv, stderr="n2 : - -\nn3 : 0.1 -\n", returncode=1))
    assert failed(manager, Remote(), runner) == (bad, 0.0)
    assert [call[-2:] for call in runner.calls] == pinged


def test_where_nodes_cannot_be_asked_the_managers_word_is_all() -> None:
    manager = Manager({"n2": 99})
    manager.heartbeats = ()
    assert failed(manager, Remote()) == ({"n1": "drained", "n2": "not responding"}, 0.0)
