# SPDX-License-Identifier: BSD-3-Clause
"""What every remote execution back end must do."""

from __future__ import annotations

import sys
import uuid
from typing import Any, Protocol

from scrjob.errors import ScrError
from scrjob.testing.contracts import _observe as observe

DEADLINE_S = 2.0  # given to calls that meet dead nodes or hanging commands
SLACK_S = 5.0  # what a call may take beyond its deadline
HOSTILE_ARGUMENTS = (
    "two  words",
    "",
    "it's",
    'a "b"',
    "line\nbreak",
    "$HOME `id` *",
    "a:b",
    "-n",
    "ä\\n",
)
LARGE_BYTES = 10_000_000


class RemoteExecWorld(Protocol):
    """An allocation of at least three nodes."""

    nodes: list[str]
    jobenv: Any

    def rexec(self) -> Any:
        """Return the plugin, bound to the inside of the allocation."""
        ...

    def nowhere(self) -> Any:
        """Return a context in which the back end reaches nothing."""
        ...

    def whereabouts(self) -> list[str]:
        """Return a command that prints the name of the node it runs on."""
        ...

    def kill(self, node: str) -> None:
        """Let a node die. For the capability "dead_nodes"."""
        ...


class RemoteExecContract:
    """Inherit it and supply the fixture ``world``.

    Capabilities: "dead_nodes" the world can let a node die.
    """

    capabilities: frozenset[str] = frozenset()

    def test_says_whether_it_is_available(self, world: RemoteExecWorld) -> None:
        rexec = world.rexec()
        assert type(rexec).available(rexec.context) is None
        why = type(rexec).available(world.nowhere())
        assert why
        assert observe.is_one_line(why)

    def test_one_result_for_each_node_asked(self, world: RemoteExecWorld) -> None:
        asked = [world.nodes[2], world.nodes[0]]
        result = world.rexec().rexec(["echo", "hello"], asked, world.jobenv)
        assert result.nodes() == asked
        assert result.argv() == ["echo", "hello"]
        for node in asked:
            assert (result.rc(node), result.stdout(node), result.stderr(node)) == (0, "hello\n", "")

    def test_no_nodes_no_results(self, world: RemoteExecWorld) -> None:
        assert world.rexec().rexec(["echo"], [], world.jobenv).nodes() == []

    def test_it_really_runs_on_the_node(self, world: RemoteExecWorld) -> None:
        result = world.rexec().rexec(world.whereabouts(), world.nodes, world.jobenv)
        assert [result.stdout(node).strip() for node in world.nodes] == world.nodes

    def test_code_and_streams_are_kept_apart(self, world: RemoteExecWorld) -> None:
        """Lesson A11: remote commands have exit codes."""
        code = "import sys; print('out'); sys.stderr.write('err\\n'); sys.exit(5)"
        node = world.nodes[0]
        result = world.rexec().rexec([sys.executable, "-c", code], [node], world.jobenv)
        assert (result.rc(node), result.stdout(node), result.stderr(node)) == (5, "out\n", "err\n")

    def test_a_signal_is_128_and_its_number(self, world: RemoteExecWorld) -> None:
        code = "import os; os.kill(os.getpid(), 9)"
        node = world.nodes[0]
        result = world.rexec().rexec([sys.executable, "-c", code], [node], world.jobenv)
        assert result.rc(node) == 128 + 9

    def test_arguments_pass_byte_for_byte(self, world: RemoteExecWorld) -> None:
        code = "import sys; print(ascii(sys.argv[1:]))"
        argv = [sys.executable, "-c", code, *HOSTILE_ARGUMENTS]
        node = world.nodes[0]
        result = world.rexec().rexec(argv, [node], world.jobenv)
        assert result.stdout(node).strip() == ascii(list(HOSTILE_ARGUMENTS))

    def test_bytes_that_are_no_text_pass(self, world: RemoteExecWorld) -> None:
        code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
        node = world.nodes[0]
        result = world.rexec().rexec([sys.executable, "-c", code], [node], world.jobenv)
        assert result.stdout(node).encode("utf-8", "surrogateescape") == bytes(range(256))

    def test_much_output_passes(self, world: RemoteExecWorld) -> None:
        code = f"import sys; sys.stdout.write('x' * {LARGE_BYTES})"
        node = world.nodes[0]
        result = world.rexec().rexec([sys.executable, "-c", code], [node], world.jobenv)
        assert result.rc(node) == 0
        assert len(result.stdout(node)) == LARGE_BYTES

    def test_the_command_gets_no_input(self, world: RemoteExecWorld) -> None:
        node = world.nodes[0]
        result = world.rexec().bounded(DEADLINE_S).rexec(["cat"], [node], world.jobenv)
        assert (result.rc(node), result.stdout(node)) == (0, "")

    def test_a_missing_program_is_a_result(self, world: RemoteExecWorld) -> None:
        node = world.nodes[0]
        result = world.rexec().rexec(["no-such-program-anywhere"], [node], world.jobenv)
        assert result.rc(node) != 0

    def test_a_hanging_command_is_cut_off(self, world: RemoteExecWorld) -> None:
        marker = f"scrjob-{uuid.uuid4().hex}"
        code = "import sys, time; print('begun', flush=True); time.sleep(600)"
        node = world.nodes[0]
        with observe.within(DEADLINE_S + SLACK_S, "a hanging command"):
            result = (
                world.rexec()
                .bounded(DEADLINE_S)
                .rexec([sys.executable, "-c", code, marker], [node], world.jobenv)
            )
        assert result.rc(node) is None
        assert observe.is_one_line(result.failure(node) or "")
        observe.eventually(
            lambda: not observe.processes_with(marker), "the hanging command was ended"
        )

    def test_a_dead_node_delays_nobody(self, world: RemoteExecWorld) -> None:
        if "dead_nodes" not in self.capabilities:
            return
        victim, *others = world.nodes
        world.kill(victim)
        with observe.within(DEADLINE_S + SLACK_S, "a call with a dead node"):
            result = (
                world.rexec().bounded(DEADLINE_S).rexec(["echo", "x"], world.nodes, world.jobenv)
            )
        assert result.rc(victim) is None
        assert observe.is_one_line(result.failure(victim) or "")
        assert [(result.rc(n), result.stdout(n)) for n in others] == [(0, "x\n")] * len(others)

    def test_a_stranger_is_never_healthy(self, world: RemoteExecWorld) -> None:
        """A name that is no node must not be answered by this host in its place."""
        name = "no-such-node"
        try:
            result = world.rexec().bounded(DEADLINE_S).rexec(["echo", "x"], [name], world.jobenv)
        except ScrError:
            return
        assert result.rc(name) != 0

    def test_duplicates_are_refused(self, world: RemoteExecWorld) -> None:
        node = world.nodes[0]
        with observe.raises(ScrError, "the same node twice"):
            world.rexec().rexec(["echo"], [node, node], world.jobenv)

    def test_nothing_is_left_here(self, world: RemoteExecWorld) -> None:
        rexec = world.rexec()
        rexec.rexec(["true"], world.nodes, world.jobenv)  # whatever it keeps open, it has now
        with observe.untouched(), observe.nothing_left():
            rexec.rexec(["true"], world.nodes, world.jobenv)
