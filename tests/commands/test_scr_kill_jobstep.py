# SPDX-License-Identifier: BSD-3-Clause
"""scr_kill_jobstep as a command, over the stand-in for Slurm. Lesson A20: the established one crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

import fakeslurm
from scrjob._context import system_context
from scrjob.commands import scr_kill_jobstep
from scrjob.launchers.srun import SRUN

NODES = ["n08", "r1n2"]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Give a function that starts a step on two nodes and returns its srun."""
    state = tmp_path / "state"
    environ = fakeslurm.install(tmp_path / "bin", state, NODES)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    launcher = SRUN()
    launcher.bind(system_context())
    made = []

    def start(*program):
        step, _ = launcher.launch_run(["-N2", *program], NODES, [])
        made.append(step)
        end = time.monotonic() + 20
        while not fakeslurm.steps(state):
            assert time.monotonic() < end
            time.sleep(0.01)
        return step

    yield start
    for left in fakeslurm.steps(state):
        for pid in (*left["ranks"], left["pid"]):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    for step in made:
        step.wait(20)


@pytest.mark.parametrize("option", ["-j", "--jobstep", "--jobStepId"])
def test_lesson_a20_it_ends_the_step(option, started, capsys):
    step = started("sleep", "600")
    assert scr_kill_jobstep.main(["-l", "srun", option, "7.0"]) == 0
    assert step.wait(20) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "")
    assert scr_kill_jobstep.main(["-l", "srun", option, "7.0"]) == 1
    assert capsys.readouterr().err == (
        "scr_kill_jobstep: no step 7.0: it has ended, or there never was one\n"
    )


@pytest.mark.slow
def test_ranks_that_ignore_term(started):
    step = started("sh", "-c", "trap '' TERM; sleep 600 & wait; wait")
    assert scr_kill_jobstep.main(["--launcher", "slurm", "-j", "7.0"]) == 0
    assert step.wait(20) == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        (["-l", "srun", "-j", "7"], 1, "'7' is no step: expected JOBID.STEPID, two numbers"),
        (["-l", "srun"], 1, "required: -j"),
        (["-j", "7.0"], 1, "required: -l"),
        (["-l", "nonsense", "-j", "7.0"], 78, "nonsense"),
        (["-l", "local", "-j", "x"], 1, "'x' is no step: expected JOBID.STEP, two numbers"),
        (["-l", "local", "-j", "17.0"], 78, "no allocation '17' of yours on this machine"),
    ],
)
def test_wrong_calls(argv, code, error, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SCR_LOCAL_BASE", str(tmp_path))
    assert scr_kill_jobstep.main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert error in err


def test_no_slurm_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scr_kill_jobstep.main(["-l", "srun", "-j", "7.0"]) == 1
    assert "scontrol" in capsys.readouterr().err
