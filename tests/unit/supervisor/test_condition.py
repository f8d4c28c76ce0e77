# SPDX-License-Identifier: BSD-3-Clause
"""Counters of kills after a run against those from before it: what they prove, and what they do not."""

from __future__ import annotations

import threading
from typing import Any, Optional

import pytest

from scrjob._process import SubprocessRunner
from scrjob.errors import CommandTimeoutError
from scrjob.remoteexec import RemoteExec, RemoteExecResult
from scrjob.supervisor.condition import (
    Aftermath,
    Change,
    Conditions,
    Reading,
    compare,
    judge_changes,
    parse_condition,
)
from scrjob.testing.fakes import FakeJobEnv, fake_context

OURS = "memory.events of /slurm/job_5"
SAID = f"""\
kills 2 {OURS}
kills 41 whole node
kernel 7 Out of memory: Killed process 9 (a.out)
free 10 1000 /dev/shm/with blank
future 3 of a newer version
kills many of them
free 10 large /x
garbage
"""


def reading(ours: Optional[int] = None, node: Optional[int] = None) -> Reading:
    counts = {OURS: ours, "whole node": node}
    return Reading({name: n for name, n in counts.items() if n is not None}, {}, {})


def test_what_a_node_said_is_understood() -> None:
    assert parse_condition(SAID) == Reading(
        {OURS: 2, "whole node": 41},
        {7: "Out of memory: Killed process 9 (a.out)"},
        {"/dev/shm/with blank": (10, 1000)},
    )


class TestTwoReadings:
    def test_a_counter_that_rose(self) -> None:
        change = compare(reading(0, 40), reading(1, 41))
        assert change.kills == [f"kills for want of memory rose from 0 to 1 ({OURS})"]
        assert change.elsewhere == ["kills for want of memory rose from 40 to 41 (whole node)"]

    def test_counters_that_did_not_rise(self) -> None:
        assert compare(reading(3, 40), reading(3, 40)) == Change([], [], [], [])

    def test_a_counter_alone_proves_nothing(self) -> None:
        """Nor does one that was not seen before: a group that is new, a node that was restarted."""
        assert compare(None, reading(3, 40)) == Change([], [], [], [])
        assert compare(reading(None, 40), reading(3, 40)).kills == []

    def test_only_new_lines_of_the_kernel(self) -> None:
        before = Reading({}, {7: "old"}, {})
        assert compare(before, Reading({}, {7: "old", 9: "new"}, {})).kernel == ["new"]

    def test_room_is_told_only_where_it_is_scarce(self) -> None:
        after = Reading({}, {}, {"/full": (9, 1000), "/half": (500, 1000), "/none": (0, 0)})
        assert compare(None, after).scarce == ["/full: 9 of 1000 bytes are free"]


class TestJudging:
    rose = Change(["ours rose", "outer rose"], ["node rose"], ["Killed process 9"], [])
    other = Change([], ["node rose"], ["Killed process 9"], [])
    quiet = Change([], [], [], [])

    def test_a_rise_in_our_groups_names_the_node(self) -> None:
        """A node whose whole counter rose too (another job there) is not blamed."""
        found = judge_changes({"n1": self.other, "n2": self.rose}, [], killed=True)
        assert found == Aftermath(["n2: ours rose"], ["n2: kernel: Killed process 9"])

    def test_many_nodes_are_few_lines(self) -> None:
        changes = {f"n{number}": self.rose for number in range(1, 1001)}
        changes |= {f"m{number}": Change([f"rose {number}"], [], [], []) for number in range(9)}
        found = judge_changes(changes, [], killed=True)
        assert found.memory == [
            "n[1-1000]: ours rose",
            "m0: rose 0",
            "m1: rose 1",
            "and 7 more like it",
        ]
        assert found.notes == ["n[1-1000]: kernel: Killed process 9"]

    def test_a_rise_elsewhere_counts_where_groups_cannot_be_seen(self) -> None:
        found = judge_changes({"n1": self.other, "n2": self.quiet}, [], killed=True)
        assert found.memory == ["n1: node rose"]

    def test_without_a_kill_it_is_only_noted(self) -> None:
        found = judge_changes({"n1": self.rose}, [], killed=False)
        assert found.memory == ()
        assert "n1: ours rose" in found.notes

    def test_no_rise_is_told_of_a_kill(self) -> None:
        found = judge_changes({"n1": self.quiet}, [], killed=True)
        assert found == Aftermath([], ["no counter of kills for want of memory rose"])

    def test_not_known_is_not_no(self) -> None:
        found = judge_changes({"n1": self.quiet}, ["n1", "n2"], killed=True)
        assert found.memory == []
        assert len(found.notes) == 1
        assert found.notes[0].startswith("n[1-2]: whether memory ran out is not known")

    def test_nothing_to_say_of_a_plain_failure(self) -> None:
        assert judge_changes({"n1": self.quiet}, ["n1"], killed=False) == Aftermath((), [])


