# SPDX-License-Identifier: BSD-3-Clause
"""Why a run ended: evidence first, exit code last."""

from __future__ import annotations

from typing import Optional

import pytest

from scrjob.model import Cause, ExitStatus, NodeDown, Said, StepMessage
from scrjob.supervisor.verdict import StepEnd, judge, killed

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


LEFT = 3600.0


def said(kind: Said, text: str, node: Optional[str] = None) -> StepMessage:
    return StepMessage(kind, node, f"srun: error: {text}", 1_000_000_000.0)


STEP_CANCELLED = said(Said.CANCELLED, "*** STEP 2.0 ON n1 CANCELLED AT 2026-11-23T05:29:20 ***")
JOB_PREEMPTED = said(Said.PREEMPTED, "*** JOB 8 ON n1 CANCELLED DUE TO PREEMPTION ***")
STEP_OUT_OF_TIME = said(Said.TIME_LIMIT, "*** STEP 13.0 ON n1 CANCELLED DUE TO TIME LIMIT ***")
NODE_FAILED = said(Said.NODE_FAILED, "Node failure on n2", "n2")
TERMINATED = said(Said.TASK_FAILED, "n1: task 0: Terminated", "n1")
TASK_KILLED = said(Said.TASK_FAILED, "n2: task 1: Killed", "n2")
SHELL_KILLED = said(Said.TASK_FAILED, "n1: task 0: Exited with exit code 137", "n1")
TASK_SEGV = said(Said.TASK_FAILED, "n2: task 1: Segmentation fault", "n2")
TASK_EXIT = said(Said.TASK_FAILED, "n2: task 1: Exited with exit code 9", "n2")
NO_MEMORY = said(Said.OUT_OF_MEMORY, "n2: task 1: Out Of Memory", "n2")
NO_PROGRAM = said(Said.NOT_STARTED, "execve(): nosuch: No such file or directory", "n1")

BY_USER = (Cause.CANCELLED, "job 4 was cancelled")
PREEMPTED = (Cause.PREEMPTED, "job 8 is pre-empted at 05:32:12")
TIMEOUT = (Cause.TIME_LIMIT, "job 13: Reason=TimeLimit")
NODE_LOST = (Cause.NODE_DOWN, "job 12: Reason=NodeDown")
NINE = ExitStatus(9)
C143 = ExitStatus(143)


