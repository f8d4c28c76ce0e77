# SPDX-License-Identifier: BSD-3-Clause
"""One scr_run in an allocation of the rig: started, waited for, asked what it said and wrote."""

from __future__ import annotations

import glob
import json
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from rig import Rig, Running
from scrjob import scrlog

LIMIT_S = 60.0
POLL_S = 0.02
LOGGED = {"SCR_LOG_ENABLE": "1", "SCR_LOG_SYSLOG_ENABLE": "0"}


class RigJob:
    """A job; what it says goes to the files ``out`` and ``err`` of its directory.

    Args:
        rig: where.
        directory: new, on the shared file system.
        prefix: SCR's.
        command: what is run in the allocation.
        settings: of its environment.
    """

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        prefix: Path,
        command: Sequence[str],
        settings: Mapping[str, str],
    ) -> None:
        self.rig = rig
        self.directory = directory
        self.prefix = prefix
        self.command = list(command)
        self.settings = {"SCR_PREFIX": str(prefix), **LOGGED, **settings}
        self.running: Optional[Running] = None

    def under_salloc(self, nodes: int, options: Sequence[str], cwd: Path, stdout: str) -> None:
        """Start it in an allocation of its own; ``stdout`` names the file for that stream."""
        with open(self.directory / "err", "ab") as err, open(self.directory / stdout, "ab") as out:
            self.running = self.rig.salloc_start(
                *(nodes, self.command, options),
                cwd=str(cwd),
                environ=self.settings,
                stdout=out,
                stderr=err,
            )

    @property
    def said(self) -> str:
        """What was said on stderr so far."""
        return self._read("err")

    @property
    def printed(self) -> str:
        """What was said on stdout so far, where that is kept apart."""
        return self._read("out")

    def _read(self, name: str) -> str:
        try:
            return (self.directory / name).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def wait_until(self, question: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Return the first true answer; fail when it takes too long or the job ends before."""
        end = time.monotonic() + limit_s
        while True:
            over = self.running is not None and self.running.popen.poll() is not None
            answer = question()
            if answer:
                return answer
            assert not over, f"ended before {what}:\n{self.said}"
            assert time.monotonic() < end, f"not within {limit_s} s: {what}\n{self.said}"
            time.sleep(POLL_S)

    def wait_said(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Wait until something was said."""
        self.wait_until(lambda: text in self.said, text, limit_s)

    def end(self, limit_s: float = LIMIT_S) -> int:
        """Wait for the end; returns the exit code."""
        assert self.running is not None
        try:
            return int(self.running.wait(limit_s))
        except subprocess.TimeoutExpired:
            self.running.end()
            raise AssertionError(f"not ended within {limit_s} s:\n{self.said}") from None

    def state(self) -> dict[str, Any]:
        """Return what scr_run has written about the job, {} nothing yet."""
        for path in glob.glob(str(self.prefix / ".scr" / "scrjob.*" / "state.json")):
            with open(path, encoding="utf-8") as file:
                state: dict[str, Any] = json.load(file)
            return state
        return {}

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs so far."""
        return list(self.state().get("runs", []))

    def records(self) -> Iterator[dict[str, Any]]:
        """Return what is in SCR's log."""
        return scrlog.iter_file(scrlog.log_path(str(self.prefix)))
