# SPDX-License-Identifier: BSD-3-Clause
"""The node check: capacity, a real write, one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scrjob.node import check


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/a", [("/a", None)]),
        ("/a:10,/b:1.5kb", [("/a", 10), ("/b", 1536)]),
        ("/a:b", [("/a:b", None)]),
        ("/a:b:10", [("/a:b", 10)]),
        ("", []),
        (",/a,", [("/a", None)]),
    ],
)
def test_directories(text, wanted):
    assert check.parse_directories(text) == wanted


def test_a_fit_directory_is_left_as_it_was(tmp_path):
    assert check.find_fault(str(tmp_path), 1, free=False) is None
    assert check.find_fault(str(tmp_path), 1, free=True) is None
    assert list(tmp_path.iterdir()) == []


def test_space_is_that_of_the_file_system_or_what_is_free(tmp_path):
    status = os.statvfs(tmp_path)
    size = status.f_frsize * status.f_blocks
    assert check.find_fault(str(tmp_path), size, free=False) is None
    fault = check.find_fault(str(tmp_path), size + 1, free=False)
    assert (
        fault == f"Insufficient space in directory: {tmp_path}, expected {size + 1}, found {size}"
    )
    assert "Insufficient" in check.find_fault(str(tmp_path), size, free=True)


def test_directories_that_do_not_serve(tmp_path):
    plain = tmp_path / "file"
    plain.write_text("")
    assert "No such file" in check.find_fault(str(tmp_path / "none"), None, free=False)
    assert "No such file" in check.find_fault(str(tmp_path / "none"), 5, free=False)
    assert "Not a directory" in check.find_fault(str(plain), None, free=False)
    assert check.find_fault("/proc", None, free=False).startswith("Cannot use directory: /proc: ")


def test_cache_alone_is_checked(tmp_path, capsys):
    """Lesson A17: --cache without --cntl counts, and a size does not crash."""
    assert check.main(["--cache", f"{tmp_path}/none"]) == 1
    assert capsys.readouterr().out == (
        f"scr_check_node: FAIL: Cannot use directory: {tmp_path}/none: No such file or directory\n"
    )
    assert check.main(["--cache=/dev/shm:1", "--free"]) == 0
    assert capsys.readouterr().out == "scr_check_node: PASS\n"


def test_the_answer_is_one_line(capsys):
    assert check.main(["--cntl", "/no\nwhere"]) == 1
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("argv", [["x"], ["--wrong"], ["--cntl"]])
def test_wrong_arguments(argv, capsys):
    assert check.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage:" in captured.err


def test_help(capsys):
    assert check.main(["-h"]) == 0
    assert capsys.readouterr().out == check.USAGE


@pytest.mark.unmeasured
def test_it_imports_little():
    """It starts on every node of a job at once."""
    code = "import sys; from scrjob.node import check; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"argparse", "subprocess", "logging", "numpy", "dataclasses", "socket"} & set(loaded)
