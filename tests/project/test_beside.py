# SPDX-License-Identifier: BSD-3-Clause
"""Tests of one marker in a second pytest: one summary, and a failure in either fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
HERE = "def test_here():\n    pass\n"
BESIDE = """\
import os
import pytest

@pytest.mark.far
def test_far():
    assert os.getppid() == int(os.environ["PARENT"]) {more}

@pytest.mark.far
def test_skipped():
    pytest.skip("no wish")
"""


def run(tmp_path: Path, here: str, beside: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    far: elsewhere\n")
    (tmp_path / "conftest.py").write_text(
        'import os\npytest_plugins = ["beside"]\nos.environ.setdefault("PARENT", str(os.getpid()))\n'
    )
    (tmp_path / "test_here.py").write_text(here)
    (tmp_path / "test_beside.py").write_text(beside)
    argv = [sys.executable, "-m", "pytest", "--beside", "far", "-p", "no:cacheprovider"]
    return subprocess.run(
        argv,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.rstrip().splitlines()[-1]


def test_totals_are_those_of_both(tmp_path: Path) -> None:
    done = run(tmp_path, HERE, BESIDE.format(more=""))
    assert "= 2 passed, 1 skipped in " in last_line(done)
    assert done.returncode == 0


def test_a_failure_beside_fails_the_run_and_is_shown(tmp_path: Path) -> None:
    done = run(tmp_path, HERE, BESIDE.format(more="+ 1"))
    assert "= 1 failed, 1 passed, 1 skipped in " in last_line(done)
    assert "FAILED test_beside.py::test_far" in done.stdout
    assert done.returncode == 1


def test_a_failure_here_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_here():\n    assert False\n", BESIDE.format(more=""))
    assert "= 1 failed, 1 passed, 1 skipped in " in last_line(done)
    assert done.returncode == 1


@pytest.mark.parametrize("fault", ["os._exit(0)", "os._exit(3)"])
def test_one_that_ends_early_fails_the_run(tmp_path: Path, fault: str) -> None:
    done = run(tmp_path, HERE, BESIDE.format(more=f"and {fault}"))
    assert done.returncode == 1
    assert "the tests beside ended with" in done.stdout
