# SPDX-License-Identifier: BSD-3-Clause
"""How allocations end: in order, out of time, or by whatever kill; nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Callable, Sequence

import pytest

from scrjob._clock import SystemClock, wait_for
from scrjob.localrm import _proc
from scrjob.testing.local import allocation

pytestmark = pytest.mark.local

SCR_LOCAL = [sys.executable, "-m", "scrjob", "scr_local"]
PYTHON = [sys.executable, "-I", "-S", "-c"]
TELL = (
    "import json, os, subprocess, sys; subprocess.Popen(['setsid', 'sleep', '99'], stdout=2);"
    "print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
)


class World:
    """A base directory of its own and a mark by which all processes that come from here are found."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.mark = f"SCRJOB_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.environ = {**os.environ, "SCR_LOCAL_BASE": str(base), name: value}

    def call(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: PLW1510 - it is among the options
            [*SCR_LOCAL, *words],
            **{
                "check": False,
                "env": self.environ,
                "cwd": self.base,
                "text": True,
                "capture_output": True,
                "timeout": 60,
                "stdin": subprocess.DEVNULL,
                **options,
            },
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*SCR_LOCAL, *words],
            env=self.environ,
            cwd=self.base,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def processes(self) -> list[int]:
        mark = self.mark.encode()
        return [
            p.pid for p in _proc.process_table().values() if p.alive and _proc.has_mark(p.pid, mark)
        ]

    def directories(self) -> list[str]:
        return [d for d in os.listdir(self.base / "local") if d.isdigit()]

    def nothing_runs(self, limit_s: float = 15.0) -> bool:
        return wait_for(lambda: not self.processes(), clock=SystemClock(), limit_s=limit_s)


@pytest.fixture
def world(namespaces: None, tmp_path: Path) -> World:
    return World(tmp_path)


