# SPDX-License-Identifier: BSD-3-Clause
"""``scr_copy --identify``: nodes that share a cache say so, and others do not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from copynode import Node
from scrjob.formats import kvtree
from scrjob.node.copy_main import main


def ask(node: Node, capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    argv = ["--cntldir", str(node.cntl), "--id", "5", "--prefix", str(node.prefix), "--identify"]
    rc = main([*argv, *words])
    said = capfd.readouterr().out
    return json.loads(said) if rc == 0 else said


def test_two_nodes_with_one_cache(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = Node(tmp_path)
    node.add("f", b"12345")
    found = ask(node, capfd)
    size = 5 + (node.cache / ".scr/filemap_0").stat().st_size
    assert (found["bytes"], found["files"]) == (size, 2)
    assert (found["node"], found["dataset"]) == (os.uname().nodename, 5)
    other = (
        tmp_path / "the other node"
    )  # has its own control directory, and mounted the cache elsewhere
    other.mkdir()
    (other / "mount").symlink_to(tmp_path / "cache")
    index = kvtree.KVTree()
    index.add("DSET", 5, "PATH", str(other / "mount/scr.dataset.5"))
    kvtree.write(str(other / "cindex.scrinfo"), index)
    node.cntl = other
    assert ask(node, capfd)["token"] == found["token"]
    assert not (node.prefix / ".scr").exists()


@pytest.mark.parametrize("how", ["another node's copy", "another rank", "written again", "renamed"])
def test_other_caches_are_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    node = Node(tmp_path)
    node.add("f")
    before = ask(node, capfd)["token"]
    hidden = node.cache / ".scr"
    if how == "another node's copy":
        copy = tmp_path / "copy"
        shutil.copytree(node.cache, copy, copy_function=shutil.copy2)
        shutil.rmtree(node.cache)
        copy.rename(node.cache)
    elif how == "another rank":
        (hidden / "filemap_1").touch()
    elif how == "written again":
        os.utime(hidden / "filemap_0", ns=(5, 5))
    else:
        (hidden / "filemap_0").rename(hidden / "filemap_7")
    assert ask(node, capfd)["token"] != before


def test_nothing_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = Node(tmp_path)
    host = os.uname().nodename
    (node.cntl / "cindex.scrinfo").unlink()
    assert (
        ask(node, capfd) == f"scr_copy: {host}: Failed to find cache directory for dataset id 5\n"
    )


def test_cache_gone_or_another_dataset(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = Node(tmp_path)
    index = kvtree.read(str(node.cntl / "cindex.scrinfo"))
    index.child("DSET", 5).add("DSETDESC").put("CREATED", 7)
    kvtree.write(str(node.cntl / "cindex.scrinfo"), index)
    assert "Another dataset of id 5" in ask(node, capfd, "--only-created", "8")
    assert len(ask(node, capfd, "--only-created", "7")["token"]) == 32
    shutil.rmtree(node.cache)
    assert "Failed to read cache" in ask(node, capfd)
