# SPDX-License-Identifier: BSD-3-Clause
"""The run loop on a scripted cluster: what is launched where, when it stops, with which code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from scripted_cluster import Cluster, Step
from scripted_job import NODES, Job
from scrjob.errors import ConfigError, NotInAllocationError, ScrError
from scrjob.list_down_nodes import examine_nodes


def test_a_program_that_succeeds_is_run_once(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    assert job.run() == 0
    assert [launch[0] for launch in job.cluster.launches] == [["./app"]]
    assert job.causes() == ["success"]


def test_a_dead_node_is_left_out_of_the_next_run(tmp_path: Path) -> None:
    """Lessons B2, B7: both lists reach the launcher, and the death is noticed while the step runs."""
    death = Step(None, at={5: lambda c: c.kill_node("n2")})
    job = Job(tmp_path, [death, Step()])
    assert job.run(SCR_RUNS="3") == 0
    assert job.cluster.launches[1][1:] == (["n1", "n3", "n4", "n5"], ["n2"])
    assert job.causes() == ["node down", "success"]
    assert job.cluster.kills == 1
    first = job.state()["runs"][0]
    assert first["ended"] - first["started"] < 5 + 3
    assert job.state()["bad_nodes"]["n2"]["reason"] == "connection closed"


def test_a_dead_spare_does_not_end_the_run(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(at={5: lambda c: c.kill_node("n5")})])
    assert job.run() == 0
    assert job.cluster.kills == 0


def test_a_node_that_went_silent_is_found_after_the_step_ended(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5, 1, at={4: lambda c: c.silent.add("n3")}), Step()])
    assert job.run(SCR_RUNS="2") == 0
    assert job.causes() == ["node down", "success"]
    assert job.cluster.launches[1][2] == ["n3"]


def test_too_few_nodes_give_69(tmp_path: Path) -> None:
    def two_die(cluster: Cluster) -> None:
        cluster.kill_node("n1")
        cluster.kill_node("n2")

    job = Job(tmp_path, [Step(None, at={5: two_die})])
    assert job.run(SCR_RUNS="-1") == 69
    assert any("healthy nodes: 3, needed: 4 (by SCR_MIN_NODES" in line for line in job.told)
    assert len(job.cluster.launches) == 1


@pytest.mark.parametrize("code", [7, -11])
def test_the_programs_own_failure_is_the_exit_code(tmp_path: Path, code: int) -> None:
    """Lesson A1."""
    job = Job(tmp_path, [Step(5, code)])
    assert job.run() == (code if code > 0 else 128 - code)


def test_three_runs_that_fail_with_7_give_7(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5, 7)] * 3)
    assert job.run(SCR_RUNS="3") == 7
    assert len(job.cluster.launches) == 3


def test_a_program_that_fails_at_once_again_and_again_gives_93(tmp_path: Path) -> None:
    """Lesson B11."""
    job = Job(tmp_path, [Step(5, 7)] * 9)
    assert job.run(SCR_RUNS="-1") == 93
    assert len(job.cluster.launches) == 3


def test_new_datasets_count_as_progress(tmp_path: Path) -> None:
    def makes(number: int) -> Step:
        return Step(90, 7, at={80: lambda c: c.dataset(number)})

    job = Job(tmp_path, [makes(1), makes(2), makes(3), makes(4), Step()])
    assert job.run(SCR_RUNS="-1") == 0
    assert len(job.cluster.launches) == 5


def test_a_program_without_datasets_that_works_for_long_is_not_given_up(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(4000, 7)] * 5 + [Step()])
    assert job.run(SCR_RUNS="-1") == 0


def test_lost_nodes_are_not_the_programs_lack_of_progress(tmp_path: Path) -> None:
    deaths = [Step(None, at={1: lambda c, n=n: c.kill_node(n)}) for n in ("n1", "n2", "n3")]
    job = Job(tmp_path, [*deaths, Step()], wanted=2)
    assert job.run(SCR_RUNS="-1", SCR_MIN_NODES="2") == 0


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_lets_the_program_stop_and_saves(tmp_path: Path, number: str, code: int) -> None:
    """Lesson A13."""
    received = signal.Signals[number]
    step = Step(None, at={5: lambda c: c.send(received)}, ends_on_halt=True)
    job = Job(tmp_path, [step])
    assert job.run(SCR_RUNS="3") == code
    assert any("up to 60 s" in line for line in job.told)
    assert any("^C again" in line for line in job.told) == (number == "SIGINT")
    assert job.cluster.kills == 0
    assert job.cluster.halt_reason() is None  # our own condition is taken back


def test_a_program_that_ignores_the_halt_is_ended_after_the_grace(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(None, at={5: lambda c: c.send(signal.SIGTERM)})])
    assert job.run(SCR_HALT_GRACE="7") == 75
    assert job.cluster.kills == 1
    assert 12 <= job.cluster.clock.monotonic() < 14


def test_a_second_interrupt_stops_now(tmp_path: Path) -> None:
    step = Step(None, at={5: lambda c: c.send(signal.SIGINT), 6: lambda c: c.send(signal.SIGINT)})
    job = Job(tmp_path, [step])
    assert job.run() == 130
    assert job.cluster.clock.monotonic() < 8


def test_the_user_halts_the_job(tmp_path: Path) -> None:
    step = Step(None, at={5: lambda c: c.halt_with("JOB_HALTED")}, ends_on_halt=True)
    job = Job(tmp_path, [step, Step()])
    assert job.run(SCR_RUNS="3") == 0
    assert job.causes() == ["halt condition"]
    assert job.cluster.halt_reason() == "JOB_HALTED"  # a user's word stays


def test_the_end_of_the_allocation_stops_the_program_in_time(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(None, ends_on_halt=True)])
    job.cluster.end = int(job.cluster.clock.now()) + 600
    assert job.run(SCR_RUNS="3") == 75
    assert job.causes() == ["out of time"]
    assert 600 - 60 - 16 <= job.cluster.clock.monotonic() <= 600 - 60 + 16
    assert any("to stop, up to 30 s" in line for line in job.told)  # not the 60 s of a signal


def test_a_halt_that_was_there_before_is_told_with_its_remedy(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    job.cluster.halt_with("JOB_HALTED")
    assert job.run() == 0
    assert job.cluster.launches == []
    assert f"(to run again: scr_halt -r {job.cluster.prefix})" in job.told[-1]


def test_no_run_is_started_shortly_before_the_end(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    job.cluster.end = int(job.cluster.clock.now()) + 100
    assert job.run(SCR_RESERVE_SECONDS="120") == 75
    assert job.cluster.launches == []


def test_a_hang_is_ended_and_relaunched(tmp_path: Path) -> None:
    hung = Step(None, at={5: lambda c: c.dataset(1)})
    job = Job(tmp_path, [hung, Step()])
    environ = {"SCR_WATCHDOG": "1", "SCR_WATCHDOG_TIMEOUT": "20", "SCR_RUNS": "2"}
    assert job.run(**environ) == 0
    assert job.causes() == ["hang", "success"]
    first = job.state()["runs"][0]
    assert 25 <= first["ended"] - first["started"] <= 28


def test_a_slow_start_is_no_hang(tmp_path: Path) -> None:
    """Lesson A10."""
    job = Job(tmp_path, [Step(300, at={200: lambda c: c.dataset(1)})])
    environ = {"SCR_WATCHDOG": "1", "SCR_WATCHDOG_TIMEOUT": "120"}
    assert job.run(**environ) == 0


def test_a_launcher_that_uses_an_avoided_node_is_stopped(tmp_path: Path) -> None:
    """Lesson B2."""
    death = Step(None, at={5: lambda c: (c.kill_node("n2"), setattr(c, "uses_avoided", True))})
    job = Job(tmp_path, [death, Step()])
    with pytest.raises(ScrError, match="n2"):
        job.run(SCR_RUNS="2")
    assert job.state()["phase"] == "done"


def test_the_program_gets_what_it_needs_to_find_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    job.cluster.end = 2_000_000_000
    assert job.run() == 0
    environ = job.cluster.environs[0]
    assert environ["SCR_JOB_ID"] == "42"
    assert environ["SCR_USER_NAME"] == "alice"
    assert environ["SCR_PREFIX"] == str(tmp_path)
    assert environ["SCR_END_TIME"] == "2000000000"


def test_disabled_scr_passes_through(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5, 9)])
    assert job.run(SCR_ENABLE="0") == 9
    assert job.cluster.launches == [(["./app"], None, None)]
    assert list((tmp_path / ".scr").iterdir()) == []


def test_a_signal_ends_a_step_that_is_passed_through(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(None, at={5: lambda c: c.send(signal.SIGTERM)})])
    assert job.run(SCR_ENABLE="0") == 137
    assert job.cluster.kills == 1


def test_a_lost_supervisor_is_continued(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def dies(cluster: Cluster) -> None:
        raise Killed

    job = Job(tmp_path, [Step(None, at={5: dies})])
    with pytest.raises(Killed):
        job.run(SCR_RUNS="1")
    assert job.state()["phase"] == "running"
    again = Job(tmp_path, [Step()])
    assert again.run(SCR_RUNS="1") == 0
    assert again.cluster.orphans == ["step-record"]
    assert again.causes() == ["supervisor lost", "success"]


def test_bad_nodes_are_remembered_by_the_next_supervisor(tmp_path: Path) -> None:
    death = Step(None, at={5: lambda c: c.kill_node("n2")})
    job = Job(tmp_path, [death])
    assert job.run(SCR_RUNS="1") == 137
    again = Job(tmp_path, [Step()])
    assert again.run() == 0
    assert again.cluster.launches[0][2] == ["n2"]


def test_a_missing_launcher_is_told_and_ends_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path, [])
    assert job.run() == 1
    assert job.causes() == ["launch failed"]


def test_no_nodes_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    job.cluster.nodes = []
    with pytest.raises(NotInAllocationError, match="no allocation"):
        job.run()


def test_a_test_that_fails_most_nodes_at_the_start_is_an_error(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    job.cluster.silent.update(NODES[:4])
    with pytest.raises(ConfigError, match="node test echo failed 4 of 5 nodes"):
        job.run()


def test_the_state_of_a_live_supervisor_is_refused(tmp_path: Path) -> None:
    inner: list[str] = []

    def second(cluster: Cluster) -> None:
        other = Job(tmp_path, [Step()])
        with pytest.raises(ScrError, match="supervised already"):
            other.run()
        inner.append("refused")

    job = Job(tmp_path, [Step(at={5: second})])
    assert job.run() == 0
    assert inner == ["refused"]


def test_the_report_accounts_for_the_time(tmp_path: Path) -> None:
    """Lesson B14."""
    death = Step(None, at={60: lambda c: c.dataset(1), 100: lambda c: c.kill_node("n2")})
    job = Job(tmp_path, [death, Step(50)])
    assert job.run(SCR_RUNS="2") == 0
    report = json.loads((tmp_path / ".scr" / "scrjob.42" / "report.json").read_text())
    time = report["time"]
    assert time["lost"]["node down"] == pytest.approx(40, abs=1.5)
    assert time["computing"] == pytest.approx(110, abs=2)
    assert time["checkpointing"] is None
    assert any("lost 40" in line for line in job.told)


def stop_file(cluster: Cluster) -> Path:
    return cluster.prefix / ".scr" / "scrjob.42" / "stop-now"


def test_a_request_to_stop_ends_the_step_at_once(tmp_path: Path) -> None:
    """Lesson A14."""
    job = Job(tmp_path, [Step(None, at={5: lambda c: stop_file(c).touch()})])
    assert job.run(SCR_RUNS="3") == 0
    assert job.causes() == ["halt condition"]
    assert not stop_file(job.cluster).exists()


def test_a_request_to_stop_that_came_too_late_is_forgotten(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step(5)])
    stop_file(job.cluster).parent.mkdir(parents=True)
    stop_file(job.cluster).touch()
    assert job.run() == 0
    assert job.causes() == ["success"]


def test_a_program_stopped_by_a_counter_was_halted(tmp_path: Path) -> None:
    """It ends as every finished program does; the counter tells that it was stopped."""

    def counted_down(cluster: Cluster) -> None:
        cluster.halt_with("SCR_FINALIZE_CALLED")
        cluster.halt_with(0, "CheckpointsLeft")

    job = Job(tmp_path, [Step(5, at={4: counted_down})])
    assert job.run() == 0
    assert job.causes() == ["halt condition"]
    assert job.state()["runs"][0]["evidence"][0] == "NO_CHECKPOINTS_LEFT"


def test_a_wrong_list_of_excluded_nodes_is_an_error(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    with pytest.raises(ConfigError, match="SCR_EXCLUDE_NODES"):
        job.run(SCR_EXCLUDE_NODES="n[1")
    assert job.cluster.launches == []


def test_a_halt_file_that_cannot_be_read_is_no_halt(tmp_path: Path) -> None:
    job = Job(tmp_path, [Step()])
    (tmp_path / ".scr" / "halt.scr").mkdir()
    with pytest.raises(ConfigError, match=r"halt\.scr: .*cannot be known"):
        job.run()
    assert job.cluster.launches == []


def test_nodes_are_not_tested_twice_between_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once before the first run, and once after each that failed, which says enough for the next."""
    rounds: list[list[str]] = []

    def examine(jobenv: Any, nodes: list[str]) -> Any:
        rounds.append(nodes)
        return examine_nodes(jobenv, nodes)

    monkeypatch.setattr("scrjob.supervisor.loop.examine_nodes", examine)
    job = Job(tmp_path, [Step(7, 1), Step(7, 1), Step(7)])
    assert job.run(SCR_RUNS="3") == 0
    assert len(rounds) == 3
