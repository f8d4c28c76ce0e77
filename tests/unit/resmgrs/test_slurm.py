# SPDX-License-Identifier: BSD-3-Clause
"""Slurm as a resource manager, on recorded answers: what is asked, and what is made of it."""

from __future__ import annotations

import logging
from typing import Any, Mapping, Optional, Sequence

import pytest

from scrjob.errors import (
    CommandError,
    CommandNotFoundError,
    ConfigError,
    NotInAllocationError,
    OutputParseError,
)
from scrjob.localrm.directory import DIR_VARIABLE
from scrjob.model import Cause
from scrjob.resmgrs.auto import choose_resource_manager
from scrjob.resmgrs.slurm import BOOT_LIMIT_S, SLURM
from scrjob.testing.fakes import FakeClock, FakeRunner, fake_context, hanging, missing, said
from slurmcases import result

INSIDE = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-3]"}


def manager(
    scene: str = "healthy",
    environ: Optional[Mapping[str, str]] = None,
    *,
    job: Any = None,
    nodes: Any = None,
    clock: Any = None,
    hostname: str = "login1",
) -> SLURM:
    """Return a manager of job 1 on n[1-3] for which things are as in the recorded scene."""

    def script(argv: Sequence[str]) -> Any:
        given, tool = (job, "job") if argv[0] == "squeue" else (nodes, "nodes")
        answer = given if given is not None else result(f"{tool}-{scene}")
        return answer(argv) if callable(answer) else answer

    made = SLURM()
    made.bind(
        fake_context(
            INSIDE if environ is None else environ,
            runner=FakeRunner(script),
            clock=clock,
            hostname=hostname,
        )
    )
    return made


def answers(*cases: str) -> Any:
    left = iter(cases)
    return lambda _: result(next(left))


def calls(of: SLURM) -> list[list[str]]:
    runner: Any = of.context.runner
    found: list[list[str]] = runner.calls
    return found


# --- where are we ---


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_JOBID"])
def test_it_is_detected_at_run_time_by_the_job_id(name: str) -> None:
    """Lesson A18."""
    context = fake_context({name: "12", "SLURM_NODELIST": "n1"})
    found = choose_resource_manager(context)
    assert isinstance(found, SLURM)
    assert (found.name, found.job_id()) == ("SLURM", "12")
    assert SLURM.detect({name: ""}) is None


def test_an_embedded_allocation_inside_a_job_goes_first() -> None:
    context = fake_context({**INSIDE, DIR_VARIABLE: "/somewhere"})
    assert choose_resource_manager(context).name != "SLURM"


def test_outside_of_a_job_nothing_is_asked() -> None:
    outside = manager(environ={})
    assert (outside.job_id(), outside.job_nodes(), outside.down_nodes()) == (None, [], {})
    assert outside.watch_nodes() == ({}, {})
    assert (outside.end_time(), outside.start_time(), outside.ending()) == (0, None, None)
    assert (outside.pinned_nodes(), outside.restart_count()) == ([], 0)
    outside.prerun()
    assert calls(outside) == []


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        ({"SLURM_JOB_NODELIST": "n[08-10],r1n2", "SLURM_NODELIST": "x"}, "n08 n09 n10 r1n2"),
        ({"SLURM_NODELIST": "n2,n1"}, "n2 n1"),
        (
            {
                "SLURM_JOB_NODELIST": "n3",
                "SLURM_HET_SIZE": "2",
                "SLURM_JOB_NODELIST_HET_GROUP_0": "n3",
                "SLURM_JOB_NODELIST_HET_GROUP_1": "n[1,4]",
            },
            "n3 n1 n4",
        ),
        (
            {
                "SLURM_PACK_SIZE": "2",
                "SLURM_JOB_NODELIST_PACK_GROUP_0": "n3",
                "SLURM_JOB_NODELIST_PACK_GROUP_1": "n4",
            },
            "n3 n4",
        ),
        ({"SLURM_JOB_NODELIST": "n5", "SLURM_HET_SIZE": "two"}, "n5"),
    ],
)
def test_the_nodes_come_in_slurms_order(environ: dict[str, str], nodes: str) -> None:
    assert manager(environ={"SLURM_JOB_ID": "1", **environ}).job_nodes() == nodes.split()


