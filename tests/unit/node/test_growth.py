# SPDX-License-Identifier: BSD-3-Clause
"""What a node says of the files in its cache changes when they do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scrjob._clock import Deadline
from scrjob.node import growth
from scrjob.testing.fakes import FakeClock


def measure(*directories: Path, limit: int = 100) -> growth.Extent:
    deadline = Deadline(FakeClock(), 10)
    return growth.measure([str(directory) for directory in directories], deadline, limit)


def test_files_are_counted_at_any_depth(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "one").write_bytes(bytes(10))
    (tmp_path / "two").write_bytes(bytes(5))
    found = measure(tmp_path)
    assert (found.files, found.size_bytes) == (2, 15)


@pytest.mark.parametrize("deed", ["grows", "written", "new", "gone"])
def test_any_change_shows(tmp_path: Path, deed: str) -> None:
    path = tmp_path / "a" / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(10))
    os.utime(path, ns=(5, 5))
    os.utime(path.parent, ns=(5, 5))
    before = measure(tmp_path)
    if deed == "grows":
        path.write_bytes(bytes(11))
    elif deed == "written":
        path.write_bytes(bytes(10))
    elif deed == "new":
        (path.parent / "other").touch()
    else:
        path.unlink()
    assert measure(tmp_path) != before


def test_what_is_not_there_is_empty_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "astray").symlink_to("nowhere")
    assert measure(tmp_path / "none", tmp_path).files == 2


def test_too_many_entries_are_not_looked_at(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).touch()
    assert measure(tmp_path, limit=4).files == 4
    with pytest.raises(growth.TooLargeError, match="more than 3"):
        measure(tmp_path, limit=3)


def test_it_ends_in_time(tmp_path: Path) -> None:
    with pytest.raises(growth.TooLargeError, match="in time"):
        growth.measure([str(tmp_path)], Deadline(FakeClock(), 0))


def test_the_program_prints_one_line_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(bytes(10))
    os.utime(tmp_path / "file", ns=(7, 7))
    assert growth.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 10 7\n"
    assert growth.main([str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "file" in said.err
