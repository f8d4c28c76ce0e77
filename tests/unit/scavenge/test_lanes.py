# SPDX-License-Identifier: BSD-3-Clause
"""Lanes: how many nodes at once, one broken call, and a slow node that keeps nobody waiting."""

from __future__ import annotations

import signal
import threading
import tracemalloc
from typing import Sequence

import pytest

from scrjob.errors import PluginError, ScrError
from scrjob.remoteexec.remoteexec import RemoteExecResult
from scrjob.scavenge.answers import NodeCopy
from scrjob.scavenge.lanes import LANES, batches, run_in_lanes


class Nodes:
    """Counts the nodes that are at work at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.calls: list[list[str]] = []

    def call(self, group: Sequence[str]) -> RemoteExecResult:
        with self.lock:
            self.calls.append(list(group))
            self.now += len(group)
            self.most = max(self.most, self.now)
        result = self.work(group)
        with self.lock:
            self.now -= len(group)
        return result

    def work(self, group: Sequence[str]) -> RemoteExecResult:
        result = RemoteExecResult(["copy"], group)
        for node in group:
            result.set_rc(node, 0)
        return result


def enter(result: RemoteExecResult, group: Sequence[str]) -> list[NodeCopy]:
    return [NodeCopy(node, result.rc(node)) for node in group]


def fail(group: Sequence[str], error: ScrError) -> list[NodeCopy]:
    return [NodeCopy(node, None, errors=(str(error),)) for node in group]


def run(nodes: Nodes, names: Sequence[str], width: int) -> list[NodeCopy]:
    return run_in_lanes(names, width, call=nodes.call, enter=enter, fail=fail)


@pytest.mark.parametrize(
    ("count", "width", "calls", "largest"),
    [(0, 256, 0, 0), (4, 256, 1, 4), (256, 256, 1, 256), (257, 256, 17, 16), (5, 2, 5, 1)],
)
def test_batches(count: int, width: int, calls: int, largest: int) -> None:
    names = [f"n{i}" for i in range(count)]
    made = batches(names, width)
    assert (len(made), max(map(len, made), default=0)) == (calls, largest)
    assert [name for group in made for name in group] == names


@pytest.mark.parametrize("width", [1, 7, 64, 256])
def test_never_more_than_the_width_at_once_and_the_order_of_the_nodes(width: int) -> None:
    nodes = Nodes()
    names = [f"n{i}" for i in range(600)]
    done = run(nodes, names, width)
    assert [copy.node for copy in done] == names
    assert nodes.most <= width
    assert len(nodes.calls) > 1


def test_a_slow_node_does_not_hold_back_the_next() -> None:
    """Its call lasts until all others are done: with one lane, or steps in lockstep, that is never."""
    nodes = Nodes()
    names = [f"n{i}" for i in range(100)]
    others = threading.Event()
    seen: set[str] = set()
    plain = nodes.work

    def work(group: Sequence[str]) -> RemoteExecResult:
        if "n0" in group:
            assert others.wait(20), "nodes wait for the slow one"
        with nodes.lock:
            seen.update(group)
            if len(seen) >= len(names) - 2:  # all but those of its own call
                others.set()
        return plain(group)

    nodes.work = work  # type: ignore[method-assign]
    assert all(copy.rc == 0 for copy in run(nodes, names, 32))


def test_a_call_that_breaks_down_costs_its_own_nodes_only() -> None:
    nodes = Nodes()
    plain = nodes.work

    def work(group: Sequence[str]) -> RemoteExecResult:
        if "n3" in group:
            raise PluginError("it broke")
        return plain(group)

    nodes.work = work  # type: ignore[method-assign]
    done = run(nodes, [f"n{i}" for i in range(8)], 2)
    assert [copy.node for copy in done if copy.rc is None] == ["n3"]
    assert done[3].errors == ("it broke",)


def test_an_interruption_waits_for_no_slow_node_and_begins_no_further_one() -> None:
    nodes = Nodes()
    stopped = threading.Event()
    answers: list[bool] = []
    plain = nodes.work

    def work(group: Sequence[str]) -> RemoteExecResult:
        if "n0" in group:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        answers.append(stopped.wait(20))
        return plain(group)

    nodes.work = work  # type: ignore[method-assign]
    names = [f"n{i}" for i in range(400)]
    with pytest.raises(KeyboardInterrupt):
        run_in_lanes(names, LANES, call=nodes.call, enter=enter, fail=fail, stop=stopped.set)
    assert all(answers)
    assert len(nodes.calls) <= 2 * LANES


@pytest.mark.parametrize("count", [3, 300])
def test_remote_execution_that_never_works_is_an_error(count: int) -> None:
    nodes = Nodes()

    def work(group: Sequence[str]) -> RemoteExecResult:
        raise PluginError("it is broken")

    nodes.work = work  # type: ignore[method-assign]
    with pytest.raises(PluginError, match="it is broken"):
        run(nodes, [f"n{i}" for i in range(count)], 16)


def test_ten_thousand_nodes() -> None:
    """In small calls on a few threads, with an answer of a kilobyte each."""
    nodes = Nodes()
    plain = nodes.work

    def work(group: Sequence[str]) -> RemoteExecResult:
        result = plain(group)
        for node in group:
            result.append_stdout(node, "x" * 1000)
        return result

    nodes.work = work  # type: ignore[method-assign]
    before = threading.active_count()
    tracemalloc.start()
    done = run(nodes, [f"n{i}" for i in range(10_000)], 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(done) == 10_000
    assert nodes.most <= 256
    assert peak < 20 << 20
    assert threading.active_count() <= before + LANES
