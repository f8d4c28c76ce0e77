# SPDX-License-Identifier: BSD-3-Clause
"""The frame of all commands: one line and an exit code for every expected error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from scrjob.commands._shared import add_prefix, add_verbose, complain, make_parser, run_command
from scrjob.commands.scr_run import teller
from scrjob.errors import ConfigError, ScrError, UnrecoverableError, UsageError


def raising(error):
    def func(argv):
        raise error

    return func


def test_the_code_of_the_function_is_that_of_the_command():
    assert run_command("x", len, ["a", "b"]) == 2


def test_the_arguments_of_the_process_are_the_default(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "a", "b", "c"])
    assert run_command("x", len) == 3


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ScrError("went wrong"), 1, "x: went wrong\n"),
        (ConfigError("A='b'"), 78, "x: A='b'\n"),
        (UnrecoverableError("lost"), 73, None),
        (UsageError("no such thing"), 1, "x: no such thing\n"),
        (ScrError("two\nlines\t\x1b[1m"), 1, "x: two\\nlines\\t\\x1b[1m\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a b"), 1, None),
        (OSError("odd"), 1, "x: odd\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(capsys, error, code, line):
    assert run_command("x", raising(error), []) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert line is None or captured.err == line


def test_an_os_error_names_its_files(capsys):
    run_command("x", lambda _: os.rename("/nonexistent/a", "/nonexistent/b"), [])
    assert (
        capsys.readouterr().err == "x: /nonexistent/a: /nonexistent/b: No such file or directory\n"
    )


def test_the_code_for_wrong_usage_can_be_chosen():
    assert run_command("x", raising(UsageError("")), [], usage_exit=64) == 64


def test_an_unexpected_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command("x", raising(ZeroDivisionError()), [])


@pytest.mark.parametrize(
    ("debug", "shown"), [("", False), ("0", False), ("1", True), ("yes", True)]
)
def test_tracebacks_are_for_debugging(debug, shown):
    code = (
        "import sys; from scrjob.commands._shared import run_command\n"
        "from scrjob.errors import ScrError\n"
        "import logging\n"
        "def f(argv):\n"
        "    logging.getLogger('scrjob.part').info('detail')\n"
        "    raise ScrError('bad')\n"
        "sys.exit(run_command('x', f, []))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SCR_DEBUG": debug},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == shown
    assert ("scrjob.part: detail" in done.stderr) == shown
    assert done.stderr.endswith("x: bad\n")


def test_interrupts_and_exits():
    assert run_command("x", raising(KeyboardInterrupt()), []) == 130
    assert run_command("x", raising(SystemExit(3)), []) == 3
    assert run_command("x", raising(SystemExit(None)), []) == 0
    assert run_command("x", raising(SystemExit("text")), []) == 1


def script(body, **options):
    code = f"import sys; from scrjob.commands._shared import run_command\n{body}"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


def test_a_reader_that_went_away_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    done = script(
        "sys.exit(run_command('x', lambda a: print('y' * 100000) or 0, []))", stdout=write
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_stdout_is_an_error():
    with open("/dev/full", "wb") as full:
        done = script("sys.exit(run_command('x', lambda a: print('y') or 0, []))", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("x: No space left on device\n")


def test_names_that_are_no_text_pass_as_bytes():
    body = "import sys; from scrjob.commands._shared import run_command\n"
    body += "sys.exit(run_command('x', lambda a: print(*a), None) or 0)"
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    argv = [sys.executable, "-c", body, b"n\xff"]
    done = subprocess.run(argv, env=environ, capture_output=True, check=False)
    assert done.stdout == b"n\xff\n"


def test_complaints_stay_on_one_line(capsys):
    complain("x", "a\nb")
    assert capsys.readouterr().err == "x: a\\nb\n"


def test_the_parser(capsys):
    def func(argv):
        parser = make_parser("x", "What it does.")
        add_prefix(parser)
        add_verbose(parser)
        args = parser.parse_args(argv)
        print(args.prefix, args.verbose)
        return 0

    assert run_command("x", func, ["-p", "/a", "-v"]) == 0
    assert capsys.readouterr().out == "/a True\n"
    assert run_command("x", func, ["--wrong"]) == 1
    assert "--wrong" in capsys.readouterr().err
    assert run_command("x", func, ["--help"]) == 0
    assert "What it does." in capsys.readouterr().out
    assert run_command("x", func, ["--version"]) == 0
    assert capsys.readouterr().out.startswith("x (scrjob) ")


class Closed:
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def test_what_nobody_hears_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on when the terminal or the pipe of stderr is gone."""
    for say in (teller("scr_run"), lambda line: complain("scr_run", line)):
        monkeypatch.setattr(sys, "stderr", Closed())
        say("run 1: launched")
        assert sys.stderr.name == os.devnull
        sys.stderr.close()
