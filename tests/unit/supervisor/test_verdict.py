# SPDX-License-Identifier: BSD-3-Clause
"""Why a run ended: evidence first, exit code last."""

from __future__ import annotations

import pytest

from scrjob.model import Cause, ExitStatus, NodeDown
from scrjob.supervisor.verdict import StepEnd, judge

FINAL = "SCR_FINALIZE_CALLED"
TIME = ("TIME_LIMIT", "SCRJOB_TIME_LIMIT")
OK = ExitStatus(0)
SEVEN = ExitStatus(7)
KILLED = ExitStatus(137, 9)
DEAD = NodeDown("n3", "connection closed", "resource manager")
FULL = NodeDown("n3", "/dev/shm: No space left on device", "dir_capacity")


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (StepEnd(OK), Cause.SUCCESS),
        (StepEnd(OK, halt_reason=FINAL), Cause.SUCCESS),
        (StepEnd(OK, down=[DEAD]), Cause.SUCCESS),
        (StepEnd(OK, halt_reason="JOB_HALTED"), Cause.HALT),
        (StepEnd(SEVEN, halt_reason="JOB_HALTED"), Cause.HALT),
        (StepEnd(SEVEN), Cause.APPLICATION),
        (StepEnd(SEVEN, halt_reason=FINAL), Cause.APPLICATION),
        (StepEnd(SEVEN, down=[DEAD]), Cause.NODE_DOWN),
        (StepEnd(KILLED, down=[DEAD], hang="no progress"), Cause.NODE_DOWN),
        (StepEnd(KILLED, down=[DEAD], halt_reason="JOB_HALTED"), Cause.NODE_DOWN),
        (StepEnd(None, down=[DEAD]), Cause.NODE_DOWN),
        (StepEnd(KILLED, hang="no progress"), Cause.HANG),
        (StepEnd(KILLED, time_up=True), Cause.TIME_LIMIT),
        (StepEnd(OK, halt_reason="TIME_LIMIT"), Cause.TIME_LIMIT),
        (StepEnd(OK, signal_name="SIGTERM", halt_reason="SCRJOB_SIGNAL"), Cause.SIGNAL),
        (StepEnd(KILLED, signal_name="SIGTERM"), Cause.SIGNAL),
        (StepEnd(SEVEN, storage="/p: No space left on device"), Cause.STORAGE_FULL),
        (StepEnd(SEVEN, down=[FULL]), Cause.STORAGE_FULL),
        (StepEnd(SEVEN, down=[FULL, DEAD]), Cause.NODE_DOWN),
        (StepEnd(None, launch_error="no such launcher"), Cause.LAUNCH),
        (StepEnd(None), Cause.APPLICATION),
    ],
)
def test_the_cause_is_told_by_the_strongest_evidence(end: StepEnd, cause: Cause) -> None:
    assert judge(end, FINAL, TIME).cause is cause


def test_a_verdict_names_the_node_its_witness_and_the_exit_code() -> None:
    verdict = judge(StepEnd(SEVEN, down=[DEAD]), FINAL, TIME)
    assert str(verdict) == "node down: n3: connection closed (by resource manager); exit code 7"


def test_what_holds_for_many_nodes_is_said_once() -> None:
    down = [DEAD._replace(node=f"n{number}") for number in (1, 2, 3, 7)]
    verdict = judge(StepEnd(SEVEN, down=down), FINAL, TIME)
    assert verdict.evidence[0] == "n[1-3,7]: connection closed (by resource manager)"


def test_a_signal_is_told_as_a_signal() -> None:
    assert (
        str(judge(StepEnd(KILLED), FINAL, TIME)) == "application error: ended by signal 9 (SIGKILL)"
    )
