# SPDX-License-Identifier: BSD-3-Clause
"""The real outside world as one value; the only module that reads the process's environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional

from scrjob._clock import SystemClock

if TYPE_CHECKING:
    from scrjob.protocols import Clock, CommandRunner


class RealContext(NamedTuple):
    """Environment, processes, time and host name; satisfies ``protocols.Context``."""

    environ: Mapping[str, str]
    runner: CommandRunner
    clock: Clock
    hostname: str

    def with_environ(self, extra: Mapping[str, str]) -> RealContext:
        """Return a context whose environment has ``extra`` on top."""
        return self._replace(environ={**self.environ, **extra})


class SystemContext:
    """The real world; what is costly to import (runner, host name) is made when it is first used.

    Args:
        environ: the environment.
    """

    if TYPE_CHECKING:
        runner: CommandRunner
        hostname: str

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.clock: Clock = SystemClock()

    def __getattr__(self, name: str) -> Any:
        # Only called for attributes that are not there yet.
        if name == "runner":
            from scrjob._process import SubprocessRunner  # noqa: PLC0415 - subprocess costs 8 ms

            self.runner = SubprocessRunner()
            return self.runner
        if name == "hostname":
            import socket  # noqa: PLC0415 - costs 3 ms

            self.hostname = socket.gethostname()
            return self.hostname
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def with_environ(self, extra: Mapping[str, str]) -> SystemContext:
        """Return a context whose environment has ``extra`` on top."""
        return SystemContext({**self.environ, **extra})


def system_context(environ: Optional[Mapping[str, str]] = None) -> SystemContext:
    """Return the world as it is. ``environ`` replaces the process's own environment (a copy is kept)."""
    return SystemContext(dict(os.environ if environ is None else environ))
