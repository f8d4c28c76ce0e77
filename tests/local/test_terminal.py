# SPDX-License-Identifier: BSD-3-Clause
"""scr_run on a terminal: ^C asks politely, twice stops now; a program that reads gets the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

import pytest

from screen import INTERRUPT, Screen
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = pytest.mark.local


@pytest.fixture
def here(namespaces: None, tmp_path: Path) -> Iterator[HeldAllocation]:
    with allocation(2, cwd=tmp_path) as held:
        held.environ.update(SCR_PREFIX=str(tmp_path), SCR_JOB_ID="job")
        yield held


def run(here: HeldAllocation, text: str, mpi: str = "none") -> Screen:
    words = ["local", "-N", "1", "-n", "1", f"--mpi={mpi}", "sh", "-c", text]
    return Screen([sys.executable, "-m", "scrjob", "scr_run", *words], here.environ)


def test_an_interrupt_lets_the_program_stop(here: HeldAllocation) -> None:
    polite = 'echo up; until scr_retries_halt --dir "$SCR_PREFIX"; do sleep 0.1; done; echo done'
    screen = run(here, polite)
    screen.wait(b"up\r\n")
    screen.type(INTERRUPT)
    assert screen.code() == 130
    assert b"SIGINT received" in screen.seen
    assert b"done\r\n" in screen.seen


def test_a_second_interrupt_ends_it(here: HeldAllocation) -> None:
    screen = run(here, "echo up; exec sleep 60")
    screen.wait(b"up\r\n")
    screen.type(INTERRUPT)
    screen.wait(b"SIGINT received")
    screen.type(INTERRUPT)
    assert screen.code() == 130
    assert b"second interrupt" in screen.seen


def test_a_program_that_reads_gets_the_terminal(here: HeldAllocation) -> None:
    """Lesson B9."""
    screen = run(here, 'echo up; read word; echo "got $word"')
    screen.wait(b"up\r\n")
    screen.type(b"hello\n")
    assert screen.code() == 0
    assert b"got hello\r\n" in screen.seen


def test_a_program_that_is_passed_through_gets_the_terminal_too(here: HeldAllocation) -> None:
    here.environ["SCR_ENABLE"] = "0"
    screen = run(here, 'echo up; read word; echo "got $word"')
    screen.wait(b"up\r\n")
    screen.type(b"hello\n")
    assert screen.code() == 0
    assert b"got hello\r\n" in screen.seen


def test_an_interrupt_while_the_program_has_the_terminal(here: HeldAllocation) -> None:
    """mpiexec reads for its ranks, so the terminal is lent to it; its end by ^C counts as ours."""
    screen = run(here, 'echo up; read word; echo "got $word"; read word; echo never', "mpich")
    screen.wait(b"up\r\n")
    screen.type(b"hello\n")
    screen.wait(b"got hello\r\n")
    screen.type(INTERRUPT)
    assert screen.code() == 130
    assert b"never" not in screen.seen
    assert b"SIGINT received" in screen.seen
