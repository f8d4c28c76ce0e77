# SPDX-License-Identifier: BSD-3-Clause
"""Virtual nodes: storage of their own at the same path, and deaths that are noticed, whoever did it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from scrjob._context import system_context
from scrjob.errors import ScrError
from scrjob.resmgrs.local import LocalResourceManager
from scrjob.testing.local import HeldAllocation

pytestmark = pytest.mark.local


def put(here: HeldAllocation, node: str, path: str, text: str = "mine") -> None:
    assert here.on(node, ["sh", "-c", 'printf %s "$1" > "$0"', path, text]).returncode == 0


def get(here: HeldAllocation, node: str, path: str) -> str | None:
    done = here.on(node, ["cat", path])
    return done.stdout.decode() if done.returncode == 0 else None


def manager(here: HeldAllocation) -> LocalResourceManager:
    found = LocalResourceManager()
    found.bind(system_context(here.environ))
    return found


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_a_file_is_seen_on_its_own_node_only(here: HeldAllocation, directory: str) -> None:
    path = f"{directory}/scrjob-test-{os.getpid()}"
    put(here, "node1", path)
    assert get(here, "node1", path) == "mine"
    assert get(here, "node2", path) is None
    assert not os.path.exists(path)


def test_storage_is_gone_after_death_and_revival(here: HeldAllocation) -> None:
    put(here, "node1", "/dev/shm/x")
    here.fail("node1")
    here.wait_state("node1", "dead")
    assert here.on("node1", ["true"]).returncode == 69
    here.revive("node1")
    assert get(here, "node1", "/dev/shm/x") is None


def test_death_by_hand_is_noticed_with_its_evidence(here: HeldAllocation) -> None:
    """The first process is killed by the test itself: no word from scr_local."""
    pid = here.node("node2").pid
    os.kill(pid, signal.SIGKILL)
    found = here.wait_state("node2", "dead", limit_s=2.0)
    assert f"pid {pid}" in found.reason
    assert list(manager(here).down_nodes()) == ["node2"]


def test_a_stopped_node_is_noticed_and_goes_on(here: HeldAllocation) -> None:
    put(here, "node3", "/tmp/kept")
    here.hang("node3")
    found = here.wait_state("node3", "silent", limit_s=6.0)
    assert "is stopped" in found.reason
    assert "not responding" in manager(here).down_nodes()["node3"]
    here.revive("node3")
    assert manager(here).down_nodes() == {}
    assert get(here, "node3", "/tmp/kept") == "mine"


def test_wipe_empties_storage_but_not_what_is_shared(here: HeldAllocation) -> None:
    """The shared directory lies below /tmp, where the node's own storage is."""
    ours = Path(here.cwd) / "ours"
    ours.write_text("kept")
    assert str(ours).startswith("/tmp/")
    here.on(
        "node1",
        [
            "sh",
            "-c",
            "mkdir -p /tmp/a/b /dev/shm/c; : > /tmp/a/b/f; : > /dev/shm/c/f; ln -s / /tmp/l",
        ],
    )
    here.wipe("node1")
    left = here.on("node1", ["sh", "-c", "ls /dev/shm; cd /tmp; ls -d a l"]).stdout
    assert left == b""
    assert ours.read_text() == "kept"
    assert get(here, "node1", str(ours)) == "kept"


def test_wipe_reaches_a_stopped_node(here: HeldAllocation) -> None:
    put(here, "node1", "/dev/shm/f")
    here.hang("node1")
    here.wipe("node1")
    here.revive("node1")
    assert get(here, "node1", "/dev/shm/f") is None


def test_each_node_has_its_name_and_its_own_processes(here: HeldAllocation) -> None:
    for node in here.nodes:
        said = here.on(
            node, ["sh", "-c", "hostname; cat /proc/1/comm; echo $SCR_LOCAL_NODE"]
        ).stdout.split()
        assert said[0].decode() == said[2].decode() == node
        processes = here.on(node, ["sh", "-c", "ls /proc | grep -c '^[0-9]'"]).stdout
        assert int(processes) < 10  # the agent, a keeper, this shell and its children


def test_the_user_is_kept(here: HeldAllocation) -> None:
    assert here.on("node1", ["id", "-u"]).stdout == b"%d\n" % os.getuid()


def test_a_dead_node_cannot_be_failed_again(here: HeldAllocation) -> None:
    here.fail("node4")
    here.wait_state("node4", "dead")
    with pytest.raises(ScrError, match="node4 is not running"):
        here.fail("node4")


def test_no_fault_is_made_from_inside_a_node(here: HeldAllocation) -> None:
    """Process ids mean other processes there."""
    words = [sys.executable, "-m", "scrjob", "scr_local", "fail", "node2"]
    done = here.on("node1", words)
    assert done.returncode == 1
    assert b"from outside" in done.stderr
    assert here.node("node2").state == "up"


def test_a_process_of_a_node_is_no_death(here: HeldAllocation) -> None:
    """Killing what runs on a node leaves the node alone."""
    assert here.on("node1", ["sh", "-c", "kill -KILL $$"]).returncode == 137
    assert here.node("node1").state == "up"


def test_the_resource_manager_knows_the_allocation(here: HeldAllocation) -> None:
    resmgr = manager(here)
    assert LocalResourceManager.detect(here.environ)
    assert LocalResourceManager.detect({}) is None
    assert resmgr.job_id() == here.job_id == here.environ["SCR_LOCAL_JOBID"]
    assert resmgr.job_nodes() == ["node1", "node2", "node3", "node4"]
    assert resmgr.down_nodes() == {}
    assert resmgr.end_time() == -1
    assert resmgr.private_storage()


def test_a_changed_end_is_seen(here: HeldAllocation) -> None:
    """Lesson B8: the end of an allocation can be changed while the job runs."""
    resmgr = manager(here)
    here.run(["scr_local", "limit", "30"])
    first = resmgr.end_time()
    here.run(["scr_local", "limit", "60"])
    assert 1700 < resmgr.end_time() - first <= 1801
    here.run(["scr_local", "limit", "none"])
    assert resmgr.end_time() == -1
