# SPDX-License-Identifier: BSD-3-Clause
"""Which groups a set has, and which members of each are lost, from what the ranks that are there say.

The groups are those that were recorded, whatever the program's present settings are. Headers of XOR and
RS list all members of their group; those of PARTNER only neighbours, so a group is put together from
what all of its members say.

Source: docs/formats/redundancy.md, "what can be recovered".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob.errors import UnrecoverableError
from scrjob.redundancy.schemes import scheme_for

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor, Header


class Word(NamedTuple):
    """What one rank tells of its group: its own place, and world ranks of members by group rank."""

    descriptor: Descriptor
    ranks: dict[int, int]


class GroupOf(NamedTuple):
    """A group as recorded.

    Attributes:
        number: its id.
        ranks: world ranks of the members, by group rank.
        lost: group ranks of those that are lost, ascending.
    """

    number: int
    ranks: tuple[int, ...]
    lost: tuple[int, ...]


def word_of(header: Header) -> Word:
    """Return what a member's header tells of its group."""
    own = header.members[header.rank or 0].descriptor
    ranks = {i: member.descriptor.world_rank for i, member in header.members.items()}
    return Word(own, {**ranks, **(header.world_ranks or {})})


def groups_of(words: Sequence[Optional[Word]]) -> list[GroupOf]:
    """Return the group of each rank.

    Args:
        words: of each rank; None if its part is lost.

    Raises:
        UnrecoverableError: some group has lost more than its scheme tolerates.
    """
    first: dict[int, Descriptor] = {}
    known: dict[int, dict[int, int]] = {}
    for word in words:
        if word is not None:
            number = word.descriptor.group
            first.setdefault(number, word.descriptor)
            known.setdefault(number, {}).update(word.ranks)
    listed = {rank for ranks in known.values() for rank in ranks.values()}
    for rank, word in enumerate(words):
        if word is None and rank not in listed:
            raise UnrecoverableError(f"the files of rank {rank} and their redundancy are lost")
    for number, place in first.items():
        if sorted(known[number]) != list(range(place.ranks)):
            raise UnrecoverableError(
                f"group {number + 1} of {place.groups}: expected {place.ranks} members, found "
                f"{len(known[number])}"
            )
    everyone = sorted(rank for ranks in known.values() for rank in ranks.values())
    if everyone != list(range(len(words))):
        raise UnrecoverableError(f"the recorded groups are not those of {len(words)} ranks")
    of_rank: dict[int, GroupOf] = {}
    for number, place in sorted(first.items()):
        group = _group(place, tuple(known[number][i] for i in range(place.ranks)), words)
        of_rank.update(dict.fromkeys(group.ranks, group))
    return [of_rank[rank] for rank in range(len(words))]


def _group(place: Descriptor, ranks: tuple[int, ...], words: Sequence[Optional[Word]]) -> GroupOf:
    lost = tuple(i for i, rank in enumerate(ranks) if words[rank] is None)
    if not scheme_for(place.type).tolerates(len(ranks), lost, place):
        told = [str(ranks[i]) for i in lost]
        names = f"ranks {', '.join(told[:-1])} and {told[-1]}" if told[1:] else f"rank {told[0]}"
        raise UnrecoverableError(f"the files of {names}, one set, are lost")
    return GroupOf(place.group, ranks, lost)
