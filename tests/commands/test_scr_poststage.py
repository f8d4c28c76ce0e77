# SPDX-License-Identifier: BSD-3-Clause
"""scr_poststage as a command: words, output, exit codes."""

from __future__ import annotations

import fcntl
import os

import pytest

from poststageworld import left_behind
from scrjob.commands import scr_index, scr_poststage
from scrjob.formats import flush, kvtree

DONE = "scr_poststage: dataset 6 (ckpt.6): complete\nscr_poststage: dataset 4 (ckpt.4): complete\n"


@pytest.fixture
def prefix(golden, tmp_path):
    return left_behind(golden("meta_async"), tmp_path / "its place", [4, 6])


@pytest.mark.parametrize("how", ["word", "option", "relative", "setting", "here"])
def test_lesson_a20_it_works(how, prefix, monkeypatch, capsys):
    """The established command crashes on every call."""
    words = {"word": [str(prefix)], "option": ["-p", str(prefix)], "relative": [prefix.name]}
    if how == "relative":
        monkeypatch.chdir(prefix.parent)
    if how == "setting":
        monkeypatch.setenv("SCR_PREFIX", str(prefix))
    if how == "here":
        monkeypatch.chdir(prefix)
    assert scr_poststage.main(words.get(how, [])) == 0
    assert capsys.readouterr() == (DONE, "")
    assert scr_poststage.main(words.get(how, [])) == 0
    assert capsys.readouterr() == ("", "")
    scr_index.main(["--prefix", str(prefix), "--list"])
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] + line.split()[3:] for line in table[1:]] == [
        ["6", "YES", "*", "ckpt.6"],
        ["4", "YES", "ckpt.4"],
        ["2", "YES", "ckpt.2"],
    ]


def test_what_is_missing_is_named(prefix, capsys):
    for rank in (1, 3):
        (prefix / f"ckpt.6/rank_{rank}.ckpt").unlink()
    assert scr_poststage.main([str(prefix)]) == 1
    out, err = capsys.readouterr()
    assert out == "scr_poststage: dataset 4 (ckpt.4): complete\n"
    why = "2 of 4 files are not there, the first is 'ckpt.6/rank_1.ckpt'"
    assert err.splitlines() == [
        f"scr_poststage: dataset 6 (ckpt.6) is left alone: {why}",
        "scr_poststage: missing: ckpt.6/rank_1.ckpt",
        "scr_poststage: missing: ckpt.6/rank_3.ckpt",
    ]


def test_a_name_that_would_break_the_line(prefix, capsys):
    path = str(prefix / ".scr/flush.scr")
    tree = kvtree.read(path)
    tree.add("DATASET", 6).put("NAME", "a\nb")
    flush.remove_location(tree, 4, flush.FLUSHING)
    kvtree.write(path, tree)
    assert scr_poststage.main([str(prefix)]) == 0
    assert capsys.readouterr().out == "scr_poststage: dataset 6 (a\\nb): complete\n"


def test_no_prefix(tmp_path, capsys):
    assert scr_poststage.main([str(tmp_path / "none")]) == 1
    error = (
        f"scr_poststage: {tmp_path}/none: no .scr directory: no job has run here; "
        "name the prefix directory of one\n"
    )
    assert capsys.readouterr() == ("", error)


def test_two_prefixes(tmp_path, capsys):
    assert scr_poststage.main(["-p", str(tmp_path), str(tmp_path)]) == 1
    assert capsys.readouterr().err == "scr_poststage: give the prefix directory once\n"


def test_a_job_that_still_runs_finishes_its_flushes_itself(prefix, capsys):
    state = prefix / ".scr/scrjob.77"
    state.mkdir()
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert scr_poststage.main([str(prefix)]) == 78
    finally:
        os.close(fd)
    assert "another job is supervised in this prefix" in capsys.readouterr().err
    assert flush.entry(kvtree.read(str(prefix / ".scr/flush.scr")), 6).locations[0] == "FLUSHING"
