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


class NodeWatch(NamedTuple):
    """What a resource manager says of nodes while a run uses them, each with a one-line reason.

    ``lost``: ranks there cannot go on; ``silent``: the manager has not heard of them lately, which
    alone condemns nobody. A node that is only not to get new work (draining) is in neither.
    """

    lost: dict[NodeName, str]
    silent: dict[NodeName, str]


class Said(enum.Enum):
    """What a launcher's own message about its step means."""

    NODE_FAILED = "node failed"
    TIME_LIMIT = "time limit"
    PREEMPTED = "pre-empted"
    CANCELLED = "cancelled"
    """By others than the launcher, which ends the rest of a step itself when a task has failed."""
    OUT_OF_MEMORY = "out of memory"
    TASK_FAILED = "task failed"
    NOT_STARTED = "not started"
    """The step, or its program, could not be started at all: a wrong option, no such program."""


class StepMessage(NamedTuple):
    """One message of a launcher about its step.

    ``node`` is None where the message names none; ``text`` is the message in one line; ``when`` is
    Unix seconds.
    """

    said: Said
    node: Optional[str]
    text: str
    when: float


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
    """Why a run ended, by evidence.

    The order is that in which evidence is weighed: if several hold, the first is the cause, and the
    evidence of the others is kept beside it (docs/causes.md).
    """

    NODE_DOWN = "node down"
    HANG = "hang"
    TIME_LIMIT = "out of time"
    HALT = "halt condition"
    PREEMPTED = "pre-empted"
    CANCELLED = "cancelled"
    SIGNAL = "signal to supervisor"
    STORAGE_FULL = "storage full"
    OUT_OF_MEMORY = "out of memory"
    LAUNCH = "launch failed"
    APPLICATION = "application error"
    SUPERVISOR_LOST = "supervisor lost"
    SUCCESS = "success"
