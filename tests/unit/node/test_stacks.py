# SPDX-License-Identifier: BSD-3-Clause
"""What hung processes do: py-spy first, then the armed handler, else what /proc shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from scrjob._clock import SystemClock
from scrjob.node import stacks
from scrjob.testing.fakes import FakeRunner, hanging, said

ARMED = """
import faulthandler, os, signal, sys, time
file = open(sys.argv[1] + f"/here.{os.getpid()}.txt", "w")
faulthandler.register(signal.SIGUSR2, file=file)
print("armed", flush=True)
def stuck_here():
    time.sleep(600)
stuck_here()
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def describe(pid: int, runner: FakeRunner, stack_dir: str) -> str:
    clock = SystemClock()
    return stacks.describe([pid], runner=runner, clock=clock, stack_dir=stack_dir, hostname="here")


@pytest.fixture
def py_spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return str(program)


def test_py_spy_is_asked_first(py_spy: str, tmp_path: Path) -> None:
    runner = FakeRunner(lambda argv: said(argv, "Thread 1: stuck_here\n"))
    text = describe(os.getpid(), runner, str(tmp_path))
    assert "Thread 1: stuck_here" in text
    assert runner.calls == [[py_spy, "dump", "--nonblocking", "--pid", str(os.getpid())]]


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_without_its_answer_the_kernel_tells(
    py_spy: str, tmp_path: Path, sleeper: subprocess.Popen[bytes], how: str
) -> None:
    """Nor is a process signalled that has no handler: it would die of it."""
    runner = FakeRunner(hanging if how == "hangs" else lambda argv: said(argv, returncode=1))
    text = describe(sleeper.pid, runner, str(tmp_path))
    assert "no Python stack" in text
    assert "sleep 600" in text
    assert sleeper.poll() is None


def test_an_armed_program_writes_its_stack(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", ARMED, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"armed\n"
        text = describe(process.pid, FakeRunner(), str(tmp_path))
        process.kill()
    assert "in stuck_here" in text


def test_a_process_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert "[gone]" in describe(process.pid, FakeRunner(), str(tmp_path))


def test_the_program_takes_only_its_own_nodes_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert stacks.main(["othernode=1,2", f"{os.uname().nodename}={os.getpid()}"]) == 0
    said_here = capsys.readouterr().out
    assert said_here.count("== process") == 1
    assert f"== process {os.getpid()} " in said_here
