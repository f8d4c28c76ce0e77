# SPDX-License-Identifier: BSD-3-Clause
"""Groups for redundancy, and storage that nodes turn out to share."""

from __future__ import annotations

import os

import pytest

from scrjob.client import scheme
from scrjob.client.setup import find_shared_storage
from scrjob.client.team import Team
from scrjob.errors import ConfigError
from threadcomm import ThreadComm, run_all


def test_xor_sets_lie_across_nodes():
    kind, groups = scheme.choose_groups("XOR", ["a", "a", "b", "b", "c", "c", "d", "d"], 8)
    assert kind == "xor"
    assert [group.ranks for group in groups] == [(0, 2, 4, 6), (1, 3, 5, 7)]


def test_a_single_node_has_nobody_to_share_with():
    kind, groups = scheme.choose_groups("XOR", ["a", "a"], 8)
    assert (kind, [group.ranks for group in groups]) == ("single", [(0,), (1,)])


def test_single_when_asked_for():
    assert scheme.choose_groups("SINGLE", ["a", "b"], 8)[0] == "single"


@pytest.mark.parametrize(("domains", "size"), [(["a", "a", "b"], 8), (["a", "b"], 1)])
def test_a_rank_without_a_partner_is_an_error_that_says_what_to_do(domains, size):
    with pytest.raises(ConfigError, match=r"has no partner on another node.*SCR_COPY_TYPE=SINGLE"):
        scheme.choose_groups("XOR", domains, size)


def test_the_descriptor_says_the_place():
    def program(comm: ThreadComm) -> scheme.Scheme:
        return scheme.form(Team(comm, "abcd"[comm.rank // 2]), "XOR", 2)

    found = run_all(8, program)[5]
    assert found.members == (5, 7)
    assert (found.comm.rank, found.comm.size, found.is_xor) == (0, 2, True)
    assert found.descriptor._asdict() == {
        "type": "xor",
        "groups": 4,
        "group": 3,
        "ranks": 2,
        "rank": 0,
        "world_rank": 5,
        "world_ranks": 8,
        "replicas": None,
        "parity": None,
    }


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (["p", "p", "q", "q"], ["n0", "n0", "n2", "n2"]),
        (["x"] * 4, ["n0"] * 4),
        (["p", "q", "p", "q"], ["n0", "n1", "n0", "n1"]),
        (["p", "q", "r", "s"], ["n0", "n1", "n2", "n3"]),
    ],
)
def test_nodes_that_see_each_others_files_fail_together(tmp_path, storage, expected):
    for name in storage:
        (tmp_path / name).mkdir(exist_ok=True)

    def program(comm: ThreadComm) -> list[str]:
        team = Team(comm, f"n{comm.rank}")
        find_shared_storage(team, str(tmp_path / storage[comm.rank]))
        return team.domains

    assert run_all(4, program) == [expected] * 4
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]
