# SPDX-License-Identifier: BSD-3-Clause
"""Groups for redundancy, and storage that nodes turn out to share."""

from __future__ import annotations

import os

import pytest

from scrjob.client import scheme
from scrjob.client.scheme import Wish
from scrjob.client.setup import find_shared_storage
from scrjob.client.team import Team
from scrjob.errors import ConfigError
from threadcomm import ThreadComm, run_all

FOUR = ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", ["XOR", "PARTNER", "RS"])
def test_sets_lie_across_nodes(kind):
    choice = scheme.choose_groups(Wish(kind, 8), ["a", "a", "b", "b", "c", "c", "d", "d"])
    assert choice.type == kind.lower()
    assert [group.ranks for group in choice.groups] == [(0, 2, 4, 6), (1, 3, 5, 7)]


@pytest.mark.parametrize("kind", ["XOR", "PARTNER", "RS"])
def test_a_single_node_has_nobody_to_share_with(kind):
    choice = scheme.choose_groups(Wish(kind, 8), ["a", "a"])
    assert (choice.type, [group.ranks for group in choice.groups]) == ("single", [(0,), (1,)])


def test_single_when_asked_for():
    assert scheme.choose_groups(Wish("SINGLE", 8), ["a", "b"]).type == "single"


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        (1, ("xor", None, None)),
        (2, ("rs", None, 2)),
        (3, ("rs", None, 3)),
        (4, ("partner", 1, None)),
    ],
)
def test_rs_for_one_failure_is_xor_and_for_as_many_as_ranks_partner(failures, expected):
    choice = scheme.choose_groups(Wish("RS", 8, failures), FOUR)
    assert (choice.type, choice.replicas, choice.parity) == expected


def test_other_schemes_do_not_care_about_the_failures_of_rs():
    for failures in (0, 1, 2, 4):
        assert scheme.choose_groups(Wish("XOR", 8, failures), FOUR) == scheme.choose_groups(
            Wish("XOR", 8), FOUR
        )
        assert scheme.choose_groups(Wish("PARTNER", 8, failures), FOUR).type == "partner"


@pytest.mark.parametrize("kind", ["XOR", "PARTNER"])
@pytest.mark.parametrize(("domains", "size"), [(["a", "a", "b"], 8), (["a", "b"], 1)])
def test_a_rank_without_a_partner_is_an_error_that_says_what_to_do(kind, domains, size):
    with pytest.raises(ConfigError, match=r"has no partner on another node.*SCR_COPY_TYPE=SINGLE"):
        scheme.choose_groups(Wish(kind, size), domains)


def test_rs_needs_more_ranks_in_each_set_than_it_can_lose():
    wish = Wish("RS", 2, 2)
    with pytest.raises(ConfigError) as caught:
        scheme.choose_groups(wish, [*FOUR, "e"])  # sets of 3 and 2
    assert str(caught.value) == (
        "SCR_COPY_TYPE=RS with SCR_SET_FAILURES=2: rank 3 on d has only 1 partner on another node with "
        "SCR_SET_SIZE=2, expected 2 at least; place ranks evenly on more nodes, or set "
        "SCR_COPY_TYPE=SINGLE"
    )
    assert scheme.choose_groups(wish, ["a", "b", "c"]).type == "rs"
    with pytest.raises(ConfigError, match="SCR_SET_FAILURES=5: rank 0 on a has only 3 partners"):
        scheme.choose_groups(Wish("RS", 8, 5), FOUR)  # more than ranks


def test_an_rs_set_and_its_failures_are_256_at_most():
    nodes = [f"n{number}" for number in range(255)]
    with pytest.raises(ConfigError, match=r"a set of 255 ranks is too large, expected 254 at most"):
        scheme.choose_groups(Wish("RS", 200, 2), nodes)
    assert scheme.choose_groups(Wish("RS", 200, 2), nodes[:254]).parity == 2


@pytest.mark.parametrize(
    ("kind", "replicas", "parity"), [("XOR", None, None), ("PARTNER", 1, None)]
)
def test_the_descriptor_says_the_place(kind, replicas, parity):
    def program(comm: ThreadComm) -> scheme.Scheme:
        return scheme.form(Team(comm, "abcd"[comm.rank // 2]), Wish(kind, 2))

    found = run_all(8, program)[5]
    assert (found.comm.rank, found.comm.size) == (0, 2)
    assert found.descriptor._asdict() == {
        "type": kind.lower(),
        "groups": 4,
        "group": 3,
        "ranks": 2,
        "rank": 0,
        "world_rank": 5,
        "world_ranks": 8,
        "replicas": replicas,
        "parity": parity,
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
