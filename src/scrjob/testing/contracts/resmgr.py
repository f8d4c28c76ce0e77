# SPDX-License-Identifier: BSD-3-Clause
"""What every resource manager must do."""

from __future__ import annotations

import time
from typing import Any, Callable, Mapping, Optional, Protocol

from scrjob.errors import (
    CommandError,
    CommandNotFoundError,
    CommandTimeoutError,
    NotInAllocationError,
    OutputParseError,
    ScrError,
)
from scrjob.testing.contracts import _observe as observe

NOTICE_S = 5.0  # from the death of a node to its name in down_nodes()
QUERY_S = 40.0  # the longest that any query may take, its own deadline included
END_SLACK_S = 5.0  # between the end that a world was told and the one that its manager keeps


class ResourceManagerWorld(Protocol):
    """An allocation of at least two nodes."""

    nodes: list[str]
    """Its nodes in the manager's order."""
    job_id: str
    environ: Mapping[str, str]
    """What a process inside the allocation has in its environment."""
    end_time: Optional[int]
    """When it ends, in Unix seconds; None if it has no end."""

    def manager(self) -> Any:
        """Return the plugin, bound to the inside of the allocation."""
        ...

    def outside(self) -> Any:
        """Return the plugin, bound to a place without any allocation."""
        ...

    def kill(self, node: str) -> None:
        """Make a node bad, with no word to the plugin. For the capability "down_nodes"."""
        ...

    def cut_off(self) -> None:
        """Make every question to the manager fail. For the capability "cut_off"."""
        ...

    def break_tool(self, how: str) -> None:
        """Let the manager's tool be "missing", "hanging", "failing", "silent" or "garbage".

        For the capability "tools". A hanging tool is to be met with a deadline of a few seconds.
        """
        ...


class ResourceManagerContract:
    """Inherit it and supply the fixture ``world``.

    Capabilities: "down_nodes" the manager learns of dead nodes; "end_time" it knows when the allocation
    ends; "cut_off", "tools" the world can break what the manager asks.
    """

    capabilities: frozenset[str] = frozenset()

    def test_detects_its_own_environment_only(self, world: ResourceManagerWorld) -> None:
        kind = type(world.manager())
        environ = dict(world.environ)
        reason = kind.detect(environ)
        assert reason
        assert observe.is_one_line(reason)
        assert kind.detect(environ) == reason
        assert environ == dict(world.environ), "detection changed the environment it was given"
        assert kind.detect({}) is None
        assert kind.detect({"PATH": "/bin", "HOME": "/root", "USER": "alice"}) is None

    def test_job_id_is_that_of_the_allocation(self, world: ResourceManagerWorld) -> None:
        assert world.manager().job_id() == world.job_id

    def test_nodes_come_in_the_managers_order(self, world: ResourceManagerWorld) -> None:
        assert world.manager().job_nodes() == world.nodes

    def test_outside_there_is_neither_job_nor_node(self, world: ResourceManagerWorld) -> None:
        manager = world.outside()
        for query in (manager.job_id, manager.job_nodes):
            try:
                answer = query()
            except NotInAllocationError:
                continue
            assert not answer, f"{query.__name__} outside of an allocation: {answer!r}"

    def test_healthy_nodes_are_not_down(self, world: ResourceManagerWorld) -> None:
        assert world.manager().down_nodes() == {}

    def test_a_dead_node_is_down_with_a_reason(self, world: ResourceManagerWorld) -> None:
        if "down_nodes" not in self.capabilities:
            assert world.manager().poll_seconds is None, (
                "a manager that learns nothing is not polled"
            )
            return
        manager = world.manager()
        victim = world.nodes[1]
        world.kill(victim)
        observe.eventually(
            lambda: victim in manager.down_nodes(), "death noticed", limit_s=NOTICE_S
        )
        down = manager.down_nodes()
        assert set(down) == {victim}
        assert observe.is_one_line(down[victim])
        assert manager.job_nodes() == world.nodes, "a down node is still one of the allocation"

    def test_end_time_is_absolute_or_none_or_unknown(self, world: ResourceManagerWorld) -> None:
        end = world.manager().end_time()
        assert isinstance(end, int)
        if "end_time" not in self.capabilities:
            assert end == 0, "a manager that does not know the end says 0"
        elif world.end_time is None:
            assert end == -1, "no limit is -1"
        else:
            assert abs(end - world.end_time) <= END_SLACK_S

    def test_the_start_is_past(self, world: ResourceManagerWorld) -> None:
        start = world.manager().start_time()
        assert start is None or 0 < start <= time.time() + 1

    def test_pinned_nodes_are_nodes(self, world: ResourceManagerWorld) -> None:
        assert set(world.manager().pinned_nodes()) <= set(world.nodes)

    def test_the_same_answer_twice(self, world: ResourceManagerWorld) -> None:
        manager = world.manager()
        for query in _queries(manager):
            assert query() == query(), query.__name__

    def test_an_answer_belongs_to_the_caller(self, world: ResourceManagerWorld) -> None:
        manager = world.manager()
        manager.job_nodes().clear()
        manager.down_nodes()["nobody"] = "was here"
        assert manager.job_nodes() == world.nodes
        assert manager.down_nodes() == {}

    def test_queries_change_nothing_here(self, world: ResourceManagerWorld) -> None:
        manager = world.manager()
        with observe.untouched(), observe.nothing_left():
            manager.prerun()
            for query in _queries(manager):
                query()

    def test_a_failed_query_raises(self, world: ResourceManagerWorld) -> None:
        """Unknown is never empty: without its manager nobody knows which nodes are down."""
        if "cut_off" not in self.capabilities:
            return
        world.cut_off()
        manager = world.manager()
        limit = observe.within(QUERY_S, "a query that cannot be answered")
        with limit, observe.raises(ScrError, "down_nodes"):
            manager.down_nodes()

    def test_a_missing_tool_is_told(self, world: ResourceManagerWorld) -> None:
        self._broken(world, "missing", CommandNotFoundError)

    def test_a_hanging_tool_is_told(self, world: ResourceManagerWorld) -> None:
        self._broken(world, "hanging", CommandTimeoutError)

    def test_a_failing_tool_is_told(self, world: ResourceManagerWorld) -> None:
        self._broken(world, "failing", CommandError)

    def test_a_silent_tool_is_told(self, world: ResourceManagerWorld) -> None:
        self._broken(world, "silent", OutputParseError)

    def test_garbage_is_told(self, world: ResourceManagerWorld) -> None:
        self._broken(world, "garbage", OutputParseError)

    def _broken(self, world: ResourceManagerWorld, how: str, expected: type[ScrError]) -> None:
        if "tools" not in self.capabilities:
            return
        world.break_tool(how)
        manager = world.manager()
        limit = observe.within(QUERY_S, f"a query with a {how} tool")
        with limit, observe.raises(expected, f"down_nodes with a {how} tool"):
            manager.down_nodes()


def _queries(manager: Any) -> list[Callable[[], object]]:
    return [
        manager.job_id,
        manager.job_nodes,
        manager.down_nodes,
        manager.end_time,
        manager.start_time,
        manager.pinned_nodes,
        manager.private_storage,
    ]
