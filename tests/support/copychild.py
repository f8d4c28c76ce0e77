# SPDX-License-Identifier: BSD-3-Clause
"""scr_copy in a process of its own, which faults can be put into, and what must hold when it has ended.

As a program: ``copychild.py FILES_IN_A_BATCH ARGUMENTS...``, small batches for small tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from copynode import Node


class Ended(NamedTuple):
    """How a copy ended: exit code, stdout, and its report (empty if it was killed)."""

    rc: int
    lines: list[str]
    report: dict[str, Any]


def run_copy(node: Node, *words: str, environ: Mapping[str, str], batch: int = 8) -> Ended:
    """Copy the node's dataset with ``--resume --json``."""
    argv = [sys.executable, __file__, str(batch), "--cntldir", str(node.cntl), "--id", "5"]
    argv += ["--prefix", str(node.prefix), "--resume", "--json", *words]
    done = subprocess.run(
        argv,
        env={**os.environ, **environ},
        capture_output=True,
        timeout=100,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    report = json.loads(lines.pop()) if lines and lines[-1].startswith("{") else {}
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Ended(done.returncode, lines, report)


def journal(node: Node) -> dict[str, dict[str, Any]]:
    """Return path -> line of the node's journal; every whole line must be a good one."""
    found = {}
    for path in (node.prefix / ".scr/scr.dataset.5").glob("scrjob.copy.*.jsonl"):
        for line in path.read_text("ascii").split("\n"):
            if line:
                record = json.loads(line)
                found[record["path"]] = record
    return found


def check_journal(node: Node) -> int:
    """Every file that the journal lists must be there as it says; returns how many there are."""
    for relative, record in journal(node).items():
        data = (node.prefix / relative).read_bytes()
        assert (len(data), zlib.crc32(data)) == (record["size"], record["crc"]), relative
    return len(journal(node))


def leftovers(prefix: Path) -> list[Path]:
    """Return the temporary files below a prefix."""
    return [path for path in prefix.rglob(".*") if path.name.endswith(".tmp")]


def main() -> int:
    from scrjob.node import _batch, copy_main

    _batch.BATCH_FILES = int(sys.argv[1])
    return copy_main.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
