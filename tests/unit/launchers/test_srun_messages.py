# SPDX-License-Identifier: BSD-3-Clause
"""Messages of a real srun 22.05, and forms of messages that could not be had here."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrjob.launchers._srun_messages import Transcript, parse_line, task_status
from scrjob.model import ExitStatus, Said, StepMessage

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "srun" / "22.05.8"
WHEN = 1_000_000_000.0
Heard = tuple[Said, Optional[str]]

REAL: dict[str, list[Heard]] = {
    "cancelled": [
        (Said.CANCELLED, None),
        (Said.TASK_FAILED, "n2"),
        (Said.TASK_FAILED, "n1"),
    ],
    "ended-by-srun": [
        (Said.TASK_FAILED, "n2"),
        (Said.CANCELLED, None),
        (Said.TASK_FAILED, "n1"),
    ],
    "excluded-node": [(Said.NOT_STARTED, None)],
    "exit-code": [(Said.TASK_FAILED, "n2")],
    "exit-code-many": [(Said.TASK_FAILED, "n1"), (Said.TASK_FAILED, "n2")],
    "first-exit": [
        (Said.TASK_FAILED, "n2"),
        (Said.CANCELLED, None),
        (Said.TASK_FAILED, "n1"),
    ],
    "killed": [(Said.TASK_FAILED, "n1")],
    "no-such-mpi": [(Said.NOT_STARTED, None)],
    "no-such-node": [(Said.NOT_STARTED, None)],
    "no-such-program": [(Said.TASK_FAILED, "n1"), (Said.NOT_STARTED, "n1")],
    "node-down": [(Said.NOT_STARTED, None)],
    "node-failure": [(Said.NODE_FAILED, "n2"), (Said.TASK_FAILED, "n1")],
    "not-a-number": [(Said.NOT_STARTED, None)],
    "not-executable": [(Said.NOT_STARTED, "n1"), (Said.TASK_FAILED, "n1")],
    "segmentation-fault": [(Said.TASK_FAILED, "n2")],
    "srun-terminated": [
        (Said.CANCELLED, None),
        (Said.TASK_FAILED, "n1"),
        (Said.TASK_FAILED, "n2"),
    ],
    "terminated": [
        (Said.CANCELLED, None),
        (Said.TASK_FAILED, "n1"),
        (Said.TASK_FAILED, "n2"),
    ],
    "too-many-nodes": [(Said.NOT_STARTED, None)],
    "too-many-tasks": [(Said.NOT_STARTED, None)],
    "unknown-option": [(Said.NOT_STARTED, None)],
}


def test_every_recorded_case_is_here() -> None:
    assert sorted(REAL) == sorted(path.name for path in RECORDED.iterdir())


@pytest.mark.parametrize("case", REAL)
def test_what_a_real_srun_said(case: str) -> None:
    lines = RECORDED.joinpath(case, "stderr").read_bytes().splitlines()
    said = [message for line in lines for message in parse_line(line, WHEN)]
    assert [(message.said, message.node) for message in said] == REAL[case]


def transcript(*lines: bytes) -> Transcript:
    made = Transcript()
    for line in lines:
        made.hear(line, WHEN)
    return made


@pytest.mark.parametrize("case", REAL)
def test_a_cancellation_is_told_if_it_is_not_sruns_own(case: str) -> None:
    lines = RECORDED.joinpath(case, "stderr").read_bytes().splitlines()
    said = [message.said for message in transcript(*lines).messages()]
    assert (Said.CANCELLED in said) is (case in {"cancelled", "terminated"})
    others = [what for what, _ in REAL[case] if what is not Said.CANCELLED]
    assert [what for what in said if what is not Said.CANCELLED] == others


CANCELLED = b"slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T07:43:16 ***"
KILLS = b"srun: launch/slurm: _step_signal: Terminating StepId=7.0"
ABORTED = b"srun: Job step aborted: Waiting up to 4 seconds for job step to finish."


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([CANCELLED], True),
        ([CANCELLED, KILLS], True),
        ([KILLS, CANCELLED], False),
        ([ABORTED, KILLS, CANCELLED], True),
        ([KILLS, CANCELLED, ABORTED], True),
        ([b"srun: First task exited 60s ago", KILLS, CANCELLED, ABORTED], False),
        ([CANCELLED, ABORTED, b"srun: forcing job termination"], False),
        ([ABORTED], True),
        ([ABORTED, KILLS], True),
        ([KILLS, ABORTED], False),
        ([ABORTED, b"srun: forcing job termination"], False),
    ],
)
def test_the_lines_come_in_any_order(lines: list[bytes], told: bool) -> None:
    assert bool(transcript(*lines).messages()) is told


KILLED = b"srun: error: n1: task 0: Killed"
NODE_FAILED = b"srun: error: Node failure on n2"
PREEMPTED = CANCELLED[: -len(b"***")] + b"DUE TO PREEMPTION ***"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([ABORTED, KILLED], [Said.CANCELLED, Said.TASK_FAILED]),
        ([KILLED, ABORTED], [Said.TASK_FAILED, Said.CANCELLED]),
        ([ABORTED, KILLED, CANCELLED], [Said.TASK_FAILED, Said.CANCELLED]),
        ([ABORTED, NODE_FAILED, KILLED], [Said.NODE_FAILED, Said.TASK_FAILED]),
        ([ABORTED, PREEMPTED, KILLED], [Said.PREEMPTED, Said.TASK_FAILED]),
    ],
)
def test_what_srun_says_itself_is_told_if_nothing_else_says_why(
    lines: list[bytes], told: list[Said]
) -> None:
    """Under load the line of slurmstepd was lost in 2 of 60 steps (22.05)."""
    assert [message.said for message in transcript(*lines).messages()] == told


def test_what_srun_says_itself_is_known_by_its_speaker() -> None:
    (message,) = transcript(b"45 %|" + ABORTED + b"\r").messages()
    assert message.text == ABORTED.decode()
    assert transcript(b"my-" + ABORTED).messages() == []


def test_our_own_cancellation_is_no_news() -> None:
    made = transcript(ABORTED, CANCELLED)
    made.is_ended_by_us = True
    assert made.messages() == []


def test_that_srun_gives_up_is_noted() -> None:
    assert not transcript(CANCELLED, ABORTED).has_given_up
    assert transcript(b"srun: error: Timed out waiting for job step to complete").has_given_up


def test_messages_without_end_do_not_fill_the_memory() -> None:
    line = b"srun: error: n[1-6000]: tasks 0-5999: Killed"
    assert len(transcript(line, line, line).messages()) == 10_000


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        (
            "srun: error: Node failure on n[2-3]",
            [(Said.NODE_FAILED, "n2"), (Said.NODE_FAILED, "n3")],
        ),
        (
            "srun: error: Task launch for StepId=7.0 failed on node n2: Communication connection failure",
            [(Said.NODE_FAILED, "n2")],
        ),
        (
            "srun: error: Task launch for StepId=7.0 failed on node n2: Invalid job credential",
            [(Said.NOT_STARTED, "n2")],
        ),
        (
            "srun: error: slurm_receive_msgs: [[n2]:6818] failed: Socket timed out on send/recv operation",
            [(Said.NODE_FAILED, "n2")],
        ),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T05:41:10 DUE TO TIME LIMIT ***",
            [(Said.TIME_LIMIT, None)],
        ),
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-23T05:41:10 DUE TO TIME LIMIT ***",
            [(Said.TIME_LIMIT, None)],
        ),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T05:41:10 DUE TO PREEMPTION ***",
            [(Said.PREEMPTED, None)],
        ),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T05:41:10 DUE TO NODE FAILURE, SEE",
            [(Said.NODE_FAILED, None)],
        ),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T05:41:10 DUE TO JOB REQUEUE ***",
            [(Said.CANCELLED, None)],
        ),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 UNCORRECTABLE MEMORY ERROR AT 2026-11-23T05:41:10 ***",
            [(Said.NODE_FAILED, "n1")],
        ),
        (
            "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes",
            [(Said.OUT_OF_MEMORY, "n1")],
        ),
        (
            "slurmstepd: error: Detected 2 oom_kill events in StepId=7.0. Some of the step tasks",
            [(Said.OUT_OF_MEMORY, None)],
        ),
        ("srun: error: n1: task 0: Out Of Memory", [(Said.OUT_OF_MEMORY, "n1")]),
        ("srun: error: n1: tasks 0-3,5: Killed", [(Said.TASK_FAILED, "n1")]),
        (
            "srun: error: n[1-2]: tasks [0-7]: Aborted (core dumped)",
            [(Said.TASK_FAILED, "n1"), (Said.TASK_FAILED, "n2")],
        ),
        ("3: slurmstepd: error: execve(): prog: Permission denied", [(Said.NOT_STARTED, None)]),
        ("45 % donesrun: error: Node failure on n2", []),  # part of a word
        ("45 %|srun: error: Node failure on n2", [(Said.NODE_FAILED, "n2")]),
        ("srun: error: Node failure on n[2-", [(Said.NODE_FAILED, None)]),
        ("error: Node failure on n2", []),
        ("my-srun: error: Node failure on n2", []),
        ("srun: Job step aborted: Waiting up to 32 seconds for job step to finish.", []),
        ("srun: Job 7 step creation temporarily disabled, retrying (Requested nodes are busy)", []),
        ("srun: StepId=7.4 task 0: running", []),
        (
            "srun: error: Unable to confirm allocation for job 7: Invalid job id",
            [(Said.NOT_STARTED, None)],
        ),
    ],
)
def test_a_message_of_srun(line: str, heard: list[Heard]) -> None:
    said = parse_line(line.encode(), WHEN)
    assert [(message.said, message.node) for message in said] == heard
    assert all(message.when == WHEN for message in said)


def test_the_text_is_the_message_in_one_line() -> None:
    (message,) = parse_line(b"12 %|srun: error: Node failure on n2\r", WHEN)
    assert message.text == "srun: error: Node failure on n2"


@pytest.mark.parametrize(
    ("said", "text", "status"),
    [
        (Said.TASK_FAILED, "srun: error: n2: task 1: Exited with exit code 7", ExitStatus(7)),
        (Said.TASK_FAILED, "srun: error: n2: task 1: Segmentation fault", ExitStatus(139, 11)),
        (Said.TASK_FAILED, "srun: error: n2: task 1: Aborted (core dumped)", ExitStatus(134, 6)),
        (Said.TASK_FAILED, "srun: error: n2: task 1: Getötet", None),
        (Said.CANCELLED, "slurmstepd: error: *** STEP 7.0: Killed", None),
    ],
)
def test_how_a_task_ended(said: Said, text: str, status: Optional[ExitStatus]) -> None:
    assert task_status(StepMessage(said, "n2", text, WHEN)) == status


@given(st.binary(max_size=200))
def test_any_bytes_are_no_message_or_some(junk: bytes) -> None:
    for line in (junk, b"srun: error: " + junk, b"slurmstepd-n1: error: *** " + junk):
        for message in parse_line(line, WHEN):
            assert "\n" not in message.text or b"\n" in line
