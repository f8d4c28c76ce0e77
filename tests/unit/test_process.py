# SPDX-License-Identifier: BSD-3-Clause
"""The process runner, on real short-lived processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from scrjob._process import (
    CommandResult,
    SubprocessRunner,
    group_exists,
    kill_group,
    signal_group,
    wait_process,
)
from scrjob.errors import CommandError, CommandNotFoundError, CommandTimeoutError
from scrjob.testing.fakes import FakeProcess

RUNNER = SubprocessRunner()


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_streams_and_code_are_kept_apart() -> None:
    result = RUNNER.run(
        python("import sys; print('out'); sys.stderr.write('err'); sys.exit(3)"), timeout_s=30
    )
    assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err", 3)
    assert result.seconds > 0


def test_check_passes_success_and_raises_the_rest() -> None:
    good = CommandResult(["a"], 0, "x", "", 0.1)
    assert good.check() is good
    with pytest.raises(CommandError, match="a: exit code 4: why") as caught:
        CommandResult(["a"], 4, "", "why", 0.1).check()
    assert caught.value.returncode == 4


def test_bytes_that_are_no_text_survive() -> None:
    result = RUNNER.run(
        python("import sys; sys.stdout.buffer.write(bytes(range(256)))"), timeout_s=30
    )
    assert result.stdout.encode("utf-8", "surrogateescape") == bytes(range(256))


def test_input_is_empty_unless_given() -> None:
    code = "import sys; print(repr(sys.stdin.read()))"
    assert RUNNER.run(python(code), timeout_s=30).stdout == "''\n"
    assert RUNNER.run(python(code), timeout_s=30, stdin=b"a\nb").stdout == "'a\\nb'\n"


def test_tools_speak_plain_language_and_unix_seconds() -> None:
    code = (
        "import os; print(os.environ['LC_ALL'], os.environ['SLURM_TIME_FORMAT'], os.environ['X'])"
    )
    env = {"X": "1", "LC_ALL": "de_DE"}
    assert RUNNER.run(python(code), timeout_s=30, env=env).stdout == "C %s 1\n"


def test_the_directory_can_be_chosen(tmp_path: Path) -> None:
    result = RUNNER.run(python("import os; print(os.getcwd())"), timeout_s=30, cwd=str(tmp_path))
    assert result.stdout.strip() == str(tmp_path)


def test_past_the_deadline_it_is_killed_with_its_children(tmp_path: Path) -> None:
    """Lesson A12: one hung tool must not hang us, nor leave something behind."""
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "print('half', flush=True)\n"
        "time.sleep(600)\n"
    )
    note = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"no answer within 1\.5 s") as caught:
        RUNNER.run(python(code, str(note)), timeout_s=1.5)
    assert time.monotonic() - began < 10
    assert caught.value.stdout == "half\n"
    assert not alive(int(note.read_text()))


def test_a_child_that_ignores_term_and_says_nothing_is_killed_too(tmp_path: Path) -> None:
    """Its leader ends and the pipes close at once: nothing that is waited for tells of it."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}],\n"
        "    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    note = tmp_path / "pid"
    with pytest.raises(CommandTimeoutError):
        RUNNER.run(python(code, str(note)), timeout_s=1.5)
    assert not alive(int(note.read_text()))


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_process_that_cannot_be_killed_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson A12: as one that waits for a dead file system, whoever sends it what."""
    killpg = os.killpg
    monkeypatch.setattr("scrjob._process.KILL_GRACE_S", 0.05)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        RUNNER.run(["sleep", "30"], timeout_s=0.1)
    assert time.monotonic() - began < 20
    (record,) = caplog.records
    (pid,) = record.args  # type: ignore[misc]
    assert record.getMessage() == f"process {pid} cannot be killed: it is left behind"
    killpg(int(str(pid)), signal.SIGKILL)
    os.waitpid(int(str(pid)), 0)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("argv", [["no-such-program-anywhere"], ["/etc"], ["/etc/hostname/x"]])
def test_what_cannot_be_executed_is_not_found(argv: list[str]) -> None:
    with pytest.raises(CommandNotFoundError):
        RUNNER.run(argv, timeout_s=5)
    with pytest.raises(CommandNotFoundError):
        RUNNER.start(argv)


@pytest.mark.parametrize("argv", [["true", "a\0b"], ["true", "x" * 10_000_000]])
def test_arguments_that_no_program_can_get_are_an_error(argv: list[str]) -> None:
    with pytest.raises(CommandError, match="cannot be started"):
        RUNNER.run(argv, timeout_s=5)


def test_a_signals_number_is_negative() -> None:
    result = RUNNER.run(python("import os; os.kill(os.getpid(), 9)"), timeout_s=30)
    assert result.returncode == -9


def test_start_uses_our_streams_and_a_group_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    process = RUNNER.start(
        python("import os; print(os.getpgid(0), os.environ.get('X'))"), env={"X": "1"}
    )
    assert process.wait(timeout=30) == 0
    assert capfd.readouterr().out == f"{process.pid} 1\n"
    assert process.pid != os.getpgid(0)


def test_start_with_streams_in_place_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    typed, typing = os.pipe()
    os.write(typing, b"word\n")
    os.close(typing)
    process = RUNNER.start(
        python("import sys; sys.stderr.write(sys.stdin.read())"), stdin=typed, stderr=writer
    )
    os.close(writer)
    os.close(typed)
    assert process.wait(timeout=30) == 0
    assert os.read(reader, 100) == b"word\n"
    os.close(reader)
    assert capfd.readouterr() == ("", "")


def test_a_running_group_can_be_waited_for_signalled_and_killed() -> None:
    process = RUNNER.start(python("import time; time.sleep(600)"))
    assert wait_process(process, 0.01) is None
    assert group_exists(process.pid)
    assert signal_group(process, signal.SIGTERM)
    assert wait_process(process, 30) == -signal.SIGTERM
    assert not group_exists(process.pid)
    assert not signal_group(process, signal.SIGTERM)
    kill_group(process.pid)


def test_a_process_that_ended_is_not_signalled() -> None:
    """Its number may be somebody else's by now."""
    process = FakeProcess(["x"], 0)
    process.pid = os.getpid()
    assert not signal_group(process, signal.SIGKILL)


def test_what_is_called_beside_does_not_hold_up_the_caller() -> None:
    asked, answered = threading.Event(), threading.Event()

    def question() -> None:
        asked.wait(30)
        answered.set()

    RUNNER.beside(question, "a question")
    (thread,) = (t for t in threading.enumerate() if t.name == "a question")
    assert thread.daemon
    asked.set()
    assert answered.wait(30)
    thread.join(30)


def test_a_piped_program_has_no_input_and_a_session_of_its_own() -> None:
    code = (
        "import os, sys; print(repr(sys.stdin.read()), os.getpid() == os.getsid(0), os.environ['A']);"
        "sys.stderr.write('err')"
    )
    process = RUNNER.pipe(python(code), env={"A": "b"})
    with process.stdout, process.stderr:
        assert process.stdout.read() == b"'' True b\n"
        assert process.stderr.read() == b"err"
    assert process.wait() == 0


def test_a_program_that_does_not_exist_cannot_be_piped() -> None:
    with pytest.raises(CommandNotFoundError, match="no-such-program"):
        RUNNER.pipe(["no-such-program"])
