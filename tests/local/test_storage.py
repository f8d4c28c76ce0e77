# SPDX-License-Identifier: BSD-3-Clause
"""What nodes see: storage where SCR's settings put it, shared directories wherever they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scrjob._context import system_context
from scrjob.errors import ConfigError
from scrjob.resmgrs.local import LocalResourceManager
from scrjob.testing.local import allocation

pytestmark = pytest.mark.local


def test_storage_and_shared_directories(namespaces: None, tmp_path: Path) -> None:
    """A cache base inside a shared directory inside /tmp is each node's own, the rest is shared."""
    share = tmp_path / "sh are"
    cache = share / "cache"
    link = tmp_path / "link"
    work = tmp_path / "work"
    prefix = tmp_path / "prefix"
    for directory in (cache, work):
        directory.mkdir(parents=True)
    link.symlink_to(share)
    environ = {
        **os.environ,
        "SCR_CACHE_BASE": str(cache),
        "SCR_CNTL_BASE": "/dev/shm/below/it",
        "SCR_PREFIX": str(prefix),
    }
    options = ["--storage-size", "1m"]
    with allocation(2, share=[link], cwd=work, environ=environ, options=options) as here:
        script = 'cd "$0" && : > f && cat /proc/self/mounts | grep -c tmpfs'
        assert here.on("node1", ["sh", "-c", script, str(cache)]).returncode == 0
        assert here.on("node2", ["ls", str(cache)]).stdout == b""
        assert list(cache.iterdir()) == []
        for directory in (share, link, work, prefix):
            here.on("node1", ["sh", "-c", ': > "$0/g"', str(directory)])
            assert here.on("node2", ["ls", f"{directory}/g"]).returncode == 0
            assert (directory / "g").exists()
            (directory / "g").unlink()
        assert here.on("node1", ["ls", "-d", "/dev/shm/below/it"]).returncode == 0
        full = here.on("node1", ["dd", "if=/dev/zero", "of=/dev/shm/big", "bs=1M", "count=2"])
        assert b"No space left" in full.stderr

        def prerun(prefix: object) -> None:
            resmgr = LocalResourceManager()
            resmgr.bind(system_context({**here.environ, "SCR_PREFIX": str(prefix)}))
            resmgr.prerun()

        prerun(prefix)
        prerun("/somewhere/else")
        with pytest.raises(ConfigError, match="--share"):
            prerun(tmp_path / "unseen")


def test_plain_nodes(tmp_path: Path) -> None:
    """Without namespaces: storage by environment variables, death by the end of a process tree."""
    with allocation(2, cwd=tmp_path, options=["--no-namespaces"]) as here:
        assert here.environ["SCR_LOCAL_PRIVATE"] == "0"
        resmgr = LocalResourceManager()
        resmgr.bind(system_context(here.environ))
        assert not resmgr.private_storage()
        script = 'test "$SCR_CACHE_BASE" = "$SCR_CNTL_BASE" && : > $SCR_CACHE_BASE/f && echo $SCR_CACHE_BASE'
        base = here.on("node1", ["sh", "-c", script]).stdout.decode().strip()
        assert os.listdir(base) == ["f"]
        assert here.on("node2", ["sh", "-c", "ls $SCR_CACHE_BASE"]).stdout == b""
        running = here.start(
            ["scr_local", "exec", "node1", "sh", "-c", "setsid sleep 99 & echo $!; wait"]
        )
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        here.fail("node1")
        here.wait_state("node1", "dead")
        assert running.wait(10) == 69
        running.communicate()
        assert here.revive("node1").state == "up"
        assert not os.path.exists(f"/proc/{pid}")
        assert os.listdir(base) == []
        here.on("node1", ["sh", "-c", ": > $SCR_CACHE_BASE/f"])
        here.wipe("node1")
        assert os.listdir(base) == []
        here.hang("node2")
        here.wait_state("node2", "silent")
        assert here.revive("node2").state == "up"
