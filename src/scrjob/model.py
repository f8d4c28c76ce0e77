# SPDX-License-Identifier: BSD-3-Clause
"""Values that several layers share. No behaviour, no input or output."""

from __future__ import annotations

import enum
from typing import NamedTuple, NewType, Optional

NodeName = NewType("NodeName", str)
JobId = NewType("JobId", str)
DatasetId = NewType("DatasetId", int)

END_UNKNOWN = 0
"""Published value of ``ResourceManager.end_time()`` when the end is not known."""

END_NO_LIMIT = -1
"""Published value of ``ResourceManager.end_time()`` when the allocation has no end."""


class NodeDown(NamedTuple):
    """Why a node must not be used, and who says so.

    ``test`` names the node test or other witness; ``when`` is Unix seconds; ``seconds`` what the test
    took; ``evidence`` is one line of what was seen.
    """

    node: str
    reason: str
    test: str = ""
    when: float = 0.0
    seconds: float = 0.0
    evidence: str = ""


class ExitStatus(NamedTuple):
    """How a process or job step ended: an exit code, or the number of the signal that ended it."""

    code: int
    signal: Optional[int] = None

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """Make it from Python's convention: -N means ended by signal N."""
        if returncode < 0:
            return cls(128 - returncode, -returncode)
        return cls(returncode)

    @property
    def success(self) -> bool:
        """Tell whether it ended by itself with 0."""
        return self.code == 0 and self.signal is None


class Cause(enum.Enum):
    """Why a run ended, by evidence; the order is that in which evidence is weighed."""

    NODE_DOWN = "node down"
    HANG = "hang"
    TIME_LIMIT = "out of time"
    HALT = "halt condition"
    SIGNAL = "signal to supervisor"
    STORAGE_FULL = "storage full"
    APPLICATION = "application error"
    LAUNCH = "launch failed"
    SUPERVISOR_LOST = "supervisor lost"
    SUCCESS = "success"
