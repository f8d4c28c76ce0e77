# SPDX-License-Identifier: BSD-3-Clause
"""Ending a step of Slurm that a user names. Lesson A20. On a real Slurm: tests/cluster/test_srun.py."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from scrjob.errors import CommandError, ScrError, UsageError
from scrjob.launchers.srun import KILLED_S, SRUN, TERM_GRACE_S
from scrjob.testing.fakes import FakeRunner, fake_context, hanging, said

REFUSED = "scancel: error: Kill job error on job step id 42.7: Access/permission denied"


class Slurm:
    """Job 42 with the steps 7 and 11.

    Args:
        ends_on: the signal that ends step 7: "TERM", "KILL", or None if a dead node keeps it listed.
        refuses: scancel fails.
    """

    def __init__(self, ends_on: Optional[str] = "TERM", *, refuses: bool = False) -> None:
        self.ends_on = ends_on
        self.refuses = refuses
        self.steps = ["7", "11"]
        self.signals: list[str] = []
        self.busy = 0  # so many questions get no answer
        self.runner = FakeRunner(self.answer)
        self.context = fake_context(runner=self.runner)
        self.launcher = SRUN()
        self.launcher.bind(self.context)

    def answer(self, argv: Any) -> Any:
        words = list(argv)
        if words[:4] == ["scontrol", "--oneliner", "show", "step"]:
            if self.busy and self.signals:
                self.busy -= 1
                return hanging(argv)
            if words[4] != "42":
                error = "slurm_get_job_steps error: Invalid job id specified"
                return said(argv, "", stderr=error, returncode=1)
            lines = [
                f"StepId=42.{number} UserId=0 State=RUNNING NodeList=n1 Name=x "
                f"Network=(null) SrunHost:Pid=login:9{number}"
                for number in self.steps
            ]
            return said(argv, "\n".join(lines or ["Job step 42. not found"]))
        assert words[0] == "scancel"
        assert words[-1] == "42.7"
        kind = "TERM" if words[1:-1] == ["--signal=TERM"] else "KILL"
        assert kind == "TERM" or words[1:-1] == []
        self.signals.append(kind)
        if self.refuses:
            return said(argv, "", stderr=REFUSED, returncode=1)
        if kind == self.ends_on:
            self.steps.remove("7")
        return said(argv, "")

    def end(self, step: str = "42.7") -> bool:
        return self.launcher.end_step(step)


def test_term_is_enough() -> None:
    slurm = Slurm()
    assert slurm.end() is True
    assert slurm.signals == ["TERM"]
    assert slurm.steps == ["11"]
    assert slurm.context.clock.monotonic() < 1.0


def test_what_ignores_term_is_killed_after_a_grace() -> None:
    slurm = Slurm("KILL")
    assert slurm.end() is True
    assert slurm.signals == ["TERM", "KILL"]
    assert TERM_GRACE_S <= slurm.context.clock.monotonic() < TERM_GRACE_S + 1.0


def test_a_step_that_a_dead_node_holds_is_told_after_a_limit() -> None:
    slurm = Slurm(None)
    with pytest.raises(ScrError, match=r"step 42\.7 is cancelled, but Slurm lists it on"):
        slurm.end()
    assert slurm.context.clock.monotonic() < TERM_GRACE_S + KILLED_S + 1.0


@pytest.mark.parametrize("step", ["42.8", "42.1"])
def test_there_is_no_such_step(step: str) -> None:
    slurm = Slurm()
    assert slurm.end(step) is False
    assert slurm.signals == []


def test_the_job_has_no_steps_at_all() -> None:
    slurm = Slurm()
    slurm.steps = []
    assert slurm.end() is False


def test_there_is_no_such_job() -> None:
    with pytest.raises(CommandError, match="Invalid job id specified"):
        Slurm().end("43.7")


def test_somebody_elses_step() -> None:
    slurm = Slurm(refuses=True)
    with pytest.raises(CommandError, match="Access/permission denied"):
        slurm.end()


def test_a_step_that_ended_before_its_cancellation() -> None:
    slurm = Slurm(refuses=True)

    def at_last(argv: Any) -> Any:
        if list(argv) == ["scancel", "42.7"]:
            slurm.steps = ["11"]
        return slurm.answer(argv)

    slurm.runner._script = at_last
    assert slurm.end() is True


def test_a_busy_controller_is_asked_again() -> None:
    slurm = Slurm()
    slurm.busy = 3
    assert slurm.end() is True


def test_a_controller_that_never_answers() -> None:
    slurm = Slurm()
    slurm.runner._script = hanging
    with pytest.raises(CommandError, match="scontrol"):
        slurm.end()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "42.",
        ".7",
        "42.batch",
        "42.7 ",
        "42.7.1",
        "-1.7",
        "42.7\n",
        "all",
        "\u0664.\u0667",
    ],
)
def test_what_is_no_step_is_refused(text: str) -> None:
    """A job without its step must never get there: scancel would end all of the job."""
    slurm = Slurm()
    with pytest.raises(UsageError, match=r"expected JOBID\.STEPID"):
        slurm.end(text)
    assert slurm.runner.calls == []


@pytest.mark.parametrize("job", ["42_3", "42+1"])
def test_parts_of_arrays_and_of_mixed_jobs_have_ids_too(job: str) -> None:
    slurm = Slurm()
    with pytest.raises(CommandError):
        slurm.end(f"{job}.7")
    assert slurm.runner.calls == [["scontrol", "--oneliner", "show", "step", job]]
