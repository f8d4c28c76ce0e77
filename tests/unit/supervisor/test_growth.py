# SPDX-License-Identifier: BSD-3-Clause
"""What two looks at the caches of the nodes tell, and that nobody waits for them."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import pytest

from scrjob.errors import CommandError, NotInAllocationError
from scrjob.node.command import node_command
from scrjob.remoteexec import RemoteExecResult
from scrjob.supervisor.growth import GIVE_UP_S, CacheGrowth, Growth
from scrjob.testing.fakes import (
    FakeClock,
    FakeJobEnv,
    FakeRemoteExec,
    FakeRunner,
    NodeAnswer,
    fake_context,
)


class World:
    def __init__(
        self, nodes: Sequence[str] = ("n1", "n2"), runner: Optional[FakeRunner] = None
    ) -> None:
        self.clock = FakeClock()
        self.answers: dict[str, Any] = dict.fromkeys(nodes, NodeAnswer(0, "1 2 3\n"))
        self.rexec = FakeRemoteExec(RemoteExecResult, lambda node, _: self.answers[node])
        jobenv = FakeJobEnv(rexec=self.rexec, context=fake_context(clock=self.clock, runner=runner))
        self.growth = CacheGrowth(jobenv, lambda: nodes)

    def look(self, *, at_end: bool) -> Optional[Growth]:
        return self.growth.compare(at_end=at_end)


def test_the_nodes_are_asked_for_the_jobs_cache() -> None:
    world = World()
    assert world.look(at_end=False) is None
    assert world.rexec.calls == [(node_command("growth", "/cache/alice/scr.42"), ["n1", "n2"])]


def test_one_node_that_changes_is_enough() -> None:
    world = World()
    world.look(at_end=False)
    world.answers["n2"] = NodeAnswer(0, "1 2 4\n")
    assert world.look(at_end=True) == Growth(True, "files in cache changed on n2")


def test_nothing_that_changes_is_told() -> None:
    world = World()
    world.look(at_end=False)
    assert world.look(at_end=True) == Growth(False, "no file in cache changed on n[1-2]")


def test_a_first_look_at_the_end_is_compared_with_a_second_one() -> None:
    world = World()
    assert world.look(at_end=True) is None
    assert world.look(at_end=True) == Growth(False, "no file in cache changed on n[1-2]")


def test_what_was_seen_at_the_end_is_what_the_next_end_is_compared_with() -> None:
    world = World()
    world.look(at_end=False)
    world.look(at_end=True)
    assert world.look(at_end=False) is None
    world.look(at_end=True)
    assert len(world.rexec.calls) == 3


def test_what_is_forgotten_is_asked_anew() -> None:
    world = World()
    world.look(at_end=False)
    world.growth.forget()
    world.answers["n2"] = NodeAnswer(0, "1 2 4\n")
    assert world.look(at_end=True) is None
    assert "no file" in str(world.look(at_end=True))


def test_an_answer_that_comes_after_it_was_forgotten_is_lost() -> None:
    asked: list[Callable[[], None]] = []

    class Later(FakeRunner):
        def beside(self, function: Callable[[], None], name: str) -> None:
            asked.append(function)

    world = World(runner=Later())
    world.look(at_end=False)
    world.growth.forget()
    asked[0]()
    world.look(at_end=False)
    assert len(asked) == 2


@pytest.mark.parametrize("when", [0, 1])
def test_a_node_of_which_nothing_is_known_is_no_growth_and_told(when: int) -> None:
    world = World()
    answers = [world.answers["n2"]] * 2
    answers[when] = NodeAnswer(None, failure="no answer within 20 s")
    for at_end, answer in zip((False, True), answers):
        world.answers["n2"] = answer
        found = world.look(at_end=at_end)
    assert found == Growth(
        False,
        "no file in cache changed on n1; not known of the cache on n2: no answer within 20 s",
    )


def test_broken_remote_execution_is_told() -> None:
    world = World()
    world.answers["n1"] = CommandError(["pdsh"], why="it is broken")
    world.look(at_end=False)
    found = world.look(at_end=True)
    assert found is not None
    assert not found.grew
    assert "not known: command failed: pdsh: it is broken" in found.told


def test_nodes_that_nobody_knows_are_told() -> None:
    world = World()

    def unknown() -> Sequence[str]:
        raise NotInAllocationError("it has ended")

    world.growth = CacheGrowth(FakeJobEnv(rexec=world.rexec), unknown)
    world.look(at_end=False)
    assert "it has ended" in str(world.look(at_end=True))


def test_nobody_waits_for_nodes_that_are_slow() -> None:
    """And remote execution that does not keep to its deadline is given up."""

    class Slow(FakeRunner):
        def beside(self, function: Any, name: str) -> None:
            pass  # it never comes to its end

    world = World(runner=Slow())
    assert world.growth.compare(at_end=True) is None
    world.clock.advance(GIVE_UP_S - 1)
    assert world.growth.compare(at_end=True) is None
    world.clock.advance(2)
    assert world.growth.compare(at_end=True) is None
    assert world.growth.compare(at_end=True) is None
    world.clock.advance(GIVE_UP_S + 1)
    assert "not known: no answer" in str(world.growth.compare(at_end=True))
