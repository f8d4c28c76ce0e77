# SPDX-License-Identifier: BSD-3-Clause
"""What a node says of its cache: which datasets, where, and whether another node sees the same ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scrjob.cached import Held
from scrjob.formats import cindex, kvtree
from scrjob.node import cached


def rows(cntl: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert cached.main([str(cntl)]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def control(directory: Path, data: Path) -> Path:
    directory.mkdir()
    tree = kvtree.KVTree()
    about = kvtree.KVTree.of({"ID": 1, "NAME": "it", "COMPLETE": 1})
    cindex.put_dataset(tree, 1, path=str(data), is_bypass=False, descriptor=about)
    kvtree.write(str(directory / "cindex.scrinfo"), tree)
    return directory


def test_nodes_with_the_same_token_see_the_same_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by another path; a copy of all files with all times is another cache."""
    data = tmp_path / "data"
    (data / ".scr").mkdir(parents=True)
    kvtree.write(str(data / ".scr" / "filemap_0"), kvtree.KVTree())
    shutil.copytree(data, tmp_path / "copy")
    (tmp_path / "way").symlink_to(data)
    one, way, copy, gone = (
        rows(control(tmp_path / f"c.{name}", tmp_path / name), capsys)[0]
        for name in ("data", "way", "copy", "gone")
    )
    assert one["path"] == str(data)
    assert one["token"] == way["token"]
    assert one["token"] != copy["token"]
    assert gone["token"] == ""


def test_groups_of_nodes_that_share_a_cache() -> None:
    """A node of which nothing is known copies by itself, whatever it is called."""
    held = Held({}, {}, {1: {"a": "t1", "b": "t2", "c": "t1", "node t1": ""}})
    nodes = ["c", "t1", "b", "a", "node t1", "x"]
    assert held.copiers(1, nodes) == [["c", "a"], ["t1"], ["b"], ["node t1"], ["x"]]
    assert held.copiers(2, nodes) == [[node] for node in nodes]
