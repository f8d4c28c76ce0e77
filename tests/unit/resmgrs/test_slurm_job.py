# SPDX-License-Identifier: BSD-3-Clause
"""A job's row: the call, the parser over recorded and over hostile answers, why a job ends."""

from __future__ import annotations

import re
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrjob.errors import CommandError, NotInAllocationError, OutputParseError, ScrError
from scrjob.model import Cause
from scrjob.resmgrs.slurm_job import (
    ENDED,
    RUNNING,
    Job,
    build_show_job,
    node_names,
    parse_show_job,
)
from scrjob.testing.fakes import said
from slurmcases import CASES, result

ROW = "7|RUNNING|100|200|1:40|0|N/A|n[1-2]|None\n"


def job(case: str, job_id: Optional[str] = None, *, whole: bool = False) -> Job:
    if job_id is None:
        (asked,) = [word for word in CASES[case].argv if word.startswith("--jobs=")]
        job_id = asked.partition("=")[2]
    return parse_show_job(result(case), job_id, whole=whole)


def test_the_recorded_call_is_the_one_that_is_built() -> None:
    argv = build_show_job("999999")
    assert argv[0] == "squeue"
    assert argv[1:] == list(CASES["job-unknown"].argv)


def test_a_running_job() -> None:
    row = job("job-healthy")
    assert row.state == "RUNNING"
    assert row.is_running()
    assert row.limited
    assert row.start is not None
    assert row.end == row.start + 30 * 60
    assert (row.restarts, row.preempted, row.nodes, row.reason) == (0, None, "n[1-3]", "None")


def test_a_changed_limit_is_seen() -> None:
    """Lesson B8: the end may be moved while the job runs, or taken away."""
    longer = job("job-longer")
    assert longer.start is not None
    assert longer.end == longer.start + 2 * 3600
    unlimited = job("job-unlimited")
    assert (unlimited.end, unlimited.limited) == (None, False)


def test_a_node_that_died_is_no_more_in_the_list_of_a_no_kill_job() -> None:
    assert node_names(job("job-dead").nodes) == ["n1", "n3"]
    assert node_names(job("job-back").nodes) == ["n1", "n3"], "although it is idle again"


def test_of_an_array_the_task_is_taken() -> None:
    first = job("job-array", whole=False)
    assert first.job_id == "2"
    assert job("job-array", "3").job_id == "3"


def test_the_nodes_of_all_components_are_a_heterogeneous_jobs() -> None:
    assert job("job-het", whole=True).nodes == "n3,n4"
    assert job("job-het").nodes == "n3"


def test_a_forgotten_job_is_told_apart_from_a_silent_controller() -> None:
    with pytest.raises(NotInAllocationError, match="does not know job 999999"):
        job("job-unknown")
    with pytest.raises(CommandError, match="Unable to contact slurm controller"):
        job("job-no-controller")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "Traceback (most recent call last):\n",
        ROW.replace("7|", "8|"),
        ROW.replace("|n[1-2]", ""),
        ROW.replace("|0|", "|few|"),
        ROW.replace("7|", "x|"),
    ],
)
def test_what_is_no_table_is_an_error(text: str) -> None:
    with pytest.raises(OutputParseError):
        parse_show_job(said(["squeue"], text), "7", whole=False)


@given(st.text(), st.text(), st.integers(0, 2), st.booleans())
def test_any_answer_gives_a_job_or_our_error(out: str, err: str, code: int, whole: bool) -> None:
    try:
        row = parse_show_job(said(["squeue"], out, stderr=err, returncode=code), "7", whole=whole)
    except ScrError:
        return
    assert row.job_id == "7"


@given(
    st.text(alphabet=st.characters(exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
)
def test_a_reason_may_hold_separators(reason: str) -> None:
    row = parse_show_job(said(["squeue"], ROW.replace("None", reason)), "7", whole=False)
    assert row.reason == reason.strip()
    assert row.nodes == "n[1-2]"


@pytest.mark.parametrize(
    ("case", "restarts", "cause"),
    [
        ("job-healthy", 0, None),
        ("job-unlimited", 0, None),
        ("job-dead", 0, None),
        ("job-restarted", 1, None),
        ("job-restarted-after-preemption", 1, None),
        ("job-preempting", 0, Cause.PREEMPTED),
        ("job-completing-preempted", 0, Cause.PREEMPTED),
        ("job-preempted", 0, Cause.PREEMPTED),
        ("job-completing-requeued", 0, Cause.PREEMPTED),
        ("job-requeued", 0, Cause.PREEMPTED),
        ("job-restarted", 0, Cause.PREEMPTED),
        ("job-completing-timeout", 0, Cause.TIME_LIMIT),
        ("job-timeout", 0, Cause.TIME_LIMIT),
        ("job-completing-node-fail", 0, Cause.NODE_DOWN),
        ("job-node-fail", 0, Cause.NODE_DOWN),
        ("job-completing-cancelled", 0, Cause.CANCELLED),
        ("job-cancelled", 0, Cause.CANCELLED),
    ],
)
def test_why_a_job_ends(case: str, restarts: int, cause: Optional[Cause]) -> None:
    ending = job(case).ending(restarts)
    assert (ending and ending[0]) == cause
    if ending:
        assert re.match(r"Slurm: job \d+ is [A-Z_]+", ending[1])
        assert len(ending[1].splitlines()) == 1


def test_the_evidence_is_slurms_word() -> None:
    ending = job("job-completing-timeout").ending(0)
    assert ending is not None
    assert ending[1] == "Slurm: job 1 is COMPLETING, reason TimeLimit"
    ending = job("job-completing-requeued").ending(0)
    assert ending is not None
    assert ending[1] == "Slurm: job 4 is COMPLETING, requeued (restart 1)"


def test_what_keeps_a_job_from_ending_with_a_node_is_named() -> None:
    ending = job("job-node-fail").ending(0)
    assert ending is not None
    assert ending[1].endswith("(a lost node ends a job that was started without --no-kill)")


@pytest.mark.parametrize("state", RUNNING)
def test_a_job_that_has_its_nodes_does_not_end(state: str) -> None:
    assert job("job-healthy")._replace(state=state).ending(0) is None


@pytest.mark.parametrize("state", sorted(ENDED))
def test_every_other_state_is_an_end(state: str) -> None:
    row = job("job-healthy")._replace(state=state)
    assert not row.is_running()
    cause, said = row.ending(0) or (None, "")
    assert cause is ENDED[state]
    assert said.partition(" (")[0] == f"Slurm: job {row.job_id} is {state}"


def test_an_unknown_state_is_neither() -> None:
    row = job("job-healthy")._replace(state="SHINY")
    with pytest.raises(OutputParseError, match="unknown job state 'SHINY'"):
        row.ending(0)
    with pytest.raises(OutputParseError, match="unknown job state 'SHINY'"):
        row.is_running()


def test_names_come_in_slurms_order_once() -> None:
    assert node_names("n10,n[08-09],r1n2,n10") == ["n10", "n08", "n09", "r1n2"]
