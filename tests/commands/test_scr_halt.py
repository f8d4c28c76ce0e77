# SPDX-License-Identifier: BSD-3-Clause
"""scr_halt: conditions, removal, several directories, and stopping at once."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from scrjob.cli.scr_halt_cntl import listing
from scrjob.commands import scr_halt


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / ".scr").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


def settings(prefix):
    lines = listing(str(prefix / ".scr" / "halt.scr")).splitlines()[1:]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-c", "0"], {"CheckpointsLeft": "0"}),
        (["-s", "0"], {"HaltSeconds": "0"}),
        ([], {"ExitReason": "JOB_HALTED"}),
        (["--unset-before"], {"None": ""}),
    ],
)
def test_zero_is_a_condition(here, capsys, argv, expected):
    """Lesson A14: -c 0 and -s 0 are conditions, not "nothing given"."""
    assert scr_halt.main(argv) == 0
    assert settings(here) == expected
    assert str(here / ".scr" / "halt.scr") in capsys.readouterr().out


def test_remove_without_a_file(here, capsys):
    """Lesson A14: nothing to remove is no error."""
    assert scr_halt.main(["-r"]) == 0
    assert capsys.readouterr() == ("", "")
    assert not (here / ".scr" / "halt.scr").exists()


def test_remove_and_set_starts_anew(here):
    scr_halt.main(["-c", "5"])
    assert scr_halt.main(["-r", "-s", "60"]) == 0
    assert settings(here) == {"HaltSeconds": "60"}
    assert scr_halt.main(["-r", "-i"]) == 0
    assert settings(here) == {"ExitReason": "JOB_HALTED"}


def test_list_changes_nothing(here, capsys):
    assert scr_halt.main(["-l", "-c", "1", "-i"]) == 0
    assert not (here / ".scr" / "halt.scr").exists()
    assert capsys.readouterr().out == f"Halt file settings for {here}/.scr/halt.scr:\n  None\n"


def test_times(here):
    assert scr_halt.main(["-b", "2027-01-15T08:00:00", "--after", "Jan 1 2027 3pm"]) == 0
    assert settings(here) == {
        "ExitBefore": "Fri Jan 15 08:00:00 2027", "ExitAfter": "Fri Jan  1 15:00:00 2027",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--before", "tomorrow"], "Unsupported time format: 'tomorrow'"),
        (["--after", "2/30"], "No such time: '2/30'"),
        (["-c", "-1"], "--checkpoints -1"),
        (["-s", "-5"], "--seconds -5"),
    ],
)
def test_what_cannot_be_is_one_line(here, capsys, argv, why):
    assert scr_halt.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"scr_halt: {why}")
    assert captured.err.count("\n") == 1
    assert not (here / ".scr" / "halt.scr").exists()


def test_a_directory_without_a_job(here, capsys):
    (here / "typo").mkdir()
    assert scr_halt.main(["typo"]) == 1
    assert capsys.readouterr().err.startswith(
        "scr_halt: typo: no .scr directory: no job has run here"
    )
    assert scr_halt.main(["-r", "typo"]) == 0


def test_several_directories_each_get_their_turn(here, capsys):
    for name in ("a", "b"):
        (here / name / ".scr").mkdir(parents=True)
    (here / "bad").write_text("")
    assert scr_halt.main(["-c", "3", "a", "bad", str(here / "b")]) == 1
    assert settings(here / "a") == settings(here / "b") == {"CheckpointsLeft": "3"}
    assert capsys.readouterr().err.startswith("scr_halt: bad: ")


def supervise(prefix, job="7", **changes):
    directory = prefix / ".scr" / f"scrjob.{job}"
    directory.mkdir()
    state = {"pid": os.getpid(), "host": socket.gethostname(), "phase": "running", **changes}
    (directory / "state.json").write_text(json.dumps(state))
    return directory / "stop-now"


def test_immediate_asks_the_live_supervisor(here, capsys):
    """Lesson A14: -i is honoured."""
    request = supervise(here)
    assert scr_halt.main(["-i"]) == 0
    assert request.exists()
    assert settings(here) == {"ExitReason": "JOB_HALTED"}
    assert f"Asked the supervisor to stop now: process {os.getpid()} on " in capsys.readouterr().out


def test_immediate_asks_a_supervisor_on_another_host(here):
    request = supervise(here, host="elsewhere")
    assert scr_halt.main(["-i", "-c", "2"]) == 0
    assert request.exists()
    assert settings(here) == {"ExitReason": "JOB_HALTED", "CheckpointsLeft": "2"}


@pytest.mark.parametrize(
    "changes", [{"pid": 1 << 30}, {"phase": "done"}, {"pid": "x"}, {"host": None}]
)
def test_immediate_leaves_no_request_to_nobody(here, capsys, changes):
    request = supervise(here, **changes)
    assert scr_halt.main(["-i"]) == 0
    assert not request.exists()
    assert "No live supervisor" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_immediate_with_a_damaged_state(here, text):
    request = supervise(here)
    (request.parent / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert scr_halt.main(["-i"]) == 0
    assert not request.exists()
