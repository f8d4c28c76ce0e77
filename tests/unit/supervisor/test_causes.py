# SPDX-License-Identifier: BSD-3-Clause
"""What the loop does about each cause, on a scripted cluster: go on or stop, with which code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from scripted_cluster import Cluster, Step
from scripted_job import Job
from scrjob.errors import CommandTimeoutError
from scrjob.model import Cause, Said
from scrjob.supervisor.condition import Conditions

CANCELLED = (Cause.CANCELLED, "job 42 was cancelled")
PREEMPTED = (Cause.PREEMPTED, "job 42 is pre-empted")
TIMEOUT = (Cause.TIME_LIMIT, "job 42 has reached its time limit")
NODE_LOST = (Cause.NODE_DOWN, "job 42 has lost a node")


def ends(why: tuple[Cause, str]) -> Any:
    return lambda cluster: setattr(cluster, "ends", why)


def out_of_memory(cluster: Cluster) -> None:
    cluster.run_out_of_memory("n2")


def scancel(cluster: Cluster) -> None:
    cluster.say(Said.CANCELLED, "STEP 42.0 CANCELLED")
    cluster.say(Said.TASK_FAILED, "n1: task 0: Killed", "n1")


def evidence(job: Job, run: int = 0) -> list[str]:
    return list(job.state()["runs"][run]["evidence"])


@pytest.mark.parametrize(
    ("why", "code"), [(CANCELLED, 130), (PREEMPTED, 75), (TIMEOUT, 75), (NODE_LOST, 69)]
)
def test_when_the_allocation_is_taken_away_nothing_is_launched_any_more(
    tmp_path: Path, why: tuple[Cause, str], code: int
) -> None:
    """Lesson B1: 143 each time, told apart by what the manager says."""
    job = Job(tmp_path, [Step(5, 143, at={4: ends(why)}), Step()])
    assert job.run(SCR_RUNS="-1") == code
    assert len(job.cluster.launches) == 1
    assert job.causes() == [why[0].value]
    assert evidence(job) == [why[1], "exit code 143 (that of SIGTERM)"]
    assert job.state()["bad_nodes"] == {}


def test_nodes_of_a_cancelled_job_that_do_not_answer_are_not_bad(tmp_path: Path) -> None:
    def cancelled(cluster: Cluster) -> None:
        cluster.ends = CANCELLED
        cluster.silent.update(["n1", "n2"])

    job = Job(tmp_path, [Step(5, 143, at={4: cancelled})])
    assert job.run(SCR_RUNS="-1") == 130
    assert job.state()["bad_nodes"] == {}


def test_143_with_time_left_is_the_programs_own(tmp_path: Path) -> None:
    """Lesson B1."""
    job = Job(tmp_path, [Step(5, 143), Step()])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["application error", "success"]


def test_a_kill_after_the_known_end_is_the_end(tmp_path: Path) -> None:
    """Lesson B1: the manager says nothing, the end was known."""
    job = Job(tmp_path, [Step(100, 143), Step()])
    job.cluster.end = int(job.cluster.clock.now()) + 100
    assert job.run(SCR_RUNS="-1", SCR_RESERVE_SECONDS="0.1", SCR_HALT_GRACE="60") == 75
    assert job.causes() == ["out of time"]


@pytest.mark.parametrize(
    ("number", "why", "code"),
    [("SIGTERM", CANCELLED, 130), ("SIGTERM", PREEMPTED, 75), ("SIGUSR1", TIMEOUT, 75)],
)
def test_the_manager_tells_why_we_got_a_signal(
    tmp_path: Path, number: str, why: tuple[Cause, str], code: int
) -> None:
    """Lesson A13."""

    def told(cluster: Cluster) -> None:
        cluster.ends = why
        cluster.send(signal.Signals[number])

    job = Job(tmp_path, [Step(None, at={5: told}, ends_on_halt=True)])
    assert job.run() == code
    assert job.causes() == [why[0].value]
    assert f"{number} received" in evidence(job)


def test_an_end_that_was_brought_forward_by_pre_emption(tmp_path: Path) -> None:
    """The program stops in time and in order, as at any end; the manager knows why it was earlier."""

    def pre_empted(cluster: Cluster) -> None:
        cluster.ends = PREEMPTED
        cluster.end = int(cluster.clock.now()) + 40

    job = Job(tmp_path, [Step(None, at={5: pre_empted}, ends_on_halt=True)])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run() == 75
    assert job.causes() == ["pre-empted"]
    assert evidence(job) == [PREEMPTED[1], "SCRJOB_TIME_LIMIT", "exit code 0"]


def test_the_end_is_asked_anew_when_the_launcher_speaks_of_cancelling(tmp_path: Path) -> None:
    """A grace of ten seconds is shorter than the time between two questions for the end."""

    def grace(cluster: Cluster) -> None:
        cluster.ends = PREEMPTED
        cluster.end = int(cluster.clock.now()) + 10
        cluster.say(Said.CANCELLED, "STEP 42.0 CANCELLED")

    job = Job(tmp_path, [Step(None, at={2: grace}, ends_on_halt=True)])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run() == 75
    assert job.cluster.clock.monotonic() < 5
    assert job.causes() == ["pre-empted"]


def test_an_end_that_is_near_leaves_half_of_the_time_to_save(tmp_path: Path) -> None:
    """Lesson B8: the administrator has shortened the allocation."""
    job = Job(tmp_path, [Step(None, at={2: lambda c: setattr(c, "end", c.clock.now() + 40)})])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run(SCR_HALT_GRACE="600") == 75
    assert job.cluster.kills == 1
    assert job.cluster.clock.now() <= job.cluster.end - 12


def test_an_end_that_comes_near_shortens_the_grace_that_a_signal_gave(tmp_path: Path) -> None:
    """Lesson B8: a job that is pre-empted gets its signal first, and the end is moved to soon."""

    def preempt(cluster: Cluster) -> None:
        cluster.send(signal.SIGUSR1)
        cluster.end = int(cluster.clock.now()) + 40

    job = Job(tmp_path, [Step(None, at={2: preempt})])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run(SCR_HALT_GRACE="60") == 75
    assert job.cluster.kills == 1
    assert job.cluster.clock.now() <= job.cluster.end - 12


def test_a_launch_that_fails_because_the_allocation_has_ended(tmp_path: Path) -> None:
    job = Job(tmp_path, [])
    job.cluster.ends = CANCELLED
    assert job.run(SCR_RUNS="-1") == 130
    assert evidence(job)[0] == CANCELLED[1]
    assert "no such launcher" in evidence(job)[1]


def test_a_cancelled_step_is_an_ended_run(tmp_path: Path) -> None:
    """Users cancel a step that hangs so that it is started again; it says nothing about the program."""
    job = Job(tmp_path, [Step(5, 137, at={4: scancel})] * 4 + [Step()])
    assert job.run(SCR_RUNS="-1") == 0
    assert job.causes() == ["cancelled"] * 4 + ["success"]
    assert evidence(job)[0] == "STEP 42.0 CANCELLED"


def test_a_steps_own_time_limit_ends_the_run_only(tmp_path: Path) -> None:
    limit = Step(5, 143, at={4: lambda c: c.say(Said.TIME_LIMIT, "STEP 42.0 DUE TO TIME LIMIT")})
    job = Job(tmp_path, [limit, Step()])
    job.cluster.end = int(job.cluster.clock.now()) + 7200
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["out of time", "success"]


class TestMemory:
    def test_a_node_that_ran_out_of_memory_is_named_and_used_again(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, -9, at={4: out_of_memory}), Step()])
        assert job.run(SCR_RUNS="2") == 0
        assert job.causes() == ["out of memory", "success"]
        assert evidence(job) == [
            "n2: kills for want of memory rose from 0 to 1 (memory.events of /job_42)",
            "ended by signal 9 (SIGKILL)",
        ]
        assert job.state()["bad_nodes"] == {}
        assert job.cluster.launches[1][1][:2] == ["n1", "n2"]

    def test_it_counts_as_a_failure_of_the_program(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, -9, at={4: out_of_memory})] * 5)
        assert job.run(SCR_RUNS="-1") == 93
        assert len(job.cluster.launches) == 3

    def test_the_last_run_gives_the_programs_code(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, -9, at={4: out_of_memory})])
        assert job.run() == 137

    def test_a_kill_without_a_counter_is_the_programs(self, tmp_path: Path) -> None:
        step = Step(5, -9, at={4: lambda c: c.conditions_read.wait(5)})
        job = Job(tmp_path, [step])
        assert job.run() == 137
        assert job.causes() == ["application error"]
        assert evidence(job)[-1] == "no counter of kills for want of memory rose"

    def test_after_a_death_nobody_asks_for_memory(self, tmp_path: Path) -> None:
        """Lesson B7: what is certain needs no further question before the relaunch."""

        def dies(cluster: Cluster) -> None:
            cluster.kill_node("n2")
            cluster.conditions_read.wait(5)
            cluster.conditions_read.clear()
            cluster.failing["ending"] = AssertionError("asked")

        def check(cluster: Cluster) -> None:
            del cluster.failing["ending"]

        job = Job(tmp_path, [Step(None, at={5: dies}), Step(at={1: check})])
        assert job.run(SCR_RUNS="2") == 0
        assert job.causes() == ["node down", "success"]


def node_failure(cluster: Cluster) -> None:
    cluster.say(Said.NODE_FAILED, "Node failure on n2", "n2")


def test_a_node_that_launcher_and_test_give_up_is_out(tmp_path: Path) -> None:
    def both(cluster: Cluster) -> None:
        node_failure(cluster)
        cluster.silent.add("n2")

    job = Job(tmp_path, [Step(5, 143, at={5: both}), Step()])
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["node down", "success"]
    assert job.cluster.launches[1][2] == ["n2"]
    assert "Node failure on n2" in evidence(job)


def test_a_launchers_word_alone_condemns_no_node(tmp_path: Path) -> None:
    """The program may print the same on stderr."""
    job = Job(tmp_path, [Step(5, 7, at={5: node_failure}), Step()])
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["application error", "success"]
    assert job.state()["bad_nodes"] == {}
    assert "Node failure on n2" in evidence(job)


def test_a_program_that_does_not_exist_is_told_as_such(tmp_path: Path) -> None:
    text = "execve(): ./app: No such file or directory"
    job = Job(tmp_path, [Step(1, 2, at={1: lambda c: c.say(Said.NOT_STARTED, text, "n1")})])
    assert job.run() == 2
    assert job.causes() == ["launch failed"]
    assert evidence(job)[0] == text


def test_a_full_prefix_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson B1: a full file system is no bad node; another run would fail on it too."""
    full = f"{tmp_path}: No space left on device"
    monkeypatch.setattr("scrjob.supervisor.evidence.full_storage", lambda _: full)
    job = Job(tmp_path, [Step(5, 7), Step()])
    assert job.run(SCR_RUNS="-1") == 7
    assert job.causes() == ["storage full"]
    assert job.state()["bad_nodes"] == {}
    assert any("make room there" in line for line in job.told)


