# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scrjob.errors import CommandError, CommandTimeoutError, OutputParseError
from scrjob.launchers import _slurm_steps as steps
from scrjob.launchers._slurm_steps import ListedStep
from scrjob.testing.fakes import FakeRunner, fake_context, hanging, said

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "scontrol" / "22.05.8"


def answer(case: str) -> Any:
    place = RECORDED / case

    def script(argv: Any) -> Any:
        assert argv == ["scontrol", "--oneliner", "show", "step", "1"]
        return said(
            argv,
            place.joinpath("stdout").read_text(),
            stderr=place.joinpath("stderr").read_text(),
            returncode=int(place.joinpath("rc").read_text()),
        )

    return fake_context(runner=FakeRunner(script))


def test_a_running_step_is_known_by_its_srun() -> None:
    listed = steps.list_steps(answer("steps-running"), "1", 5.0)
    assert listed == [ListedStep("11", ["n1", "n2"], "login", 283)]


def test_parts_of_a_step_have_one_number() -> None:
    listed = steps.list_steps(answer("steps-of-two-parts"), "1", 5.0)
    assert [(step.number, step.nodes) for step in listed] == [("12", ["n1", "n2"]), ("12", ["n3"])]


def test_a_step_left_on_a_dead_node_is_listed() -> None:
    assert [step.nodes for step in steps.list_steps(answer("steps-left"), "1", 5.0)] == [
        ["n1", "n2"]
    ]


def test_no_steps_is_an_answer() -> None:
    assert steps.list_steps(answer("steps-none"), "1", 5.0) == []


@pytest.mark.parametrize("case", ["steps-no-such-job", "steps-no-controller"])
def test_a_failed_question_is_not_an_empty_answer(case: str) -> None:
    with pytest.raises(CommandError, match="scontrol"):
        steps.list_steps(answer(case), "1", 5.0)


def test_no_answer_is_not_an_empty_answer() -> None:
    with pytest.raises(CommandTimeoutError):
        steps.list_steps(fake_context(runner=FakeRunner(hanging)), "1", 5.0)


LINE = (
    "StepId=7.3 UserId=0 State=RUNNING NodeList=n1 Nodes=1 Name=x NodeList=n9 SrunHost:Pid=a:1 "
    "Network=(null) SrunHost:Pid=login:12\n"
)


def test_a_steps_name_is_the_users_and_tells_nothing() -> None:
    assert steps.parse_list(LINE) == [ListedStep("3", ["n1"], "login", 12)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("StepId=12_4.3 NodeList=n1 X=1", ListedStep("3", ["n1"], "", 0)),
        ("StepId=7.extern NodeList=n[1-2]", ListedStep("extern", ["n1", "n2"], "", 0)),
        ("StepId=7.batch NodeList=(null) X=1", ListedStep("batch", [], "", 0)),
    ],
)
def test_other_steps(line: str, expected: ListedStep) -> None:
    assert steps.parse_list(line) == [expected]


@pytest.mark.parametrize(
    "line", ["nonsense", "StepId=7.1 State=RUNNING", "StepId=7.1 NodeList=n[1"]
)
def test_what_is_no_list_of_steps(line: str) -> None:
    with pytest.raises(OutputParseError, match="scontrol"):
        steps.parse_list(line)


def test_cancelling() -> None:
    assert steps.build_cancel("7.3") == ["scancel", "7.3"]
    assert steps.build_cancel("7.3", "TERM") == ["scancel", "--signal=TERM", "7.3"]


def test_the_users_wishes_for_the_tools_are_not_ours() -> None:
    environ = {"SCANCEL_INTERACTIVE": "1", "SCONTROL_ALL": "1", "SLURM_CONF": "/x"}
    runner = FakeRunner(lambda argv: said(argv, "Job step 7. not found\n", returncode=1))
    assert steps.list_steps(fake_context(environ, runner=runner), "7", 5.0) == []
    assert runner.options[0]["env"] == {"SLURM_CONF": "/x"}
