# SPDX-License-Identifier: BSD-3-Clause
"""Scan: what counts as there, what a second look looks at, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest

from groupmaker import Made, make_dataset
from scrjob.errors import FormatError
from scrjob.formats import rank2file
from scrjob.redundancy import scan as scanning
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.paths import PrefixGuard
from scrjob.redundancy.scan import scan_again, scan_dataset

ROOT = Path(__file__).parents[3]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_dataset(tmp_path / "p", [[5, 6], [7], [], [8]], form_groups(range(4), 8))


def test_scan_again_looks_only_at_what_was_not_whole_or_took_part(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {path: path.read_bytes() for path in made.parts[1]}
    guard = PrefixGuard(str(made.prefix))
    made.lose(1)
    first = scan_dataset(str(made.hidden), guard, lambda _line: None)
    assert first.missing() == [1]
    for path, data in kept.items():
        path.write_bytes(data)
    read: List[str] = []
    real: Callable[[str], bytes] = scanning.read_bounded
    monkeypatch.setattr(scanning, "read_bounded", lambda path: read.append(path) or real(path))
    again = scan_again(str(made.hidden), guard, lambda _line: None, first, [0])
    assert sorted(map(os.path.basename, read)) == ["filemap_0", "filemap_1"]
    assert again.missing() == []
    assert again == scan_dataset(str(made.hidden), guard, lambda _line: None)


def test_scan_again_sees_what_is_still_lost_and_what_a_rebuild_spoiled(made: Made) -> None:
    guard = PrefixGuard(str(made.prefix))
    made.lose(1)
    first = scan_dataset(str(made.hidden), guard, lambda _line: None)
    spoiled = made.parts[3][0]
    spoiled.write_bytes(b"short")
    said: List[str] = []
    again = scan_again(str(made.hidden), guard, said.append, first, [3])
    assert again.missing() == [1, 3]
    assert "File is 5 bytes but expected to be 8 bytes" in said[0]


@pytest.mark.slow
def test_memory_for_very_many_ranks(tmp_path: Path) -> None:
    """10,000 here; the benchmark has 100,000, for which less than 500 MB are allowed."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom benchmarks import manyfiles as m\n"
        "m.make_ranks(Path(sys.argv[1]), 10_000)\nprint(m.peak_of_build(Path(sys.argv[1]))[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    assert float(done.stdout) < 80  # MiB, 30 of them for the interpreter with what it imports
    hidden = tmp_path / ".scr/scr.dataset.1"
    assert sorted(path.name for path in hidden.glob("rank2file*")) == [
        "rank2file",
        "rank2file.0.0",
        "rank2file.0.8192",
    ]
    found = rank2file.read(str(hidden / "rank2file"))
    assert found.ranks == 10_000
    assert found.missing() == []
    assert rank2file.files(found.entries[8192]) == ["ckpt.1/d8/rank8192"]


def test_each_directory_is_asked_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(str(path)) or real(path))
    assert build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lambda _line: None)
    directory = str(made.prefix / "out")
    assert asked.count(directory) == 1


@pytest.mark.parametrize("where", ["out", "out/deeper"])
def test_a_link_that_leads_out_is_refused_also_when_it_comes_late(
    tmp_path: Path, where: str
) -> None:
    prefix, outside = tmp_path / "p", tmp_path / "outside"
    (prefix / "out").mkdir(parents=True)
    outside.mkdir()
    guard = PrefixGuard(str(prefix))
    guard.check_real(str(prefix / where / "f"))
    (prefix / "out").rmdir()
    (prefix / "out").symlink_to(outside)
    other = PrefixGuard(str(prefix))
    with pytest.raises(FormatError, match="through a symbolic link"):
        other.check_real(str(prefix / where / "f"))


def test_a_directory_that_was_absent_is_asked_again(tmp_path: Path) -> None:
    prefix, outside = tmp_path / "p", tmp_path / "outside"
    prefix.mkdir()
    outside.mkdir()
    guard = PrefixGuard(str(prefix))
    guard.check_real(str(prefix / "later" / "f"))
    (prefix / "later").symlink_to(outside)
    with pytest.raises(FormatError, match="through a symbolic link"):
        guard.check_real(str(prefix / "later" / "f"))


def test_a_link_inside_the_prefix_may_be_used(tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    (prefix / "real").mkdir(parents=True)
    (prefix / "link").symlink_to("real")
    PrefixGuard(str(prefix)).check_real(str(prefix / "link" / "f"))
