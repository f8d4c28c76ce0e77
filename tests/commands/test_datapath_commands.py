# SPDX-License-Identifier: BSD-3-Clause
"""scr_copy, scr_scavenge and scr_index --build as commands: words, output, exit codes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zlib

import pytest

import datapath
from scrjob.commands import scr_copy, scr_index, scr_scavenge
from scrjob.node import __main__ as node_main
from scrjob.node.copy_main import parse_size
from scrjob.node.journal import known_crcs

HOST = os.uname().nodename


def said(capfd) -> tuple[list[str], str]:
    out, err = capfd.readouterr()
    return out.splitlines(), err


class TestScrCopy:
    @pytest.mark.parametrize("short", [False, True])
    def test_golden(self, short, golden, tmp_path, capfd):
        case = datapath.load(golden("xor_4"))
        prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
        root, cntldir = case.node("node2", tmp_path)
        moves = [
            f"--relocate=/dev/shm={root}/dev/shm",
            "--relocate",
            f"{case.recorded_prefix}={prefix}",
        ]
        words = (
            ["-c", str(cntldir), "-i1", f"-d{prefix}", "-b", "1MB", "-r", "ignored", "node7"]
            if short
            else [f"--cntl={cntldir}", "--id", "1", "--prefix", str(prefix), "--buf", "1k", "--crc"]
        )
        assert scr_copy.main([*words, *moves]) == 0
        assert said(capfd) == ([f"scr_copy: {HOST}: Return code: 0"], "")
        assert (prefix / "ckpt.1/rank_1.0.dat").stat().st_size == 5040

    def test_report(self, golden, tmp_path, capfd):
        case = datapath.load(golden("xor_4"))
        prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
        root, cntldir = case.node("node2", tmp_path)
        words = [
            "--cntldir",
            str(cntldir),
            "--id",
            "1",
            "--prefix",
            str(prefix),
            "--json",
        ]
        words += ["--relocate", f"/dev/shm={root}/dev/shm"]
        words += ["--relocate", f"{case.recorded_prefix}={prefix}"]
        assert scr_copy.main(words) == 0
        lines, _ = said(capfd)
        report = json.loads(lines[-1])
        assert lines[:-1] == [f"scr_copy: {HOST}: Return code: 0"]
        assert (report["node"], report["dataset"], report["rc"]) == (HOST, 1, 0)
        assert (report["files"], report["bytes"], report["errors"]) == (2, 6708, [])
        for path, crc in report["crc"].items():
            assert zlib.crc32((prefix / path).read_bytes()) == crc
        assert len(report["crc"]) == 2 + 5
        assert scr_copy.main([*words, "--resume"]) == 0  # then the journal has them
        assert json.loads(said(capfd)[0][-1]) == {**report, "crc": {}}
        known = known_crcs(str(prefix / ".scr/scr.dataset.1"), str(prefix))
        assert known == {str(prefix / path): crc for path, crc in report["crc"].items()}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--id", "1", "--prefix", "/p"],
                "Must specify control directory via '--dir <cntl_dir>'",
            ),
            (["--cntldir", "/c", "--prefix", "/p"], "Must specify dataset id via '--id <id>'"),
            (
                ["--cntldir", "/c", "--id", "1"],
                "Must specify prefix directory via '--prefix <dir>'",
            ),
            (["-c", "/c", "-i", "0", "-d", "/p"], "Dataset id must be positive '--id 0'"),
            (["-c", "/c", "-i", "x", "-d", "/p"], "Dataset id must be positive '--id x'"),
            (
                ["-c", "/c", "-i", "1", "-d", "/p", "-b", "huge"],
                "Invalid value for buffer size '--buf huge'",
            ),
            (
                ["-c", "/c", "-i", "1", "-d", "/p", "--relocate", "a"],
                "--relocate 'a': expected OLD=NEW, two absolute directories",
            ),
        ],
    )
    def test_missing_and_bad_options(self, words, message, capfd):
        assert scr_copy.main(words) == 1
        lines, _ = said(capfd)
        assert lines == [
            f"SCR v3.1.0 ERROR: {HOST}: scr_copy: {message}",
            f"scr_copy: {HOST}: Return code: 1",
        ]

    def test_help_is_silent(self, capfd):
        assert scr_copy.main(["-h"]) == 1
        assert said(capfd) == ([], "")

    @pytest.mark.parametrize(
        ("word", "complaint"),
        [
            ("--what", "scr_copy: unrecognized option '--what'"),
            ("-z", "scr_copy: invalid option -- 'z'"),
            ("--c", "scr_copy: option '--c' is ambiguous; possibilities: '--cntldir' '--crc'"),
            ("--crc=1", "scr_copy: option '--crc' doesn't allow an argument"),
        ],
    )
    def test_unknown_options_are_told_and_ignored(self, word, complaint, tmp_path, capfd):
        words = ["--cntldir", str(tmp_path), "--id", "4", word, "--prefix", str(tmp_path)]
        assert scr_copy.main(words) == 1
        lines, err = said(capfd)
        assert err == complaint + "\n"
        assert lines == [f"scr_copy: {HOST}: Failed to find cache directory for dataset id 4"]

    @pytest.mark.parametrize("words", [["--id"], ["-i"]])
    def test_value_is_missing(self, words, capfd):
        scr_copy.main(words)
        assert "requires an argument" in said(capfd)[1]

    def test_words_after_two_dashes_are_no_options(self, capfd):
        scr_copy.main(["--", "--what"])
        assert said(capfd)[1] == ""

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1048576", 1 << 20),
            ("1MB", 1 << 20),
            ("2k", 2048),
            ("1.5kb", 1536),
            ("0", None),
            ("-1", None),
            ("9" * 400, None),
        ],
    )
    def test_sizes(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.unmeasured
    def test_start_is_light(self):
        """A node program is started a thousand times at once from one file system."""
        code = (
            "import sys; from scrjob.node import copy_main;"
            "bad = {'numpy', 'argparse', 'subprocess', 'logging', 'dataclasses'} & set(sys.modules);"
            "sys.exit(str(bad) if bad else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_node_entry(self, capfd):
        assert node_main.main(["copy", "-h"]) == 1
        assert node_main.main([]) == 64
        assert node_main.main(["nonsense"]) == 64
        assert "usage: python -m scrjob.node" in said(capfd)[1]


KILLED = """
import os, signal, sys
from scrjob.node import copy_main
stop_at = int(sys.argv[1])
calls = 0
def count(function):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped
for name in ("open", "replace", "write", "fsync", "utime", "mkdir", "fchmod"):
    setattr(os, name, count(getattr(os, name)))
