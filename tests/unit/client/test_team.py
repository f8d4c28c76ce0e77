# SPDX-License-Identifier: BSD-3-Clause
"""The team: nodes, and that an error on one rank is an error on all."""

from __future__ import annotations

import pytest

from scrjob.client.team import FirstError, Team
from scrjob.errors import ConfigError, FormatError, ScrError, UnsafePathError
from threadcomm import ThreadComm, run, run_all

HOSTS = ["b", "a", "b", "a", "c"]


def test_nodes_are_numbered_by_their_lowest_rank():
    def program(comm: ThreadComm) -> tuple[object, ...]:
        team = Team(comm, HOSTS[comm.rank])
        return (
            team.domain_names(),
            team.is_leader,
            team.node.size,
            team.leader_of("a"),
            team.node_count,
        )

    answers = run_all(5, program)
    assert {str(answer[0]) for answer in answers} == {"['b', 'a', 'c']"}
    assert [answer[1] for answer in answers] == [True, True, False, False, True]
    assert [answer[2] for answer in answers] == [2, 2, 2, 2, 1]
    assert answers[0][3:] == (1, 3)


def test_nodes_that_share_storage_become_one_domain_and_stay_two_nodes():
    def program(comm: ThreadComm) -> tuple[object, ...]:
        team = Team(comm, HOSTS[comm.rank])
        team.merge_domains(["x"] * 5)
        return team.domain_count, team.node_count, team.node.size, team.is_leader

    assert run_all(5, program) == [(1, 3, 5, rank == 0) for rank in range(5)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), ScrError),
        (UnsafePathError("is a link"), UnsafePathError),
        (ConfigError("bad"), ConfigError),
        (FormatError("bad", path="/p"), ScrError),
    ],
)
def test_an_error_of_one_rank_is_raised_on_all_and_names_rank_and_node(error, kind):
    def program(comm: ThreadComm) -> None:
        team = Team(comm, HOSTS[comm.rank])
        with team.together("doing it"):
            if comm.rank == 3:
                raise error

    answers = run(5, program)
    assert [type(answer) for answer in answers] == [kind] * 5
    assert {str(answer) for answer in answers} == {f"rank 3 on a: doing it: {error}"}


def test_the_lowest_rank_speaks_when_several_fail():
    def program(comm: ThreadComm) -> None:
        with Team(comm, "n").together("w"):
            raise OSError(f"of {comm.rank}")

    assert {str(answer) for answer in run(3, program)} == {"rank 0 on n: w: of 0"}


def test_a_bug_is_not_dressed_up_as_an_agreed_error():
    def program(comm: ThreadComm) -> None:
        with Team(comm, "n").together("w"):
            raise ZeroDivisionError

    assert isinstance(run(1, program)[0], ZeroDivisionError)


def test_on_first_calls_only_rank_0_and_tells_all():
    def program(comm: ThreadComm) -> object:
        return Team(comm, "n").on_first("ask", lambda: f"by {comm.rank}")

    assert run_all(3, program) == ["by 0"] * 3


def test_first_error_skips_what_follows():
    done = []
    trouble = FirstError()
    trouble.run(done.append, 1)
    trouble.run(_fail)
    trouble.run(done.append, 2)
    assert done == [1]
    assert str(trouble.error) == "first"


def _fail() -> None:
    raise OSError("first")
