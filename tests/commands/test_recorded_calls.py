# SPDX-License-Identifier: BSD-3-Clause
"""Calls of the established commands as they were recorded: same question, same answer, same exit code."""

from __future__ import annotations

import importlib
import re
import shlex
import time
from pathlib import Path

import pytest

from scrjob.formats import kvtree, nodes

RECORD = Path(__file__).parents[1] / "data" / "recorded" / "calls.txt"
PREFIX = "/p/scr/alice/cmds"
REPLAYED = ("scr_hostlist", "scr_list_dir", "scr_check_node", "scr_env", "scr_halt")


def recorded():
    """Return (command line, stdout, exit code) of each call, in order."""
    calls = []
    for block in re.split(r"^\$ ", RECORD.read_text(), flags=re.MULTILINE)[1:]:
        command, rest = block.split("\n", 1)
        found = re.match(r"(.*?)\[exit (\d+)\]\n", rest, re.DOTALL)
        # The record lost the quotes of one argument.
        calls.append((command.replace("-d   ", "-d ' ' "), found[1], int(found[2])))
    return calls


CALLS = [call for call in recorded() if call[0].split()[0] in REPLAYED]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The world of the record: alice, job 83, four nodes, all used by the last run."""
    (tmp_path / ".scr").mkdir()
    kvtree.write(str(tmp_path / ".scr" / "nodes.scr"), nodes.build(4))
    monkeypatch.chdir(tmp_path)
    for setting in (
        "USER=alice",
        "SCR_JOB_ID=83",
        "SCR_NODELIST=node[1-4]",
        f"SCR_PREFIX={tmp_path}",
        "TZ=UTC",
    ):
        monkeypatch.setenv(*setting.split("=", 1))
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


def run(command, capsys):
    name, *argv = shlex.split(command)
    code = importlib.import_module(f"scrjob.commands.{name}").main(argv)
    return capsys.readouterr().out, code


@pytest.mark.parametrize(
    ("command", "out", "code"),
    [call for call in CALLS if not call[0].startswith("scr_halt")],
    ids=lambda value: value if isinstance(value, str) and value.startswith("scr_") else "",
)
def test_a_call(job, capsys, command, out, code):
    answer, exit_code = run(command, capsys)
    # How large the recording machine's memory was is not our business.
    size = re.compile(r"found \d+")
    assert size.sub("found", answer) == size.sub("found", out)
    assert exit_code == code


def test_the_halt_calls_in_their_order(job, capsys):
    halts = [call for call in CALLS if call[0].startswith("scr_halt")]
    assert len(halts) == 8
    for command, out, code in halts:
        assert run(command, capsys) == (out.replace(PREFIX, str(job)), code), command
    assert not (job / ".scr" / "halt.scr").exists()
