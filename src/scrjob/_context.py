# SPDX-License-Identifier: BSD-3-Clause
"""The real outside world as one value; the only module that reads the process's environment."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional

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


def system_context(environ: Optional[Mapping[str, str]] = None) -> RealContext:
    """Return the world as it is. ``environ`` replaces the process's own environment (a copy is kept)."""
    from scrjob._process import SubprocessRunner  # noqa: PLC0415 - subprocess costs 8 ms

    return RealContext(
        environ=dict(os.environ if environ is None else environ),
        runner=SubprocessRunner(),
        clock=SystemClock(),
        hostname=socket.gethostname(),
    )