sys.exit(copy_main.main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_copy_killed_at_any_system_call(golden, tmp_path, capfd):
    """Without --resume, too: no file is there in part, and the next call ends with the right tree."""
    case = datapath.load(golden("xor_4"))
    root, cntldir = case.node("node3", tmp_path)
    rng = random.Random(11)
    moments = sorted(rng.sample(range(1, 70), 12))
    expected = None
    for moment in [10_000, *moments]:
        prefix = case.unpack("prefix_0_before", tmp_path / f"p{moment}")
        words = ["--cntldir", str(cntldir), "--id", "1", "--prefix", str(prefix)]
        words += ["--relocate", f"/dev/shm={root}/dev/shm"]
        words += ["--relocate", f"{case.recorded_prefix}={prefix}"]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *words], check=False, capture_output=True
        )
        assert killed.returncode in (0, -signal.SIGKILL)
        for path in prefix.rglob("rank_*"):
            assert path.stat().st_size in (5077, 1669, 7)
        assert scr_copy.main(words) == 0
        tree = datapath.tree(prefix, [r".*\.jsonl", r".*\.tmp"])
        expected = expected or tree
        assert tree == expected, moment


class TestScavenge:
    @pytest.mark.parametrize("bad", ["0", "x", "-3", "\u0661"])
    def test_dataset_id(self, bad, capfd):
        assert scr_scavenge.main(["-i", bad, "-j", "n1", "-f", "/c"]) == 1
        assert "expected a dataset id" in said(capfd)[1]

    def test_id_is_required(self, capfd):
        assert scr_scavenge.main(["-j", "n1"]) == 1


class TestIndexBuild:
    def test_relocated_and_forced(self, golden, tmp_path, capfd):
        case = datapath.load(golden("xor_4"))
        prefix = case.unpack("prefix_1_copied_lost_node3", tmp_path / "prefix")
        words = [
            "--prefix",
            str(prefix),
            "--build",
            "1",
            "--relocate",
            f"{case.recorded_prefix}={prefix}",
        ]
        assert scr_index.main(words) == 0
        lines, _ = said(capfd)
        assert lines[0].startswith(f"SCR v3.1.0: {HOST}: Rebuild command: scr_rebuild_xor map ")
        lost = prefix / "ckpt.1/rank_2.0.dat"
        lost.unlink()
        assert scr_index.main(words) == 0
        assert not lost.exists()
        assert scr_index.main([*words, "--force"]) == 0
        assert lost.read_bytes() == (case.home / "truth/rank_2.0.dat").read_bytes()
