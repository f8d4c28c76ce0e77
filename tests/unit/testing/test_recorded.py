# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for tools is strict: recorded calls only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scrjob._process import CommandResult, SubprocessRunner
from scrjob.testing import recorded


def case(place: Path, name: str, argv: list[str], **files: Any) -> None:
    directory = place / "squeue" / "22.05" / name
    directory.mkdir(parents=True)
    (directory / "argv").write_text(json.dumps(argv))
    for file, content in {"rc": "0", **files}.items():
        (directory / file).write_text(content)


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    case(tmp_path, "one", ["-h", "-j", "1"], stdout="1|node1\n")
    case(tmp_path, "gone", ["-h", "-j", "2"], stderr="Invalid job id\n", rc="1")
    case(tmp_path, "night", ["-h", "-j", "1", "-t"], env='{"MODE": "night"}', stdout="asleep\n")
    return recorded.install(tmp_path / "bin", [tmp_path / "squeue" / "22.05"], tools=["scontrol"])


def call(world: dict[str, str], *argv: str, **environ: str) -> CommandResult:
    return SubprocessRunner().run(argv, timeout_s=30, env={**world, **environ})


def test_a_recorded_call_is_replayed(world: dict[str, str]) -> None:
    assert call(world, "squeue", "-h", "-j", "1")[1:4] == (0, "1|node1\n", "")
    assert call(world, "squeue", "-h", "-j", "2")[1:4] == (1, "", "Invalid job id\n")


@pytest.mark.parametrize("argv", [["-h", "-j", "3"], ["-h", "-j"], ["-h", "-j", "1", ""]])
def test_any_other_call_names_the_nearest(world: dict[str, str], argv: list[str]) -> None:
    result = call(world, "squeue", *argv)
    assert result.returncode == recorded.EXIT_UNKNOWN_CALL
    assert result.stdout == ""
    assert "not recorded: squeue -h -j" in result.stderr
    assert "nearest is squeue -h -j" in result.stderr


def test_a_case_is_bound_to_its_environment(world: dict[str, str]) -> None:
    argv = ["squeue", "-h", "-j", "1", "-t"]
    assert call(world, *argv, MODE="night").stdout == "asleep\n"
    assert call(world, *argv, MODE="day").returncode == recorded.EXIT_UNKNOWN_CALL
    assert call(world, *argv).returncode == recorded.EXIT_UNKNOWN_CALL


def test_a_tool_without_records_knows_nothing(world: dict[str, str]) -> None:
    result = call(world, "scontrol", "show")
    assert (result.returncode, "none is" in result.stderr) == (97, True)


def test_calls_are_noted_word_for_word(world: dict[str, str], tmp_path: Path) -> None:
    assert recorded.calls(tmp_path / "bin") == []
    call(world, "squeue", "two words", "line\nbreak")
    assert recorded.calls(tmp_path / "bin") == [["squeue", "two words", "line\nbreak"]]


def test_an_incomplete_case_is_an_error(tmp_path: Path) -> None:
    case(tmp_path, "one", [])
    (tmp_path / "squeue/22.05/one/rc").unlink()
    with pytest.raises(FileNotFoundError):
        recorded.load_cases([tmp_path / "squeue/22.05"])
