# SPDX-License-Identifier: BSD-3-Clause
"""The driver of node tests: order, second look, doubt about the test itself."""

from __future__ import annotations

import logging
from typing import Any, Sequence

import pytest

from scrjob.errors import NotInAllocationError, NotSupportedError, PluginError
from scrjob.model import NodeDown
from scrjob.nodetests import NodeTest, NodeTests
from scrjob.testing.fakes import FakeClock, FakeJobEnv, fake_context

NODES = ["n1", "n2", "n3", "n4"]


class Scripted(NodeTest):
    """Fails what each call's verdict names; the last verdict stays."""

    def __init__(self, *verdicts: Sequence[str], authoritative: bool = False) -> None:
        super().__init__()
        self.name = "scripted"
        self.authoritative = authoritative
        self.verdicts = list(verdicts)
        self.asked: list[list[str]] = []

    def execute(self, nodes: Sequence[str], jobenv: Any) -> dict[str, str]:
        self.asked.append(list(nodes))
        verdict = self.verdicts[min(len(self.asked), len(self.verdicts)) - 1]
        return {node: f"bad {node}" for node in verdict if node in nodes}


class Raising(NodeTest):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def execute(self, nodes: Sequence[str], jobenv: Any) -> dict[str, str]:
        raise self.error


def driver(*tests: NodeTest) -> NodeTests:
    made = NodeTests()
    made.tests = list(tests)
    return made


def test_a_failed_node_is_asked_again_before_it_is_condemned() -> None:
    test = Scripted(["n2"], ["n2"])
    assert driver(test).execute(NODES, FakeJobEnv()) == {"n2": "bad n2"}
    assert test.asked == [NODES, ["n2"]]


def test_a_node_that_passes_the_second_time_is_healthy() -> None:
    assert driver(Scripted(["n2", "n3"], ["n3"])).execute(NODES, FakeJobEnv()) == {"n3": "bad n3"}


def test_healthy_nodes_are_asked_once() -> None:
    test = Scripted([])
    assert driver(test).execute(NODES, FakeJobEnv()) == {}
    assert test.asked == [NODES]


def test_a_test_that_fails_most_nodes_is_the_broken_one(caplog: pytest.LogCaptureFixture) -> None:
    tests = driver(Scripted(["n1", "n2", "n3"]))
    with caplog.at_level(logging.WARNING):
        assert tests.execute(NODES, FakeJobEnv()) == {}
    (broken,) = tests.broken
    assert (broken.test, list(broken.nodes)) == ("scripted", ["n1", "n2", "n3"])
    assert "failed 3 of 4 nodes: bad n1" in broken.why
    assert "not believed" in caplog.text


def test_a_caller_that_makes_an_error_of_it_has_it_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tests = driver(Scripted(["n1", "n2", "n3"]))
    tests.tells = False
    tests.execute(NODES, FakeJobEnv())
    assert len(tests.broken) == 1
    assert caplog.messages == []


def test_half_of_the_nodes_may_fail() -> None:
    tests = driver(Scripted(["n1", "n2"]))
    assert set(tests.execute(NODES, FakeJobEnv())) == {"n1", "n2"}
    assert tests.broken == []


def test_the_share_can_be_set() -> None:
    tests = driver(Scripted(NODES))
    tests.share = 1.0
    assert set(tests.execute(NODES, FakeJobEnv())) == set(NODES)


def test_a_decision_is_neither_repeated_nor_doubted() -> None:
    test = Scripted(NODES, authoritative=True)
    assert set(driver(test).execute(NODES, FakeJobEnv())) == set(NODES)
    assert len(test.asked) == 1


@pytest.mark.parametrize("error", [NotSupportedError("no fping"), OSError(5, "I/O error")])
def test_a_test_that_cannot_run_condemns_nobody(error: Exception) -> None:
    tests = driver(Raising(error), Scripted(["n1"]))
    assert set(tests.execute(NODES, FakeJobEnv())) == {"n1"}
    assert "could not be run" in tests.broken[0].why


def test_a_failed_node_is_not_given_to_the_next_test() -> None:
    second = Scripted([])
    driver(Scripted(["n1"]), second).execute(NODES, FakeJobEnv())
    assert second.asked == [["n2", "n3", "n4"]]


def test_named_nodes_are_down_without_a_test() -> None:
    test = Scripted([])
    verdict = driver(test).execute(NODES, FakeJobEnv(), ["n4", "stranger"])
    assert verdict == {"n4": "Specified as down"}
    assert test.asked == [["n1", "n2", "n3"]]


def test_nothing_left_to_test_runs_no_test() -> None:
    test = Scripted([])
    driver(test).execute(["n1"], FakeJobEnv(), ["n1"])
    assert test.asked == []


def test_the_verdict_keeps_who_when_and_how_long() -> None:
    clock = FakeClock(start=1000.0)

    class Slow(Scripted):
        def execute(self, nodes: Sequence[str], jobenv: Any) -> dict[str, str]:
            clock.advance(1.5)
            return super().execute(nodes, jobenv)

    jobenv = FakeJobEnv(context=fake_context(clock=clock))
    found = driver(Slow(["n2"])).examine(NODES, jobenv)
    assert found == {"n2": NodeDown("n2", "bad n2", "scripted", 1003.0, 3.0, "bad n2")}


def test_what_was_broken_last_time_is_forgotten() -> None:
    tests = driver(Scripted(NODES, NODES, []))
    tests.execute(NODES, FakeJobEnv())
    assert tests.broken
    tests.execute(NODES, FakeJobEnv())
    assert tests.broken == []


def test_load_puts_decisions_first_and_sets_the_deadline() -> None:
    tests = NodeTests()
    context = fake_context()
    tests.load(["echo", "resmgr"], context, 3.0)
    assert [test.name for test in tests.tests] == [
        "scr_exclude_nodes",
        "resmgr",
        "prefix",
        "echo",
    ]
    assert {test.timeout_s for test in tests.tests} == {3.0}
    assert all(test.context is context for test in tests.tests)


def test_without_a_deadline_the_default_holds() -> None:
    tests = NodeTests()
    tests.load([], fake_context(), None)
    assert {test.timeout_s for test in tests.tests} == {15.0}


def test_an_unknown_name_lists_the_known_ones() -> None:
    """Lesson A17: unknown names were silently skipped."""
    with pytest.raises(PluginError, match=r"unknown node test 'pign'; known: .*ping.*dir_capacity"):
        NodeTests().load(["pign"], fake_context(), None)


def test_the_base_test_passes_all() -> None:
    assert NodeTest().execute(NODES, FakeJobEnv()) == {}


def test_a_published_test_that_answers_nothing_fails_nobody() -> None:
    class Silent(NodeTest):
        def __init__(self) -> None:
            """As tests of sites do it: the base class is not called."""

        def execute(self, nodes: Sequence[str], jobenv: Any) -> Any:
            return None

    assert driver(Silent()).execute(NODES, FakeJobEnv()) == {}


def test_an_allocation_that_is_over_is_no_doubt_about_a_test() -> None:
    with pytest.raises(NotInAllocationError, match="has ended"):
        driver(Raising(NotInAllocationError("it has ended"))).execute(NODES, FakeJobEnv())
