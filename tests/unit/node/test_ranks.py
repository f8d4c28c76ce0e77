# SPDX-License-Identifier: BSD-3-Clause
"""Ranks of a step, found among a table of processes as /proc shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping

import pytest

from scrjob.node.ranks import find_ranks

STEP = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "2"}
OTHER = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "22"}


class Table:
    """Processes; ``add`` makes one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir()
        (root / "uptime").touch()

    def add(
        self,
        pid: int,
        parent: int,
        name: str = "app",
        environ: Mapping[str, str] = {},
        state: str = "S",
    ) -> None:
        directory = self.root / str(pid)
        directory.mkdir()
        (directory / "stat").write_text(f"{pid} ({name}) {state} {parent} 1 1 0\n")
        pairs = [f"{key}={value}" for key, value in {"HOME": "/", **environ}.items()]
        (directory / "environ").write_bytes("\0".join([*pairs, ""]).encode())

    def ranks(self, environ: Mapping[str, str] = STEP, *known: int, without: int = 1) -> list[int]:
        return find_ranks(environ, known, uid=os.geteuid(), without=without, root=str(self.root))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Table(tmp_path)
    table.add(1, 0, "init")
    table.add(10, 1, "slurmstepd")
    return table


def test_processes_with_all_of_the_variables_are_ranks(table: Table) -> None:
    table.add(20, 10, environ=STEP)
    table.add(21, 10, environ=STEP)
    table.add(22, 10, environ=OTHER)
    table.add(23, 10, environ={"SLURM_JOB_ID": "5"})
    assert table.ranks() == [20, 21]


@pytest.mark.parametrize("shell", ["sh", "bash", "srun"])
def test_a_wrapper_is_left_out_when_the_program_is_there(table: Table, shell: str) -> None:
    table.add(20, 10, shell, STEP)
    table.add(21, 20, "app", STEP)
    table.add(30, 10, shell, STEP)
    assert table.ranks() == [21, 30]


def test_a_program_stays_when_it_has_a_helper(table: Table) -> None:
    table.add(20, 10, "python3", STEP)
    table.add(21, 20, "helper", STEP)
    assert table.ranks() == [20, 21]


def test_what_a_rank_started_belongs_to_it_without_the_variables(table: Table) -> None:
    table.add(20, 10, "bash", STEP)
    table.add(21, 20, "container")
    table.add(22, 21, "app")
    assert table.ranks() == [21, 22]


def test_known_processes_need_no_variables(table: Table) -> None:
    table.add(20, 10, "sh")
    table.add(21, 20, "app")
    table.add(30, 10, "app")
    assert table.ranks({}, 20) == [21]
    assert table.ranks({}) == []


def test_who_asks_and_its_parents_are_none(table: Table) -> None:
    table.add(20, 10, "sh", STEP)
    table.add(21, 20, "python3", STEP)
    table.add(22, 20, "app", STEP)
    assert table.ranks(without=21) == [22]


def test_dead_ones_are_none_and_names_may_hold_anything(table: Table) -> None:
    table.add(20, 10, "a) S 1 (b", STEP)
    table.add(21, 10, "app", STEP, state="Z")
    table.add(22, 10, "app", STEP, state="T")
    assert table.ranks() == [20, 22]


def test_other_users_processes_are_not_looked_at(table: Table) -> None:
    table.add(20, 10, environ=STEP)
    root = str(table.root)
    assert find_ranks(STEP, uid=os.geteuid() + 1, without=1, root=root) == []


def test_what_goes_while_it_is_looked_at_is_passed_over(table: Table) -> None:
    (table.root / "20").mkdir()
    table.add(21, 10, environ=STEP)
    (table.root / "22").mkdir()
    (table.root / "22" / "stat").write_text("22 (app) S 10 1 1\n")
    assert table.ranks() == [21]
