# SPDX-License-Identifier: BSD-3-Clause
"""Commands that a page shows are run: all ``console`` blocks of a page in order, in an empty directory.

A line that begins with ``$`` is a command; ``>`` goes on with it. ``[exit N]`` after it is the exit
code it must have, 0 without. A block that cannot be run says why: ```` ```console notest: reason ````.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from worlds import require

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console(?P<tag>[^\n]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
LIMIT_S = 60


class Command(NamedTuple):
    """One command of a page and the exit code that the page promises."""

    text: str
    code: int


def pages() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += sorted([*(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("*/README.md")])
    return [p for p in found if "_build" not in p.parts and BLOCK.search(p.read_text("utf-8"))]


def commands_of(body: str) -> list[Command]:
    found: list[Command] = []
    going_on = False
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], 0))
            going_on = True
        elif going_on and line.startswith("> "):
            found[-1] = Command(f"{found[-1].text}\n{line[2:]}", 0)
        elif match := re.fullmatch(r"\[exit (\d+)\]", line):
            found[-1] = found[-1]._replace(code=int(match[1]))
        else:
            going_on = False
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_are_run_or_say_why_not(page: Path) -> None:
    for match in BLOCK.finditer(page.read_text("utf-8")):
        tag = match["tag"].strip()
        assert not tag or re.fullmatch(r"notest: \S.*", tag), f"console {tag}"
        assert commands_of(match["body"]), "a console block without a command"


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    blocks = [match["body"] for match in BLOCK.finditer(text) if not match["tag"].strip()]
    if any("scr_local" in body for body in blocks):
        require("namespaces")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shutil.copytree(ROOT / "examples", scratch / "examples")  # some pages say: from the source tree
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
        "SCR_CACHE_BASE": str(tmp_path / "cache"),
        "SCR_CNTL_BASE": str(tmp_path / "cntl"),
    }
    for name in ("cache", "cntl"):
        (tmp_path / name).mkdir()
    for body in blocks:
        for command in commands_of(body):
            done = subprocess.run(
                ["bash", "-c", command.text],
                cwd=scratch,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            said = f"$ {command.text}\n{done.stdout}{done.stderr}"
            assert done.returncode == command.code, f"exit {done.returncode}: {said}"
