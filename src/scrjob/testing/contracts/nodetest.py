# SPDX-License-Identifier: BSD-3-Clause
"""What every node test must do."""

from __future__ import annotations

from typing import Any, Protocol

from scrjob.errors import ScrError
from scrjob.testing.contracts import _observe as observe

SLACK_S = 5.0  # beyond the test's own deadline


class NodeTestWorld(Protocol):
    """At least three healthy nodes."""

    nodes: list[str]
    jobenv: Any

    def test(self) -> Any:
        """Return the plugin, bound, with a deadline of a few seconds."""
        ...

    def make_sick(self, node: str) -> None:
        """Let the node have what the test looks for."""
        ...

    def break_test(self) -> None:
        """Make the test itself impossible. For the capability "breaks"."""
        ...


class NodeTestContract:
    """Inherit it and supply the fixture ``world``.

    Capabilities: "breaks" the world can take away what the test needs to run.
    """

    capabilities: frozenset[str] = frozenset()

    def test_healthy_nodes_pass(self, world: NodeTestWorld) -> None:
        assert world.test().execute(world.nodes, world.jobenv) == {}

    def test_no_nodes_no_verdict(self, world: NodeTestWorld) -> None:
        assert world.test().execute([], world.jobenv) == {}

    def test_a_sick_node_fails_with_one_line(self, world: NodeTestWorld) -> None:
        victim = world.nodes[1]
        world.make_sick(victim)
        test = world.test()
        with observe.within(test.timeout_s + SLACK_S, "the test"):
            failed = test.execute(world.nodes, world.jobenv)
        assert list(failed) == [victim]
        assert observe.is_one_line(failed[victim])

    def test_only_given_nodes_fail(self, world: NodeTestWorld) -> None:
        world.make_sick(world.nodes[0])
        assert world.test().execute(world.nodes[1:], world.jobenv) == {}

    def test_all_may_fail(self, world: NodeTestWorld) -> None:
        for node in world.nodes:
            world.make_sick(node)
        assert set(world.test().execute(world.nodes, world.jobenv)) == set(world.nodes)

    def test_the_same_verdict_twice(self, world: NodeTestWorld) -> None:
        world.make_sick(world.nodes[2])
        test = world.test()
        first = test.execute(world.nodes, world.jobenv)
        assert list(test.execute(world.nodes, world.jobenv)) == list(first)

    def test_nothing_changes_here(self, world: NodeTestWorld) -> None:
        test = world.test()
        nodes = list(world.nodes)
        with observe.untouched(), observe.nothing_left():
            test.execute(nodes, world.jobenv)
        assert nodes == world.nodes, "the list of nodes was changed"

    def test_a_broken_test_blames_no_node(self, world: NodeTestWorld) -> None:
        if "breaks" not in self.capabilities:
            return
        world.break_test()
        with observe.raises(ScrError, "a test that cannot be run"):
            world.test().execute(world.nodes, world.jobenv)
