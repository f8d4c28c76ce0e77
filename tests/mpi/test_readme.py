# SPDX-License-Identifier: BSD-3-Clause
"""The commands of the example's README, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worlds import require

pytestmark = [pytest.mark.mpi, pytest.mark.local]

ROOT = Path(__file__).parents[2]
README = ROOT / "examples" / "heat2d" / "README.md"
LIMIT_S = 60.0


def blocks() -> list[str]:
    found = re.findall(
        r"^```console\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [
        "\n".join(line[2:] for line in body.splitlines() if line[:2] in ("$ ", "> "))
        for body in found
    ]


def test_the_commands_of_the_readme_work(tmp_path: Path):
    require("mpi")
    require("namespaces")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCR_CACHE_BASE": str(tmp_path / "shm"),
        "SCR_CNTL_BASE": str(tmp_path / "shm"),
    }
    said = []
    for text in blocks():
        done = subprocess.run(
            ["bash", "-ec", text],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert len(said) == 3
    assert "step 60, mean temperature 2.613630" in said[0]
    assert "asked to stop at step 20" in said[1]
    assert "from step 20 to 60" in said[1]
    assert "step 60, mean" in said[2]
