# SPDX-License-Identifier: BSD-3-Clause
"""The helpers for site code."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from scrjob import common
from scrjob._process import CommandResult
from scrjob.errors import CommandNotFoundError, CommandTimeoutError, NotSupportedError


class Runner:
    """Answers with fixed results and keeps what it was asked."""

    def __init__(self, *results):
        self.results = list(results)
        self.calls = []

    def run(self, argv, *, timeout_s, env=None, stdin=None, cwd=None):
        assert timeout_s > 0
        self.calls.append((list(argv), stdin))
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def start(self, argv, *, env=None, cwd=None):
        self.calls.append((list(argv), "started"))
        return Process()


class Process:
    pid = 1
    returncode = 5

    def poll(self):
        return 5

    def wait(self, timeout=None):
        return 5


def result(out="out", err="err", code=0):
    return CommandResult(["x"], code, out, err, 0.1)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/x", "/h/x"),
        ("~", "/h"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        (".hidden", ".hidden"),
        ("..hidden/x", "..hidden/x"),
        (".", "/w/d"),
        ("..", "/w"),
        ("./a/../b", "/w/d/b"),
        ("../b", "/w/b"),
        ("rel", "rel"),
        ("$V/${V1}/$NOPE-", "v/v1/-"),
        ("/a/", "/a"),
        ("/", "/"),
        ("", ""),
        (None, ""),
    ],
)
def test_interpolate_variables(text, path):
    """Lesson A16: names that only look like ~ or . are left alone."""
    environ = {"HOME": "/h", "V": "v", "V1": "v1"}
    assert common.interpolate_variables(text, environ=environ, cwd="/w/d") == path


def test_the_prefix_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert common.scr_prefix(environ={"SCR_PREFIX": "p/../q/"}) == str(tmp_path / "q")
    assert common.scr_prefix(environ={}) == str(tmp_path)
    monkeypatch.setenv("SCR_PREFIX", "/from/process")
    assert common.scr_prefix() == "/from/process"


def test_the_site_chooses_the_executables(monkeypatch):
    monkeypatch.setattr("scrjob.config.SCR_BIN_DIR", "/opt/scr/bin")
    assert common.choose_bindir() == "/opt/scr/bin"
    monkeypatch.setattr("scrjob.config.SCR_BIN_DIR", "")
    assert os.path.isdir(common.choose_bindir())


def test_runproc_outputs():
    runner = Runner(result(), result(), result(code=3))
    assert common.runproc("a 'b c'", getstdout=True, runner=runner) == ("out", 0)
    assert common.runproc(["a"], getstderr=True, runner=runner) == ("err", 0)
    assert common.runproc(["a", 1], getstdout=True, getstderr=True, runner=runner) == (
        ("out", "err"),
        3,
    )
    assert common.runproc("a", runner=runner) == (None, 5)
    assert runner.calls[0] == (["a", "b c"], None)
    assert runner.calls[2:] == [(["a", "1"], None), (["a"], "started")]


def test_runproc_without_waiting():
    first, second = common.runproc("a", wait=False, runner=Runner())
    assert first is second
    assert first.pid == 1


def test_runproc_failures():
    assert common.runproc("", runner=Runner()) == (None, None)
    gone = Runner(CommandNotFoundError(["a"]), CommandTimeoutError(["a"], stdout="part"))
    assert common.runproc("a", getstdout=True, runner=gone) == (None, None)
    assert common.runproc("a", getstdout=True, runner=gone) == ("part", None)


def test_runproc_says_what_it_runs(caplog):
    with caplog.at_level(logging.INFO):
        common.runproc("a b", verbose=True, runner=Runner())
    assert "['a', 'b']" in caplog.text


def test_no_shell_is_pretended():
    options = {"shell": True, "getstdout": True}
    assert common.runproc("a 'x|y'", runner=Runner(result()), **options) == ("out", 0)
    for text in ("a | b", "a>b", "a && b", "a;b"):
        with pytest.raises(NotSupportedError, match="no shell"):
            common.runproc(text, shell=True, runner=Runner())  # noqa: S604


def test_pipeproc_feeds_each_command():
    runner = Runner(result(out="1\udcff"), result(out="2", code=4))
    assert common.pipeproc(["a b", ["c"]], getstdout=True, runner=runner) == ("2", 4)
    assert runner.calls == [(["a", "b"], None), (["c"], b"1\xff")]
    assert common.pipeproc([], runner=runner) == (None, None)
    assert common.pipeproc(["a"], runner=Runner(CommandNotFoundError(["a"]))) == (None, None)
    with pytest.raises(NotSupportedError):
        common.pipeproc(["a"], wait=False, runner=runner)


def test_the_real_runner_is_the_default():
    argv = [sys.executable, "-c", "print('hi')"]
    assert common.runproc(argv, getstdout=True) == ("hi\n", 0)


def test_trace_logs_calls_inside_the_package(caplog):
    class Code:
        co_filename = f"{os.sep}x{os.sep}scrjob{os.sep}a.py"
        co_name = "f"

    class Frame:
        f_code = Code()
        f_lineno = 3

    with caplog.at_level(logging.DEBUG):
        assert common.tracefunction(Frame(), "call", None) is common.tracefunction
        Frame.f_code.co_filename = "/other/a.py"
        common.tracefunction(Frame(), "call", None)
    assert len(caplog.messages) == 1
    assert "a.py:3 f" in caplog.messages[0]
