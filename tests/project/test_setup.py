# SPDX-License-Identifier: BSD-3-Clause
"""Which Python the tasks of the Makefile take, of those on the machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pick(which: str, directory: Path, versions: list[str]) -> str:
    """Return what setup.sh picks where there are these; they say of themselves what the probe asks."""
    answers = {f"python{version}": f'echo "{version} $0"' for version in versions}
    answers.update({"python3": "exit 1", "python": "exit 1"})  # or those of the machine come first
    for name, answer in answers.items():
        (directory / name).write_text(f"#!/bin/sh\n{answer}\n")
        (directory / name).chmod(0o755)
    environ = {"PATH": f"{directory}:{os.defpath}", "HOME": str(directory)}
    argv = [str(ROOT / "tools/setup.sh"), "pick", which]
    done = subprocess.run(argv, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()).name


@pytest.mark.parametrize(
    ("which", "picked"),
    [("newest", "python3.13"), ("3.9", "python3.9"), ("3.20", "python3.20")],
)
def test_a_python_that_nobody_has_tried_is_taken_only_by_its_name(
    tmp_path: Path, which: str, picked: str
) -> None:
    assert pick(which, tmp_path, ["3.9", "3.10", "3.13", "3.20"]) == picked


def test_what_is_not_there_is_not_picked(tmp_path: Path) -> None:
    assert pick("3.19", tmp_path, ["3.9"]) == ""