@pytest.mark.parametrize(
    ("end", "cause", "final"),
    [
        # scancel of the step, of the job: the step's messages are the same, the manager knows more
        (StepEnd(KILLED, messages=[STEP_CANCELLED, TASK_KILLED]), Cause.CANCELLED, None),
        (
            StepEnd(C143, messages=[STEP_CANCELLED, TERMINATED], ending=BY_USER),
            Cause.CANCELLED,
            BY_USER,
        ),
        # tasks that do not die of it in time: srun gives 0
        (StepEnd(OK, messages=[STEP_CANCELLED]), Cause.CANCELLED, None),
        (StepEnd(OK, messages=[STEP_CANCELLED], ending=PREEMPTED), Cause.PREEMPTED, PREEMPTED),
        (StepEnd(OK, ending=BY_USER), Cause.SUCCESS, None),
        # the nodes' lines come in any order, and a shell around a task has a code of its own
        (StepEnd(C143, messages=[TASK_KILLED, STEP_CANCELLED, TERMINATED]), Cause.CANCELLED, None),
        (
            StepEnd(C143, messages=[SHELL_KILLED, STEP_CANCELLED, TASK_KILLED]),
            Cause.CANCELLED,
            None,
        ),
        # of a task's failure: MPI_Abort cancels the step, before or after the task exits
        (StepEnd(C143, messages=[TASK_SEGV, STEP_CANCELLED, TERMINATED]), Cause.APPLICATION, None),
        (StepEnd(C143, messages=[TASK_KILLED, TERMINATED]), Cause.APPLICATION, None),
        (StepEnd(NINE, messages=[STEP_CANCELLED, TASK_KILLED, TASK_EXIT]), Cause.APPLICATION, None),
        # pre-emption: TERM to us or not, the end brought forward or not
        (StepEnd(C143, messages=[JOB_PREEMPTED]), Cause.PREEMPTED, None),
        (StepEnd(C143, signal_name="SIGTERM", ending=PREEMPTED), Cause.PREEMPTED, PREEMPTED),
        (StepEnd(OK, time_up=True, ending=PREEMPTED), Cause.PREEMPTED, PREEMPTED),
        (StepEnd(OK, signal_name="SIGTERM", ending=BY_USER), Cause.CANCELLED, BY_USER),
        # time: by the manager's word, by the launcher's, by the known end; never by the exit code
        (StepEnd(C143, messages=[STEP_CANCELLED], ending=TIMEOUT), Cause.TIME_LIMIT, TIMEOUT),
        (StepEnd(C143, messages=[STEP_OUT_OF_TIME], seconds_left=LEFT), Cause.TIME_LIMIT, None),
        (StepEnd(C143, messages=[STEP_OUT_OF_TIME], seconds_left=-18), Cause.TIME_LIMIT, TIMEOUT),
        (StepEnd(OK, messages=[STEP_OUT_OF_TIME], seconds_left=-18), Cause.TIME_LIMIT, TIMEOUT),
        (StepEnd(C143, seconds_left=-18), Cause.TIME_LIMIT, TIMEOUT),
        (StepEnd(C143, seconds_left=LEFT), Cause.APPLICATION, None),
        (StepEnd(C143), Cause.APPLICATION, None),
        (StepEnd(SEVEN, seconds_left=-18), Cause.APPLICATION, None),
        (StepEnd(KILLED, forced=True, hang="no progress", seconds_left=-1), Cause.HANG, None),
        # whatever ends an allocation moves its known end
        (StepEnd(C143, seconds_left=0, ending=BY_USER), Cause.CANCELLED, BY_USER),
        (StepEnd(KILLED, forced=True, time_up=True, ending=BY_USER), Cause.CANCELLED, BY_USER),
        (StepEnd(C143, seconds_left=0, ending=NODE_LOST), Cause.NODE_DOWN, NODE_LOST),
        # nodes
        (StepEnd(C143, messages=[NODE_FAILED, STEP_CANCELLED], down=[DEAD]), Cause.NODE_DOWN, None),
        (StepEnd(SEVEN, messages=[NODE_FAILED, TASK_EXIT]), Cause.APPLICATION, None),
        (StepEnd(C143, ending=NODE_LOST), Cause.NODE_DOWN, NODE_LOST),
        (StepEnd(KILLED, forced=True, down=[DEAD], ending=BY_USER), Cause.NODE_DOWN, BY_USER),
        # memory
        (StepEnd(KILLED, memory=["n2: kills rose"]), Cause.OUT_OF_MEMORY, None),
        (StepEnd(KILLED, messages=[NO_MEMORY, STEP_CANCELLED]), Cause.OUT_OF_MEMORY, None),
        (StepEnd(KILLED, messages=[NO_MEMORY], down=[FULL]), Cause.STORAGE_FULL, None),
        # what could not be started
        (StepEnd(ExitStatus(2), messages=[TASK_EXIT, NO_PROGRAM]), Cause.LAUNCH, None),
        (StepEnd(None, launch_error="no such launcher", ending=BY_USER), Cause.CANCELLED, BY_USER),
        # what we ended ourselves: tasks that failed then are our doing
        (
            StepEnd(KILLED, forced=True, messages=[STEP_CANCELLED, TASK_KILLED]),
            Cause.APPLICATION,
            None,
        ),
        (StepEnd(SEVEN, storage="/p: No space left"), Cause.STORAGE_FULL, (Cause.STORAGE_FULL, "")),
    ],
)
def test_launcher_and_manager_tell_more_than_the_exit_code(
    end: StepEnd, cause: Cause, final: Optional[tuple[Cause, str]]
) -> None:
    """Lesson B1: 143 is "wall time" only when the known end, the manager or the launcher says so."""
    verdict = judge(end, FINAL, TIME)
    assert verdict.cause is cause
    assert verdict.final is (final[0] if final else None)


def test_weaker_evidence_is_kept_beside_the_cause() -> None:
    end = StepEnd(
        C143,
        down=[DEAD],
        messages=[STEP_CANCELLED, TERMINATED],
        memory=["n2: kills rose"],
        notes=["n1: /dev/shm: 0 of 10 bytes are free"],
    )
    assert list(judge(end, FINAL, TIME).evidence) == [
        "n3: connection closed (by resource manager)",
        STEP_CANCELLED.text,
        "n2: kills rose",
        TERMINATED.text,
        "exit code 143 (that of SIGTERM)",
        "n1: /dev/shm: 0 of 10 bytes are free",
    ]


def test_the_failed_task_is_told_before_what_became_of_the_others() -> None:
    end = StepEnd(C143, messages=[STEP_CANCELLED, TASK_EXIT, TERMINATED])
    assert judge(end, FINAL, TIME).short() == f"application error: {TASK_EXIT.text}"


def test_a_thousand_tasks_that_say_the_same_are_not_a_thousand_lines() -> None:
    tasks = [said(Said.TASK_FAILED, f"n{n}: task {n}: Killed") for n in range(1000)]
    lines = judge(StepEnd(KILLED, messages=tasks), FINAL, TIME).evidence
    assert lines[2:] == [tasks[2].text, "and 997 more like it", "ended by signal 9 (SIGKILL)"]


@pytest.mark.parametrize(
    ("status", "messages", "answer"),
    [
        (KILLED, [], True),
        (ExitStatus(137), [], True),
        (C143, [TASK_KILLED, STEP_CANCELLED], True),
        (C143, [TERMINATED], False),
        (SEVEN, [], False),
        (None, [], False),
    ],
)
def test_a_kill_is_seen_in_the_status_or_the_messages(
    status: Optional[ExitStatus], messages: list[StepMessage], answer: bool
) -> None:
    assert killed(status, messages) is answer


def test_an_unknown_code_above_128_is_no_signal() -> None:
    assert judge(StepEnd(ExitStatus(255)), FINAL, TIME).evidence == ["exit code 255"]
