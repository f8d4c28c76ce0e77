# SPDX-License-Identifier: BSD-3-Clause
"""What hung processes do: py-spy first, then the armed handler, else what /proc shows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

from scrjob._clock import SystemClock, wait_for
from scrjob.node import stacks
from scrjob.testing.fakes import FakeClock, FakeRunner, hanging, said

ARMED = """
import faulthandler, os, signal, sys, time
file = open(sys.argv[1] + f"/here.{os.getpid()}.txt", "w")
faulthandler.register(signal.SIGUSR2, file=file)
def stuck_here():
    print("ready", flush=True)
    time.sleep(600)
stuck_here()
"""
CATCHES = """
import signal, time
signal.signal(signal.SIGUSR2, lambda *_: print("caught", flush=True))
print("ready", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; kill it and what it has started in the end."""
    with subprocess.Popen(argv, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", code, *arguments]
    with running(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_for(lambda: stacks._state(process.pid)[:1] == "S", clock=SystemClock(), limit_s=10)
        yield process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with running(["sleep", "600"]) as process:
        yield process


def describe(
    pids: Sequence[int], stack_dir: str, *, runner: FakeRunner, limit: int = 1 << 18
) -> str:
    return stacks.describe(
        pids,
        runner=runner,
        clock=SystemClock(),
        stack_dir=stack_dir,
        hostname="here",
        limit=limit,
    )


@pytest.fixture
def py_spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return str(program)


def test_py_spy_is_asked_first(py_spy: str, tmp_path: Path) -> None:
    runner = FakeRunner(lambda argv: said(argv, "Thread 1: stuck_here\n"))
    text = describe([os.getpid()], str(tmp_path), runner=runner)
    assert "Thread 1: stuck_here" in text
    assert runner.calls == [[py_spy, "dump", "--nonblocking", "--pid", str(os.getpid())]]


def test_the_py_spy_beside_this_python_is_found(
    py_spy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands on nodes get the absolute name of Python, and any PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    runner = FakeRunner(lambda argv: said(argv, "Thread 1\n"))
    assert "Thread 1" in describe([os.getpid()], str(tmp_path), runner=runner)
    assert runner.calls[0][0] == py_spy


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_without_its_answer_the_kernel_tells(py_spy: str, tmp_path: Path, how: str) -> None:
    runner = FakeRunner(hanging if how == "hangs" else lambda argv: said(argv, returncode=1))
    text = describe([os.getpid()], str(tmp_path), runner=runner)
    assert "no Python stack" in text
    assert f"thread {os.getpid()} (" in text
    assert len(runner.calls) == 1


def test_a_program_that_is_not_python_is_not_asked_for_its_python_stack(
    py_spy: str, tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """Nor is it signalled: without a handler it would die of it."""
    runner = FakeRunner()
    text = describe([sleeper.pid], str(tmp_path), runner=runner)
    assert "sleep 600" in text
    assert f"thread {sleeper.pid} (sleep) " in text
    assert runner.calls == []
    assert sleeper.poll() is None


def test_all_of_a_node_together_have_a_limit(py_spy: str, tmp_path: Path) -> None:
    clock = FakeClock()

    def slow(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        clock.advance(stacks.PY_SPY_TIMEOUT_S)
        return hanging(argv)

    runner = FakeRunner(slow)
    stacks.describe([os.getpid()] * 10, runner=runner, clock=clock, stack_dir=None, hostname="here")
    assert len(runner.calls) * stacks.PY_SPY_TIMEOUT_S <= stacks.LOOK_S


def test_armed_programs_write_their_stacks_at_the_same_time(tmp_path: Path) -> None:
    with python(ARMED, str(tmp_path)) as one, python(ARMED, str(tmp_path)) as two:
        text = describe([one.pid, two.pid], str(tmp_path), runner=FakeRunner())
    assert text.count("in stuck_here") == 2


def test_a_stopped_rank_is_told_apart_and_is_not_signalled(tmp_path: Path) -> None:
    """It cannot answer, and would answer when it goes on."""
    with python(ARMED, str(tmp_path)) as process, python(ARMED, str(tmp_path)) as other:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: stacks._state(process.pid)[:1] == "T", clock=SystemClock(), limit_s=10)
        text = describe([process.pid, other.pid], str(tmp_path), runner=FakeRunner())
        assert text.startswith("processes: 2 (1 T (stopped), 1 S (sleeping))\n")
        assert f"== process {process.pid} [T (stopped)]" in text
        assert text.count("in stuck_here") == 1
        pending = stacks._status(process.pid, "ShdPnd")
        assert int(pending, 16) == 0


def test_a_handler_that_is_not_the_clients_is_left_alone(tmp_path: Path) -> None:
    with python(CATCHES) as process:
        describe([process.pid], str(tmp_path), runner=FakeRunner())
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_a_process_without_a_handler_lives_on(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """The file may be left by another process of this number."""
    (tmp_path / f"here.{sleeper.pid}.txt").touch()
    describe([sleeper.pid], str(tmp_path), runner=FakeRunner())
    assert stacks._state(sleeper.pid)[:1] in "RS"


def test_a_stack_is_read_when_it_grows_no_more(tmp_path: Path) -> None:
    with python(CATCHES) as process:
        path = tmp_path / f"here.{process.pid}.txt"
        path.touch()
        bits = ["first\n", "second\n"]

        class Clock(FakeClock):
            def sleep(self, seconds: float) -> None:
                super().sleep(seconds)
                path.write_text(path.read_text() + (bits.pop(0) if bits else ""))

        text = stacks.describe(
            [process.pid],
            runner=FakeRunner(),
            clock=Clock(),
            stack_dir=str(tmp_path),
            hostname="here",
        )
    assert "first\nsecond\n" in text


def test_a_process_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    text = describe([process.pid], str(tmp_path), runner=FakeRunner())
    assert f"== process {process.pid} [gone]" in text


def test_what_is_too_much_is_cut(tmp_path: Path) -> None:
    gone = range(1 << 30, (1 << 30) + 99)
    text = describe([os.getpid(), *gone], str(tmp_path), runner=FakeRunner(), limit=1000)
    assert 1000 < len(text) < 1100
    assert text.endswith("(cut off here)\n")
    assert text.startswith("processes: 100 ")


def program(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert stacks.main(words) == 0
    return capsys.readouterr().out


def test_the_program_takes_only_its_own_nodes_words(
    capsys: pytest.CaptureFixture[str], sleeper: subprocess.Popen[bytes]
) -> None:
    text = program(capsys, "othernode=1,2", f"{os.uname().nodename}={sleeper.pid}")
    assert text.count("== process") == 1
    assert f"== process {sleeper.pid} " in text


def test_the_odd_one_comes_first_and_its_rank_is_told(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    environ = {**os.environ, "SLURM_PROCID": "17"}
    argv = ["sleep", "600"]
    with running(argv) as other, running(argv, env=environ) as odd:
        odd.send_signal(signal.SIGSTOP)
        for process, state in ((odd, "T"), (sleeper, "S"), (other, "S")):
            wait_for(
                lambda: stacks._state(process.pid)[:1] == state,  # noqa: B023 - asked at once
                clock=SystemClock(),
                limit_s=10,
            )
        pids = [sleeper.pid, other.pid, odd.pid]
        text = describe(pids, str(tmp_path), runner=FakeRunner())
    blocks = text.split("== process ")
    assert blocks[1].startswith(f"{odd.pid} rank 17 [T (stopped)] sleep 600\n")


def test_the_program_finds_ranks_by_their_environment(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {**os.environ, "SLURM_JOB_ID": "5", "SLURM_STEP_ID": "a b=c"}
    with running(["sh", "-c", "sleep 600; true"], env=environ):
        words = ["--env", "SLURM_JOB_ID=5", "--env", "SLURM_STEP_ID=a b=c"]
        text = wait_for(
            lambda: found if "sleep 600\n" in (found := program(capsys, *words)) else "",
            clock=SystemClock(),
            limit_s=10,
        )
    assert text.count("== process") == 1
    assert "no process of the step" in program(capsys, "--env", "SLURM_JOB_ID=of nobody")


def test_known_processes_that_are_gone_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    text = program(capsys, "--limit", "10000", f"{os.uname().nodename}={process.pid}")
    assert "[gone]" in text