def test_a_manager_that_does_not_say_is_no_reason_to_stop(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5, 143), Step()])
    job.cluster.failing["ending"] = CommandTimeoutError(["scontrol"], why="no answer")
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["application error", "success"]


def test_no_question_to_nodes_outlives_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold the allocation."""
    settled: list[str] = []
    monkeypatch.setattr(Conditions, "settle", lambda _: settled.append("settled"))
    assert Job(tmp_path, [Step()]).run() == 0
    assert settled == ["settled"]


def test_the_cause_is_in_the_log_the_state_and_the_summary(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5, 143, at={4: ends(PREEMPTED)})])
    assert job.run(SCR_RUNS="-1", SCR_LOG_ENABLE="1", SCR_LOG_SYSLOG_ENABLE="0") == 75
    run = job.state()["runs"][0]
    assert (run["cause"], run["final"]) == ("pre-empted", "pre-empted")
    log = (tmp_path / ".scr" / "log").read_text()
    assert 'note="run=1 cause=PREEMPTED job 42 is pre-empted' in log
    assert any("run 1: 5" in line and "pre-empted" in line for line in job.told)
    report = json.loads((tmp_path / ".scr" / "scrjob.42" / "report.json").read_text())
    assert report["time"]["runs"][0]["cause"] == "pre-empted"
