# SPDX-License-Identifier: BSD-3-Clause
"""The benchmarks run and write what they print; how fast this machine is decides no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_group_gives_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--results", str(tmp_path)),
            *("startup", "kvtree", "redundancy", "manyfiles"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    figures = json.loads(path.read_text("utf-8"))["figures"]
    assert {figure["group"] for figure in figures} == {
        "start-up",
        "kvtree",
        "redundancy",
        "very many",
    }
    for figure in figures:
        assert figure["value"] > 0
        assert figure["name"] in done.stdout


@pytest.mark.mpi
def test_the_clients_redundancy_by_real_mpi() -> None:
    code = "from benchmarks import client as c; print(sorted(c.measure(99_999, 1)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    works = ["PARTNER, encode", "PARTNER, rebuild 2", "RS, encode", "RS, rebuild 2"]
    works += ["XOR, encode", "XOR, rebuild 1", "memory of a rank"]
    assert done.stdout == f"{works}\n", done.stderr


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "known: startup, kvtree" in done.stderr


def test_the_stand_in_for_nodes_still_speaks_as_they_do() -> None:
    code = "from benchmarks import remoteexec as r; r.NODES[3:] = []; print(len(r.measure(1)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "6\n", done.stderr
