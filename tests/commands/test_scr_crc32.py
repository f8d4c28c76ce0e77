# SPDX-License-Identifier: BSD-3-Clause
"""scr_crc32: the number as SCR's tool writes it, and what it does with files that are none."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zlib

import pytest

from scrjob.commands import scr_crc32

HOST = os.uname().nodename
USAGE = "Usage: scr_crc32 <file>\n"


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "0"), (b"123456789", "cbf43926"), (b"62", "12d20a")]
)
def test_number(data, text, tmp_path, capsys):
    (tmp_path / "a file").write_bytes(data)
    assert scr_crc32.main([str(tmp_path / "a file")]) == 0
    assert capsys.readouterr() == (f"{text}\n", "")


def test_files_through_links_and_pipes(tmp_path, capsys):
    (tmp_path / "f").write_bytes(b"123456789")
    (tmp_path / "link").symlink_to("f")
    assert scr_crc32.main([str(tmp_path / "link")]) == 0
    assert capsys.readouterr().out == "cbf43926\n"
    done = subprocess.run(
        [sys.executable, "-m", "scrjob", "scr_crc32", "/dev/stdin"],
        input=b"123456789",
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"cbf43926\n"


def test_a_file_that_cannot_be_read(tmp_path, capsys):
    """The established tool tells so on stdout, too."""
    path = tmp_path / "missing"
    assert scr_crc32.main([str(path)]) == 1
    what = f"SCR v3.1.0 ERROR: {HOST}: scr_crc32: Failed to read file {path}"
    assert capsys.readouterr() == (f"{what}: No such file or directory\n", "")
    assert scr_crc32.main([f"{path}\nx"]) == 1
    assert capsys.readouterr().out == f"{what}\\nx: No such file or directory\n"
    assert scr_crc32.main([str(tmp_path)]) == 1
    assert f"Failed to read file {tmp_path}: Is a directory\n" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["a", "b"]])
def test_wrong_calls(argv, capsys):
    """Without an argument the established tool crashes."""
    assert scr_crc32.main(argv) == 1
    assert capsys.readouterr() == (USAGE, "")


def test_a_name_that_looks_like_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert scr_crc32.main(["--help"]) == 1
    assert capsys.readouterr().out.endswith(USAGE)
    (tmp_path / "--help").write_bytes(b"123456789")
    assert scr_crc32.main(["--help"]) == 0
    assert capsys.readouterr().out == "cbf43926\n"


@pytest.mark.unmeasured
def test_memory_is_bounded(tmp_path):
    size = 300 << 20
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(size)
    limit = 200 << 20
    done = subprocess.run(
        [sys.executable, "-m", "scrjob", "scr_crc32", str(tmp_path / "sparse")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    crc = 0
    for _ in range(size >> 20):
        crc = zlib.crc32(bytes(1 << 20), crc)
    assert done.stdout == f"{crc:x}\n"
