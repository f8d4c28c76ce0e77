# SPDX-License-Identifier: BSD-3-Clause
"""A job's inside, seen from a test: plugins run here, what they start runs on a host of the rig."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from rig import Rig
from scrjob._clock import SystemClock
from scrjob._context import RealContext
from scrjob._process import TOOL_ENV, CommandResult
from scrjob.errors import CommandNotFoundError, CommandTimeoutError


class HostRunner:
    """Runs commands on one host."""

    def __init__(self, rig: Rig, host: str) -> None:
        self.rig = rig
        self.host = host

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        cwd: Optional[str] = None,
    ) -> CommandResult:
        assert stdin is None
        assert cwd is None
        environ = {**(self.rig.environ if env is None else env), **TOOL_ENV}
        try:
            done = self.rig.exec(self.host, argv, timeout=timeout_s, env=environ)
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(argv, why=f"no answer within {timeout_s:g} s") from None
        if done.returncode == 127:
            raise CommandNotFoundError(argv, why=done.stderr)
        return CommandResult(argv, done.returncode, done.stdout, done.stderr, 0.0)


def context(rig: Rig, host: str, environ: Mapping[str, str]) -> Any:
    """Return the world of a process on a host."""
    return RealContext(dict(environ), HostRunner(rig, host), SystemClock(), host)  # type: ignore[arg-type]


def read_environ(path: Path) -> dict[str, str]:
    """Return what ``env -0`` has written, {} as long as it has not."""
    text = path.read_text() if path.exists() else ""
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)
