# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution over ssh fulfils the contract, by itself, by pdsh and by ClusterShell.

The ssh is a script that runs the command here in the node's name; tests/cluster has real ones.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scrjob.remoteexec.clustershell import ClusterShell
from scrjob.remoteexec.pdsh import Pdsh
from scrjob.remoteexec.ssh import Ssh
from scrjob.testing.contracts import RemoteExecContract
from scrjob.testing.contracts._observe import processes_with
from sshworld import SshWorld


class TestSsh(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, Ssh, login=["bash", "-c"])


class TestClusterShell(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, ClusterShell)


class TestPdsh(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, Pdsh)


class TestPdshExec(RemoteExecContract):
    """Through the program that SCR_SSH names, by pdsh's module exec."""

    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        world = SshWorld(tmp_path, Pdsh)
        other = world.bin / "reach it"
        world.ssh.rename(other)
        world.jobenv = world.job({"SCR_SSH": f"'{other}' --rsh"})
        return world


@pytest.fixture(params=[Ssh, ClusterShell, Pdsh], ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> SshWorld:
    return SshWorld(tmp_path, request.param)


def said(world: SshWorld, argv: list[str], **environ: str) -> str:
    """Return what the first node says on stdout; it must succeed."""
    node = world.nodes[0]
    result = world.rexec().rexec(argv, [node], world.job(**environ))
    assert result.rc(node) == 0, result.stderr(node)
    return str(result.stdout(node))


def test_the_nodes_command_finds_what_ours_finds_and_no_password(
    site: SshWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "the job's place"
    place.mkdir()
    monkeypatch.chdir(place)
    code = "import os; print(os.getcwd(), os.environ)"
    told = said(site, [sys.executable, "-c", code], PYTHONPATH="/a b", EDITOR="vi")
    assert str(place) in told
    for part in ("'SCR_JOB_NAME': 'two words'", "'PYTHONPATH': '/a b'", str(site.bin)):
        assert part in told
    for part in ("secret", "EDITOR"):
        assert part not in told
        assert not any(part in call for call in site.calls())


@pytest.mark.parametrize("site", [Ssh, ClusterShell], indirect=True)  # pdsh itself refuses to start
def test_a_directory_that_the_node_lacks_is_no_failure(
    site: SshWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert said(site, ["pwd"]) == "/\n"


def test_what_a_command_leaves_running_is_killed(site: SshWorld) -> None:
    code = "import subprocess as s, sys; s.Popen(['sleep', '1000', *sys.argv[1:]]); print('begun')"
    marker = f"{time.monotonic_ns()}"
    began = time.monotonic()
    assert said(site, [sys.executable, "-c", code, marker]) == "begun\n"
    assert time.monotonic() - began < 5.0
    assert not processes_with(marker)


def test_far_nodes_do_not_keep_the_others_waiting(site: SshWorld) -> None:
    """With room for one at a time an unreachable node is given up at half of the time."""
    site.move_away(site.nodes[0])
    job = site.job({"SCR_SSH_FANOUT": "1"})
    result = site.rexec().bounded(4.0).rexec(["true"], site.nodes, job)
    assert [result.rc(node) for node in site.nodes] == [None, 0, 0]
    assert result.failure(site.nodes[0]).endswith("Connection timed out")


@pytest.mark.parametrize("site", [Ssh, ClusterShell], indirect=True)  # pdsh gets to them after all
def test_nodes_that_were_not_reached_in_time_say_so(site: SshWorld) -> None:
    for node in site.nodes:
        site.kill(node)
    job = site.job({"SCR_SSH_FANOUT": "1"})
    result = site.rexec().bounded(1.0).rexec(["true"], site.nodes, job)
    assert [result.failure(node) for node in site.nodes] == ["no answer within 1 s"] * 3


def test_pdsh_works_where_its_files_cannot_be_limited(tmp_path: Path) -> None:
    world = SshWorld(tmp_path, Pdsh)
    for tool in ("pdsh", "sh", "bash", "env", "grep", "timeout", "gzip", "base64", "echo"):
        (world.bin / tool).symlink_to(f"/usr/bin/{tool}")
    result = world.rexec().rexec(["echo", "x"], world.nodes, world.job(PATH=str(world.bin)))
    assert [result.stdout(node) for node in world.nodes] == ["x\n"] * 3


def test_a_callers_own_clustershell_task_stays_its_own(tmp_path: Path) -> None:
    from ClusterShell.Task import task_self, task_terminate

    world = SshWorld(tmp_path, ClusterShell)
    task: Any = task_self()
    try:
        task.set_info("fanout", 17)
        assert said(world, ["echo", "x"]) == "x\n"
        assert task_self() is task
        assert task.info("fanout") == 17
        task.shell("echo ours", key="k")
        task.resume()
        assert bytes(task.key_buffer("k")) == b"ours"
    finally:
        task_terminate()


def test_nodes_that_are_lost_meanwhile_are_not_waited_for(site: SshWorld) -> None:
    """Whoever watches the nodes says so after a while; what the others said is kept."""
    lost: list[str] = []
    site.kill(site.nodes[0])
    began = time.monotonic()

    def watched() -> list[str]:
        if time.monotonic() - began > 1.0:
            lost[:] = [site.nodes[0], site.nodes[1]]  # also one that had answered
        return lost

    rexec = site.rexec().bounded(60.0).heeding(watched)
    result = rexec.rexec(["echo", "here"], site.nodes, site.job())
    assert time.monotonic() - began < 15.0
    assert [result.rc(node) for node in site.nodes] == [None, 0, 0]
    assert result.failure(site.nodes[0]) == "the node is lost"
    assert [result.stdout(node) for node in site.nodes[1:]] == ["here\n", "here\n"]
