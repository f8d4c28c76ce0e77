# SPDX-License-Identifier: BSD-3-Clause
"""Command lines of scr_run: whose word is whose, and how commands are split."""

from __future__ import annotations

import pytest

from scrjob.errors import UsageError
from scrjob.run import parseargs
from scrjob.supervisor.command import RunCommand


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["srun", "-n4", "./app", "x y"], ("srun", ["-n4", "./app", "x y"], "", "", [])),
        (["srun", "-rc", "./app 1", "-n4"], ("srun", ["-n4"], "./app 1", "", [])),
        (
            ["srun", "-n4", "--run-cmd=./app", "-rs", "./app -r SCR_CKPT_NAME"],
            ("srun", ["-n4"], "./app", "./app -r SCR_CKPT_NAME", []),
        ),
        (["srun", "--restart-cmd=a=b"], ("srun", [], "", "a=b", [])),
        (["srun", "--", "./app", "-rc", "5"], ("srun", ["--", "./app", "-rc", "5"], "", "", [])),
    ],
)
def test_options_may_stand_anywhere_and_the_launcher_is_kept(
    argv: list[str], expected: object
) -> None:
    """Lesson A8."""
    assert parseargs(argv) == expected


def test_a_fixed_launcher_takes_no_word() -> None:
    assert parseargs(["-n4", "./app"], "srun") == ("srun", ["-n4", "./app"], "", "", [])


@pytest.mark.parametrize("argv", [[], ["srun", "-rc"], ["srun", "--restart-cmd"]])
def test_what_is_missing_is_told(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        parseargs(argv)


def test_commands_are_split_as_a_shell_would() -> None:
    """Lesson A8."""
    command = RunCommand(["-n4"], "./app 'a b' \"c\"", "./app --from SCR_CKPT_NAME")
    assert command.words(None) == ["-n4", "./app", "a b", "c"]
    assert command.words("ckpt 7") == ["-n4", "./app", "--from", "ckpt 7"]


def test_without_a_restart_command_the_run_command_serves() -> None:
    assert RunCommand(["-n4"], "./app").words("ckpt.7") == ["-n4", "./app"]


@pytest.mark.parametrize("command", [RunCommand([]), RunCommand(["-n4"], "'open")])
def test_a_command_that_cannot_be_run_is_refused(command: RunCommand) -> None:
    with pytest.raises(UsageError):
        command.check()