def hold(world: World, *options: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start an allocation of 2 nodes whose command, and a program on each node, wait."""
    front = world.start("alloc", "-N", "2", "--grace", "1", *options, "--", *PYTHON, TELL)
    assert front.stdout is not None
    environ = json.loads(front.stdout.readline())
    return front, environ


def status(world: World, environ: dict[str, str]) -> dict[str, Any]:
    done = world.call("status", "--json", env=environ)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["/no/such"], 127),
        (["/"], 126),
    ],
)
def test_the_exit_code_is_the_commands(world: World, command: Sequence[str], code: int) -> None:
    done = world.call("alloc", "-N1", "--", *command)
    assert done.returncode == code
    assert world.nothing_runs(0.0)
    assert world.directories() == []


def test_the_command_has_the_users_streams(world: World) -> None:
    done = world.call("alloc", "-N1", "cat", stdin=None, input="in and out")
    assert done.stdout == "in and out"
    assert done.stderr == ""


def test_without_a_command_the_shell_runs(world: World) -> None:
    done = world.call(
        "alloc",
        "-N1",
        stdin=None,
        input="echo $SCR_LOCAL_NODES; exit 5\n",
        env={**world.environ, "SHELL": "/bin/sh"},
    )
    assert (done.stdout, done.returncode) == ("node1\n", 5)


def test_the_time_limit_ends_the_command(world: World) -> None:
    """TERM is ignored here: KILL follows after the grace."""
    done = world.call(
        "alloc",
        "-N1",
        "-t",
        "0.01",
        "--grace",
        "0.3",
        "--",
        "sh",
        "-c",
        "trap '' TERM; exec sleep 60",  # a shell would tell how its child ended
    )
    assert done.returncode == 137
    assert done.stderr == "scr_local: the time limit is reached; ending the command\n"
    assert world.nothing_runs(0.0)


def test_the_end_can_be_moved(world: World) -> None:
    front, environ = hold(world, "-t", "60")
    end = status(world, environ)["end"]
    assert world.call("limit", "120", env=environ).returncode == 0
    assert status(world, environ)["end"] > end + 3000
    world.call("limit", "0.001", env=environ)
    assert front.wait(20) == 143
    front.communicate()


def kill_manager(front: int, state: dict[str, Any]) -> None:
    os.kill(state["manager"], signal.SIGKILL)


def kill_front(front: int, state: dict[str, Any]) -> None:
    os.kill(front, signal.SIGKILL)


def kill_command(front: int, state: dict[str, Any]) -> None:
    os.kill(state["command"], signal.SIGKILL)


def kill_agents(front: int, state: dict[str, Any]) -> None:
    for node in state["nodes"]:
        os.kill(node["pid"], signal.SIGKILL)
    os.kill(state["command"], signal.SIGKILL)


def term_front(front: int, state: dict[str, Any]) -> None:
    os.kill(front, signal.SIGTERM)


def stop_nodes_and_kill_manager(front: int, state: dict[str, Any]) -> None:
    for node in state["nodes"]:
        _proc.stop_tree(node["pid"])
    kill_manager(front, state)


def kill_manager_and_front(front: int, state: dict[str, Any]) -> None:
    os.kill(front, signal.SIGSTOP)  # it must not get to clean up
    kill_manager(front, state)
    os.kill(front, signal.SIGKILL)


@pytest.mark.parametrize("options", [(), ("--no-namespaces",)], ids=["private", "plain"])
@pytest.mark.parametrize(
    ("deed", "code"),
    [
        (kill_manager, 69),
        (kill_front, -9),
        (kill_command, 137),
        (kill_agents, 137),
        (term_front, 143),
        (stop_nodes_and_kill_manager, 69),
    ],
)
def test_nothing_is_orphaned(
    world: World, deed: Callable[[int, dict[str, Any]], None], code: int, options: Sequence[str]
) -> None:
    front, environ = hold(world, *options)
    clients = [
        subprocess.Popen(
            [*SCR_LOCAL, "exec", node, "sh", "-c", "setsid sleep 99 & echo on; sleep 99"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for node in ("node1", "node2")
    ]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == b"on\n"
    deed(front.pid, status(world, environ))
    assert front.wait(20) == code
    for client in clients:
        client.wait(20)
        client.communicate()
    front.communicate()
    assert world.nothing_runs(), world.processes()
    lost = code == 69
    assert wait_for(lambda: len(world.directories()) == lost, clock=SystemClock(), limit_s=5.0)
    done = world.call("status")
    assert done.returncode == 78
    if lost:
        assert "has ended: the manager (pid" in done.stdout
        assert "was killed by signal 9 (SIGKILL)" in done.stdout
    else:
        assert "no allocation" in done.stderr


def test_both_killed_leave_nothing_that_the_next_allocation_does_not_clear(world: World) -> None:
    front, environ = hold(world)
    nodes = [node["pid"] for node in status(world, environ)["nodes"]]
    kill_manager_and_front(front.pid, status(world, environ))
    front.wait(20)
    front.communicate()
    assert wait_for(lambda: not any(map(_is_running, nodes)), clock=SystemClock(), limit_s=5.0)
    done = world.call("status")
    assert done.returncode == 78
    assert "its manager is gone without a word" in done.stdout
    assert world.call("alloc", "-N1", "true").returncode == 0
    assert world.nothing_runs()
    assert world.directories() == []


def _is_running(pid: int) -> bool:
    process = _proc.read_process(pid)
    return process is not None and process.alive


def test_a_lost_allocation_says_so_inside_too(world: World) -> None:
    """The command still runs for a moment after the manager's death: it learns why."""
    text = """if True:
        import json, os, signal, subprocess, sys
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        def status(*words):
            return subprocess.run([*sys.argv[1:], "status", *words], stdout=-1).stdout.decode()
        os.kill(json.loads(status("--json"))["manager"], signal.SIGKILL)
        said = ""
        while "killed by signal 9" not in said:
            said = status()
        print(said)
    """
    done = world.call("alloc", "-N1", "--", *PYTHON, text, *SCR_LOCAL)
    assert done.returncode == 69
    assert "has ended: the manager" in done.stdout
    assert "was killed by signal 9 (SIGKILL); the nodes died with it" in done.stderr


def test_two_allocations_do_not_meet(world: World) -> None:
    with allocation(2, cwd=world.base, environ=world.environ) as one:
        with allocation(2, cwd=world.base, environ=world.environ) as two:
            assert one.job_id != two.job_id
            one.on("node1", ["touch", "/tmp/x"])
            assert two.on("node1", ["ls", "/tmp/x"]).returncode != 0
            one.fail("node1")
            one.wait_state("node1", "dead")
            assert two.node("node1").state == "up"
            done = world.call("fail", "node2")
            assert done.returncode == 64
            assert one.job_id in done.stderr
            assert world.call("fail", "node2", "-j", two.job_id).returncode == 0
            two.wait_state("node2", "dead")
        assert one.node("node2").state == "up"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["alloc", "-N", "0", "true"], 64, "0 nodes: expected 1 to 256"),
        (["alloc", "-N", "x", "true"], 64, "invalid int value"),
        (["alloc", "-w", "localhost", "true"], 64, "this machine's own name"),
        (["alloc", "-w", "a:b", "true"], 64, "is no name for a node"),
        (["alloc", "-w", "a,a", "true"], 64, "same name"),
        (["alloc", "-t", "-1", "true"], 64, "no number of minutes"),
        (
            ["alloc", "--share", "/no/such", "true"],
            78,
            "--share /no/such: there is no such directory",
        ),
        (["alloc", "--share", "/tmp", "true"], 78, "each node's own storage"),
        (["alloc", "--storage", "rel", "true"], 78, "absolute path"),
        (["alloc", "--storage", "/proc", "true"], 78, "cannot be node storage"),
        (["alloc", "--storage", "/no/such", "true"], 78, "no such directory"),
        (["alloc", "--storage-size", "much", "true"], 64, "no size"),
        (["status"], 78, "no allocation"),
        (["fail", "node1", "-j", "17"], 78, "no allocation '17'"),
        (["nonsense"], 64, "invalid choice"),
    ],
)
def test_bad_calls_get_one_line(world: World, words: list[str], code: int, message: str) -> None:
    done = world.call(*words)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (world.base / "local").exists() or world.directories() == []


