# SPDX-License-Identifier: BSD-3-Clause
"""Which ranks protect each other: redundancy groups formed across failure domains.

Source: docs/formats/redundancy.md, "groups".
"""

from __future__ import annotations

from typing import Hashable, NamedTuple, Sequence

from scrjob.errors import ConfigError


class Group(NamedTuple):
    """One redundancy group.

    Attributes:
        number: group id, 0-based, in ascending world rank of the groups' first members.
        ranks: world ranks of the members, ascending; the place in it is the group rank.
    """

    number: int
    ranks: tuple[int, ...]


def form_groups(domains: Sequence[Hashable], min_size: int) -> list[Group]:
    """Return the groups of a job, by group id, such that no two members share a failure domain.

    Args:
        domains: failure domain (node name) of each world rank, by world rank.
        min_size: members that a group has at least, if there are so many domains; >= 1.

    Raises:
        ConfigError: ``min_size`` is less than 1.

    Source: docs/formats/redundancy.md, "groups".
    """
    if min_size < 1:
        raise ConfigError(f"SCR_SET_SIZE: a redundancy group needs a member, got {min_size}")
    columns: list[list[int]] = []
    seen: dict[Hashable, int] = {}
    for rank, domain in enumerate(domains):
        column = seen.get(domain, 0)  # ordinal of this rank among those of its domain
        seen[domain] = column + 1
        if column == len(columns):
            columns.append([])
        columns[column].append(rank)
    sets = [tuple(part) for column in columns for part in _cut(column, min_size)]
    return [Group(number, ranks) for number, ranks in enumerate(sorted(sets))]


def single_groups(ranks: int) -> list[Group]:
    """Return the groups of a job without redundancy: every rank is alone."""
    return [Group(rank, (rank,)) for rank in range(ranks)]


def _cut(column: list[int], min_size: int) -> list[list[int]]:
    """Cut consecutive groups of at least ``min_size``; the first ones take what is left over."""
    count = len(column)
    sets = count // min_size
    if sets == 0:
        return [column]
    base = min_size + (count - sets * min_size) // sets
    larger = count % base
    parts: list[list[int]] = []
    start = 0
    while start < count:
        size = base + (len(parts) < larger)
        parts.append(column[start : start + size])
        start += size
    return parts