class Nodes(RemoteExec):
    """Answers with the counters that a test sets; silent nodes do not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"n1": 0, "n2": 0}
        self.silent: set[str] = set()
        self.error: Optional[Exception] = None
        self.asked: list[tuple[list[str], list[str]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
        self.gate.wait(5)
        self.asked.append((list(argv), list(nodes)))
        if self.error:
            raise self.error
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            if node in self.silent:
                result.set_failure(node, "no answer")
            else:
                result.append_stdout(node, f"kills {self.counts[node]} {OURS}\n")
                result.set_rc(node, 0)
        return result


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def conditions(nodes: Nodes) -> Conditions:
    return Conditions(FakeJobEnv(rexec=nodes))


class TestConditions:
    def test_a_kill_between_launch_and_end_is_found(self, nodes: Nodes) -> None:
        watch = conditions(nodes)
        watch.begin(["n1", "n2"])
        nodes.counts["n2"] = 1
        found = watch.changed(["n1", "n2"], killed=True)
        assert found.memory == [f"n2: kills for want of memory rose from 0 to 1 ({OURS})"]
        argv, asked = nodes.asked[0]
        assert asked == ["n1", "n2"]
        assert argv[-3:] == ["condition", "/cache", "/control"]

    def test_a_node_that_was_not_read_before_is_unknown(self, nodes: Nodes) -> None:
        nodes.silent.add("n2")
        watch = conditions(nodes)
        watch.begin(["n1", "n2"])
        nodes.silent.clear()
        nodes.counts["n2"] = 1
        found = watch.changed(["n1", "n2"], killed=True)
        assert found.memory == []
        assert found.notes[0].startswith("n2: whether memory ran out is not known")

    def test_an_older_reading_is_better_than_none(self, nodes: Nodes) -> None:
        """A later run's own first reading may fail; what was read at its predecessor's end holds."""
        watch = conditions(nodes)
        watch.begin(["n1"])
        assert watch.changed(["n1"], killed=True).memory == []
        nodes.error = CommandTimeoutError(["srun"], why="no answer within 10 s")
        watch.begin(["n1"])
        nodes.error = None
        nodes.counts["n1"] = 4
        assert len(watch.changed(["n1"], killed=True).memory) == 1

    def test_a_kill_of_the_run_before_is_not_found_again(self, nodes: Nodes) -> None:
        watch = conditions(nodes)
        watch.begin(["n1"])
        nodes.counts["n1"] = 1
        assert len(watch.changed(["n1"], killed=True).memory) == 1
        nodes.error = CommandTimeoutError(["srun"], why="no answer within 10 s")
        watch.begin(["n1"])
        nodes.error = None
        assert watch.changed(["n1"], killed=True).memory == []

    def test_nodes_that_cannot_be_asked_any_more(
        self, nodes: Nodes, caplog: pytest.LogCaptureFixture
    ) -> None:
        watch = conditions(nodes)
        watch.begin(["n1"])
        nodes.error = CommandTimeoutError(["srun"], why="no answer within 3 s")
        found = watch.changed(["n1"], killed=True)
        assert found.memory == []
        assert "not known" in found.notes[0]
        assert "no answer within 3 s" in caplog.text

    def test_a_launch_does_not_wait_for_the_first_reading(self, nodes: Nodes) -> None:
        nodes.gate.clear()
        context = fake_context(runner=SubprocessRunner())
        watch = Conditions(FakeJobEnv(rexec=nodes, context=context))
        watch.begin(["n1"])  # would hang if it waited
        assert nodes.asked == []
        nodes.gate.set()
        watch.settle()
        assert len(nodes.asked) == 1

    def test_there_may_have_been_no_run(self, nodes: Nodes) -> None:
        conditions(nodes).settle()
        assert nodes.asked == []