def test_closed_streams_do_not_become_something_else(world: World) -> None:
    words = [*SCR_LOCAL, "alloc", "-N1", "--", "readlink", "/proc/self/fd/0"]
    done = world.call(
        "alloc", "-N1", "--", "sh", "-c", 'exec <&-; exec "$@"', "sh", *words, timeout=30
    )
    assert done.stdout == "/dev/null\n"


def test_an_interactive_shell_ends_with_the_allocation(world: World) -> None:
    """It ignores TERM, so it gets HUP; and the terminal works as without us."""
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(world.base)
        os.execve(
            sys.executable,
            [*SCR_LOCAL, "alloc", "-N1", "-t", "60"],
            {**world.environ, "SHELL": "/bin/sh", "PS1": "$ "},
        )
    said = b""

    def wait_for_text(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(terminal, 4096)
        said = said.partition(text)[2]

    wait_for_text(b"$ ")
    # One process says that it is there and waits: between two, the shell may lose the interrupt.
    os.write(terminal, b"tty -s && sh -c \"echo term''inal; exec sleep 99\"\n")
    wait_for_text(b"terminal")
    os.write(terminal, b"\x03")
    wait_for_text(b"$ ")
    os.write(terminal, " ".join([*SCR_LOCAL, "limit", "0.001"]).encode() + b"\n")
    wait_for_text(b"the time limit is reached")
    _, code = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.WEXITSTATUS(code) in {129, 0}
    assert world.nothing_runs()


def test_a_fault_from_outside_says_whose_node_it_is(namespaces: None, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    environ = {**os.environ, "SCR_LOCAL_BASE": str(base)}
    with allocation(1, cwd=tmp_path, environ=environ) as here:
        outside = {key: text for key, text in here.environ.items() if key != "SCR_LOCAL_DIR"}
        argv = [sys.executable, "-m", "scrjob", "scr_local", "wipe", "node1"]
        done = here.run(argv, env=outside)
        assert done.returncode == 0, done.stderr
        assert done.stderr.decode() == f"scr_local: wipe node1 of allocation {here.job_id}\n"
        assert here.run(argv).stderr == b""