def test_a_job_without_a_list_of_nodes_is_an_error() -> None:
    with pytest.raises(NotInAllocationError, match="SLURM_JOB_NODELIST is not set in job 1"):
        manager(environ={"SLURM_JOB_ID": "1"}).job_nodes()


@pytest.mark.parametrize(
    ("environ", "hostname", "pinned"),
    [
        ({}, "login1", []),
        ({"SLURMD_NODENAME": "n1"}, "ip-10-0-0-7", ["n1"]),
        ({"SLURMD_NODENAME": "elsewhere"}, "n1", []),
        ({}, "n2", ["n2"]),
        ({}, "n2.site.org", ["n2"]),
    ],
)
def test_the_host_on_which_we_run_is_pinned_if_it_is_a_node(
    environ: dict[str, str], hostname: str, pinned: list[str]
) -> None:
    assert manager(environ={**INSIDE, **environ}, hostname=hostname).pinned_nodes() == pinned


def test_a_requeued_job_keeps_its_id_and_counts() -> None:
    assert manager(environ={**INSIDE, "SLURM_RESTART_COUNT": "2"}).restart_count() == 2
    with pytest.raises(ConfigError, match="SLURM_RESTART_COUNT='many' is no number"):
        manager(environ={**INSIDE, "SLURM_RESTART_COUNT": "many"}).restart_count()


# --- nodes ---


@pytest.mark.parametrize(
    ("scene", "down", "lost", "silent"),
    [
        ("healthy", {}, "", ""),
        ("silent", {"n2": "Slurm state MIXED+NOT_RESPONDING"}, "", "n2"),
        ("dead", {"n2": "Slurm has taken it out of the job"}, "n2", ""),
        ("back", {"n2": "Slurm has taken it out of the job"}, "n2", ""),
    ],
)
def test_bad_nodes_of_a_running_job(
    scene: str, down: dict[str, str], lost: str, silent: str
) -> None:
    at = manager(scene)
    assert at.down_nodes() == down
    watch = at.watch_nodes()
    assert (" ".join(watch.lost), " ".join(watch.silent)) == (lost, silent)
    assert {**watch.lost, **watch.silent} == down


@pytest.mark.parametrize(
    ("scene", "why"),
    [
        ("draining", "Slurm state MIXED+DRAIN: bad fan"),
        ("failing", "Slurm state MIXED+FAIL: DIMM 3: errors"),
        ("hostile-reason", "Slurm state MIXED+DRAIN: two"),
        ("reboot-requested", "Slurm state MIXED+REBOOT_REQUESTED: new kernel"),
        ("maintenance", "Slurm state MIXED+MAINTENANCE+RESERVED"),
    ],
)
def test_a_node_that_shall_get_no_new_work_keeps_what_runs(scene: str, why: str) -> None:
    """Lesson A3: not only state down; a step that runs there goes on all the same."""
    at = manager(job=result("job-healthy"), nodes=result(f"nodes-{scene}"))
    assert at.down_nodes() == {"n2": why}
    assert at.watch_nodes() == ({}, {})


def test_several_bad_nodes_are_each_told() -> None:
    """Lesson A3: a folded list of them is not one name."""
    at = manager(job=result("job-healthy"), nodes=result("nodes-idle-drained-fail-powering-down"))
    assert list(at.down_nodes()) == ["n1", "n2", "n3"]
    assert list(at.watch_nodes().lost) == ["n3"]


def test_all_nodes_are_asked_in_one_call() -> None:
    at = manager()
    at.down_nodes()
    assert [call[0] for call in calls(at)] == ["scontrol", "squeue"]


def test_a_node_that_the_controller_does_not_know_is_not_healthy() -> None:
    environ = {**INSIDE, "SLURM_JOB_NODELIST": "n1,n2,nope"}
    held = said(["squeue"], "1|RUNNING|1|2|1|0|N/A|n1,n2,nope|None\n")
    at = manager(environ=environ, job=held, nodes=result("nodes-not-found"))
    assert at.down_nodes() == {"nope": "not known to the Slurm controller"}
    assert at.watch_nodes() == ({}, {"nope": "not known to the Slurm controller"})


def test_maintenance_does_not_hinder_a_job_that_runs_in_a_reservation() -> None:
    environ = {**INSIDE, "SLURM_JOB_RESERVATION": "mt"}
    at = manager(environ=environ, job=result("job-healthy"), nodes=result("nodes-maintenance"))
    assert at.down_nodes() == {}


