# SPDX-License-Identifier: BSD-3-Clause
"""Programs on nodes: every byte in, every byte out, the real end, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import Sequence

import pytest

from scrjob._context import system_context
from scrjob.errors import UsageError
from scrjob.localrm import _proc
from scrjob.remoteexec.local import LocalRemoteExec
from scrjob.remoteexec.remoteexec import RemoteExecResult
from scrjob.testing.local import HeldAllocation

pytestmark = pytest.mark.local


def rexec(
    here: HeldAllocation, argv: Sequence[str], nodes: Sequence[str], timeout_s: float = 20.0
) -> RemoteExecResult:
    jobenv = SimpleNamespace(context=system_context(here.environ))
    return LocalRemoteExec().bounded(timeout_s).rexec(argv, nodes, jobenv)  # type: ignore[arg-type]


def processes_below(here: HeldAllocation, node: str) -> list[int]:
    return [p.pid for p in _proc.descendants(here.node(node).pid)]


def test_each_node_answers_for_itself(here: HeldAllocation) -> None:
    result = rexec(here, ["sh", "-c", "hostname; hostname >&2; exit ${HOSTNAME#node}"], here.nodes)
    assert result.nodes() == here.nodes
    for number, node in enumerate(here.nodes, 1):
        assert result.stdout(node) == result.stderr(node) == f"{node}\n"
        assert result.rc(node) == number
        assert result.failure(node) is None


def test_words_pass_byte_for_byte(here: HeldAllocation) -> None:
    words = ["", " ", "a b", "'\"\\", "$HOME", "*", "new\nline", ":", "-x", "\udcff", "é"]
    code = "import os, sys; sys.stdout.buffer.write(b'|'.join(map(os.fsencode, sys.argv[1:])))"
    result = rexec(here, [sys.executable, "-c", code, *words], ["node1"])
    assert result.stdout("node1") == "|".join(words)


def test_signals_show_as_a_shell_shows_them(here: HeldAllocation) -> None:
    assert rexec(here, ["sh", "-c", "kill -TERM $$"], ["node1"]).rc("node1") == 128 + signal.SIGTERM


def test_a_missing_program_is_told(here: HeldAllocation) -> None:
    result = rexec(here, ["/no/such program"], ["node1"])
    assert result.rc("node1") is None
    assert "/no/such program: No such file" in (result.failure("node1") or "")


def test_large_output_of_all_nodes(here: HeldAllocation) -> None:
    size = 10 << 20
    result = rexec(here, ["head", "-c", str(size), "/dev/zero"], here.nodes)
    assert [len(result.stdout(node)) for node in here.nodes] == [size] * 4


def test_binary_output_survives(here: HeldAllocation) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    result = rexec(here, [sys.executable, "-c", code], ["node1"])
    assert result.stdout("node1").encode("utf-8", "surrogateescape") == bytes(range(256))


def test_bad_nodes_do_not_delay_the_others(here: HeldAllocation) -> None:
    """Lesson A12: a dead, a stopped and a slow node, and one that answers."""
    here.fail("node1")
    here.wait_state("node1", "dead")
    here.hang("node2")
    began = time.monotonic()
    result = rexec(
        here, ["sh", "-c", "test $HOSTNAME != node3 || sleep 60; echo ok"], here.nodes, 1.0
    )
    assert time.monotonic() - began < 5.0
    assert result.stdout("node4") == "ok\n"
    assert result.rc("node4") == 0
    assert result.failure("node1") == "the node is dead"
    assert result.failure("node2") == result.failure("node3") == "no answer within 1 s"


def test_what_ran_past_the_deadline_is_ended(here: HeldAllocation) -> None:
    rexec(here, ["sleep", "60"], ["node1"], 0.3)
    wait_until_empty(here, "node1")


def test_what_a_command_leaves_behind_is_ended(here: HeldAllocation) -> None:
    """Detached grandchildren in sessions of their own, too."""
    result = rexec(
        here,
        ["sh", "-c", "setsid sleep 60 & setsid sh -c 'sleep 60 & sleep 60' & exit 3"],
        ["node1"],
    )
    assert result.rc("node1") == 3
    wait_until_empty(here, "node1")  # its keeper, which has answered, may not be quite gone


def test_a_clients_death_ends_its_program(here: HeldAllocation) -> None:
    client = here.start(
        [
            sys.executable,
            "-m",
            "scrjob",
            "scr_local",
            "exec",
            "node1",
            "sh",
            "-c",
            "echo on; sleep 60",
        ]
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    assert processes_below(here, "node1")
    client.kill()
    client.communicate()
    wait_until_empty(here, "node1")


def test_a_killed_keeper_leaves_nothing(here: HeldAllocation) -> None:
    client = here.start(
        [
            sys.executable,
            "-m",
            "scrjob",
            "scr_local",
            "exec",
            "node1",
            "sh",
            "-c",
            "setsid sleep 60 & echo on; wait",
        ]
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    os.kill(processes_below(here, "node1")[0], signal.SIGKILL)
    assert client.wait(10) == 69
    client.communicate()
    wait_until_empty(here, "node1")
    assert here.node("node1").state == "up"


def test_a_nodes_death_ends_the_call_at_once(here: HeldAllocation) -> None:
    client = here.start(
        [
            sys.executable,
            "-m",
            "scrjob",
            "scr_local",
            "exec",
            "node2",
            "sh",
            "-c",
            "echo on; sleep 60",
        ]
    )
    assert client.stdout is not None
    client.stdout.readline()
    here.fail("node2")
    _, err = client.communicate(timeout=5)
    assert client.returncode == 69
    assert b"node2: the node died" in err


def test_stdin_and_directory_are_the_callers(here: HeldAllocation) -> None:
    done = here.on("node3", ["sh", "-c", "cat; pwd"], input=b"in\0put\n")
    assert done.stdout == b"in\0put\n" + os.fsencode(here.cwd) + b"\n"


def test_nodes_named_twice_or_unknown_are_refused(here: HeldAllocation) -> None:
    with pytest.raises(UsageError, match="twice"):
        rexec(here, ["true"], ["node1", "node1"])
    with pytest.raises(UsageError, match="node9"):
        rexec(here, ["true"], ["node9"])


def test_no_descriptor_is_left(here: HeldAllocation) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    rexec(here, ["sleep", "60"], here.nodes, 0.2)
    rexec(here, ["true"], here.nodes)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_back_end_says_when_it_cannot_be_used() -> None:
    assert "SCR_LOCAL_DIR" in (LocalRemoteExec.available(system_context({})) or "")


def wait_until_empty(here: HeldAllocation, node: str) -> None:
    from scrjob._clock import SystemClock, wait_for

    wait_for(lambda: not processes_below(here, node), clock=SystemClock(), limit_s=5.0)
    assert processes_below(here, node) == []
