# SPDX-License-Identifier: BSD-3-Clause
"""The shell of examples/slurm/scr_run.sbatch: signals at bad moments, requeue; without Slurm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "scr_run.sbatch"
LIMIT_S = 30.0

# It listens to signals only when somebody lets it, as Python that is still starting.
SCR_RUN = f"""#!{sys.executable} -IS
import os, pathlib, signal, sys, time
pathlib.Path("begun").touch()
while not os.path.exists("listen"):
    time.sleep(0.01)
def end(*_):
    pathlib.Path("listening").touch()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a second one would kill Python while it ends
    sys.exit(75)
signal.signal(signal.SIGUSR1, end)
pathlib.Path("listening").touch()
while not os.path.exists("finish"):
    time.sleep(0.01)
sys.exit(5)
"""
SCONTROL = """#!/bin/sh
echo "$@" >> requeued
"""


class Script:
    """The batch script with programs that play scr_run and scontrol."""

    def __init__(self, directory: Path) -> None:
        """Start it."""
        self.directory = directory
        for name, text in (("scr_run", SCR_RUN), ("scontrol", SCONTROL)):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        environ = {"PATH": f"{directory}:{os.defpath}", "SLURM_JOB_ID": "7"}
        argv = ["bash", str(SCRIPT), "./app"]
        self.process = subprocess.Popen(argv, cwd=directory, env=environ, start_new_session=True)

    def wait_for(self, name: str) -> None:
        end = time.monotonic() + LIMIT_S
        is_over = False
        while not (self.directory / name).exists():
            assert not is_over, name
            is_over = self.process.poll() is not None or time.monotonic() > end
            time.sleep(0.01)

    def end(self) -> int:
        return self.process.wait(LIMIT_S)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing behind, what it has started neither."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def requeued(self) -> Optional[str]:
        path = self.directory / "requeued"
        return path.read_text() if path.exists() else None


@pytest.mark.parametrize("early", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_before_scr_run_listens_does_not_end_it(tmp_path: Path, early: int) -> None:
    with Script(tmp_path) as script:
        script.wait_for("begun")
        script.process.send_signal(early)
        (tmp_path / "listen").touch()
        script.wait_for("listening")
        script.process.send_signal(signal.SIGUSR1)  # the first, if the shell was slow, may do
        assert script.end() == 75
    assert script.requeued == "requeue 7\n"


def test_another_end_is_passed_on_without_requeue(tmp_path: Path) -> None:
    with Script(tmp_path) as script:
        (tmp_path / "listen").touch()
        (tmp_path / "finish").touch()
        assert script.end() == 5
    assert script.requeued is None
