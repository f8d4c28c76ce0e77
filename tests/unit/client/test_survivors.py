# SPDX-License-Identifier: BSD-3-Clause
"""Groups put together from what the ranks that are there say, and what is lost of them."""

from __future__ import annotations

from typing import Optional, Sequence

import pytest

from scrjob.client.scheme import Choice, Wish, choose_groups
from scrjob.client.survivors import Word, groups_of, word_of
from scrjob.errors import UnrecoverableError
from scrjob.formats.redset_header import Descriptor, Member
from scrjob.redundancy.encode import header_of

EIGHT = [f"n{rank // 2}" for rank in range(8)]


def words(wish: Wish, domains: Sequence[str] = EIGHT) -> list[Optional[Word]]:
    """Return what each rank of a job says when all of them are there."""
    choice: Choice = choose_groups(wish, domains)
    told: list[Optional[Word]] = [None] * len(domains)
    for group in choice.groups:
        members = [
            Member(
                Descriptor(
                    *(choice.type, len(choice.groups), group.number, len(group.ranks), i, rank),
                    *(len(domains), choice.replicas, choice.parity),
                ),
                (),
            )
            for i, rank in enumerate(group.ranks)
        ]
        for i, rank in enumerate(group.ranks):
            told[rank] = word_of(header_of(members, i, 1))
    return told


def without(wish: Wish, *lost: int) -> list[Optional[Word]]:
    return [None if rank in lost else word for rank, word in enumerate(words(wish))]


@pytest.mark.parametrize("kind", ["XOR", "PARTNER", "RS"])
def test_all_ranks_know_all_groups(kind):
    found = groups_of(words(Wish(kind, 4)))
    assert [group.ranks for group in found] == [(0, 2, 4, 6), (1, 3, 5, 7)] * 4
    assert {group.lost for group in found} == {()}


def test_a_lost_partner_is_known_from_its_neighbour():
    found = groups_of(without(Wish("PARTNER", 4), 0, 4, 7))
    assert [(group.ranks, group.lost) for group in found[:2]] == [
        ((0, 2, 4, 6), (0, 2)),
        ((1, 3, 5, 7), (3,)),
    ]


@pytest.mark.parametrize(
    ("wish", "lost", "told"),
    [
        (Wish("XOR", 4), (2, 6), "the files of ranks 2 and 6, one set, are lost"),
        (Wish("RS", 4, 2), (1, 3, 7), "the files of ranks 1, 3 and 7, one set, are lost"),
        (Wish("PARTNER", 4), (0, 6), "the files of rank 6 and their redundancy are lost"),
        (Wish("PARTNER", 4), (2, 4), "the files of rank 2 and their redundancy are lost"),
        (Wish("PARTNER", 2), (1, 3), "the files of rank 1 and their redundancy are lost"),
        (Wish("SINGLE", 4), (5,), "the files of rank 5 and their redundancy are lost"),
    ],
)
def test_what_is_too_much_is_told(wish, lost, told):
    with pytest.raises(UnrecoverableError) as caught:
        groups_of(without(wish, *lost))
    assert str(caught.value) == told


def test_a_group_that_says_nothing_of_one_member_is_lost():
    told = words(Wish("XOR", 8), ["a", "b", "c"])
    short = [None if w is None else w._replace(ranks={0: 0, 1: 1}) for w in told]
    with pytest.raises(UnrecoverableError, match="group 1 of 1: expected 3 members, found 2"):
        groups_of(short)


def test_groups_of_other_ranks_than_the_programs_are_not_taken():
    told = words(Wish("XOR", 8), ["a", "b", "c"])
    for wrong in ({0: 0, 1: 1, 2: 3}, {0: 0, 1: 1, 2: 1}, {0: 1, 1: 2, 2: 3}):
        forged = [None if word is None else word._replace(ranks=wrong) for word in told]
        with pytest.raises(UnrecoverableError, match="are not those of 3 ranks"):
            groups_of(forged)
    with pytest.raises(UnrecoverableError, match="are not those of 2 ranks"):
        groups_of(told[:2])
