# SPDX-License-Identifier: BSD-3-Clause
"""A control directory that is a link or somebody else's is not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scrjob._clock import SystemClock
from scrjob.formats import cindex, kvtree
from scrjob.formats.dataset import Descriptor, build
from scrjob.node import cached, copy


@pytest.fixture
def cntl(tmp_path: Path) -> Path:
    """A control directory that lists dataset 1."""
    directory = tmp_path / "cntl"
    directory.mkdir(mode=0o700)
    tree = kvtree.KVTree()
    about = build(Descriptor(1, "ckpt.1", is_ckpt=True, complete=True))
    cindex.put_dataset(tree, 1, path=str(tmp_path / "cache"), is_bypass=False, descriptor=about)
    kvtree.write(str(directory / "cindex.scrinfo"), tree)
    return directory


def spoil(cntl: Path, how: str) -> Path:
    if how == "link":
        link = cntl.with_name("link")
        link.symlink_to(cntl)
        return link
    if how == "open":
        cntl.chmod(0o777)
    elif os.getuid() == 0:
        os.chown(cntl, 12345, -1)
    else:
        pytest.skip("giving a directory away needs root")
    return cntl


@pytest.mark.parametrize("how", ["link", "open", "foreign"])
def test_it_is_not_listed(cntl: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cached.main([str(spoil(cntl, how))]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert str(cntl.parent) in said.err


@pytest.mark.parametrize("how", ["link", "open", "foreign"])
def test_it_is_not_copied(cntl: Path, tmp_path: Path, how: str) -> None:
    said: list[str] = []
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    result = copy.copy_dataset(
        str(spoil(cntl, how)), 1, str(prefix), host="n1", clock=SystemClock(), emit=said.append
    )
    assert result.rc == 1
    assert any("Failed to read cache index" in line for line in result.errors)


def test_our_own_is_read(cntl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cached.main([str(cntl)]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [1]