def test_an_ended_job_has_no_healthy_nodes() -> None:
    at = manager("cancelled", nodes=result("nodes-after-cancel"))
    with pytest.raises(NotInAllocationError, match="has ended: Slurm: job 1 is CANCELLED"):
        at.down_nodes()


def test_a_job_in_a_state_of_a_newer_slurm_is_not_taken_for_ended() -> None:
    """Its nodes are not known to be bad then, and the runs go on."""
    shiny = said(["squeue"], "1|SHINY|1|2|1|0|N/A|n[1-3]|None\n")
    with pytest.raises(OutputParseError, match="unknown job state 'SHINY'"):
        manager(job=shiny).down_nodes()


@pytest.mark.parametrize("answer", [hanging, missing])
def test_without_an_answer_nothing_is_known(answer: Any) -> None:
    for at in (manager(job=answer), manager(nodes=answer)):
        with pytest.raises(CommandError):
            at.down_nodes()
        with pytest.raises(CommandError):
            at.watch_nodes()


def test_every_question_has_a_deadline() -> None:
    """Lesson A12."""
    at = manager()
    at.down_nodes()
    at.end_time()
    at.prerun()
    runner: Any = at.context.runner
    assert {options["timeout_s"] for options in runner.options} == {SLURM.timeout_s}


# --- the job ---


def test_the_end_is_asked_anew_each_time() -> None:
    """Lesson B8: it may be moved while the job runs."""
    at = manager(job=answers("job-healthy", "job-longer", "job-unlimited"))
    ends = [at.end_time() for _ in range(3)]
    start = manager().start_time()
    assert start is not None
    assert ends[0] == start + 1800
    assert ends[1] > ends[0]
    assert ends[2] == -1


def test_an_end_that_slurm_does_not_say_is_unknown() -> None:
    row = said(["squeue"], "1|CONFIGURING|N/A|N/A|30:00|0|N/A|n[1-3]|None\n")
    at = manager(job=row)
    assert at.end_time() == 0
    assert at.start_time() is None


def test_why_it_ends_is_judged_against_our_own_restart_count() -> None:
    row = said(["squeue"], "1|RUNNING|1|2|1|1|N/A|n[1-3]|None\n")
    ending = manager(job=row).ending()
    assert ending is not None
    assert ending[0] is Cause.PREEMPTED
    assert manager(job=row, environ={**INSIDE, "SLURM_RESTART_COUNT": "1"}).ending() is None


# --- before the first run ---


def configuring(times: int) -> Any:
    left = iter([True] * times)

    def answer(argv: Sequence[str]) -> Any:
        state = "CONFIGURING" if next(left, False) else "RUNNING"
        return said(argv, f"1|{state}|1|2|1|0|N/A|n[1-3]|None\n")

    return answer


def test_prerun_waits_for_nodes_that_boot() -> None:
    clock = FakeClock()
    at = manager(job=configuring(20), clock=clock)
    at.prerun()
    assert len(calls(at)) == 21
    assert 0 < clock.monotonic() < BOOT_LIMIT_S


def test_prerun_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """Lesson A12: nor does it touch a node."""
    clock = FakeClock()
    at = manager(job=configuring(10**6), clock=clock)
    with caplog.at_level(logging.WARNING):
        at.prerun()
    assert clock.monotonic() == pytest.approx(BOOT_LIMIT_S)
    assert "nodes are not ready after 900 s" in caplog.text
    assert {call[0] for call in calls(at)} == {"squeue"}


def test_prerun_goes_on_without_a_controller(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manager("no-controller").prerun()
    assert "Unable to contact slurm controller" in caplog.text


def test_prerun_tells_that_slurm_is_not_installed() -> None:
    with pytest.raises(CommandNotFoundError):
        manager(job=missing).prerun()


# --- the environment of the tools ---


def test_the_tools_get_that_environment() -> None:
    at = manager(environ={**INSIDE, "SQUEUE_USERS": "bob", "PATH": "/opt/slurm/bin"})
    at.down_nodes()
    runner: Any = at.context.runner
    for options in runner.options:
        assert options["env"]["PATH"] == "/opt/slurm/bin"
        assert "SQUEUE_USERS" not in options["env"]
