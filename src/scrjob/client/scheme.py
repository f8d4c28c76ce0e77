# SPDX-License-Identifier: BSD-3-Clause
"""Which redundancy a program has: the scheme, this rank's group, and the group's communicator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

from scrjob.errors import ConfigError
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy.groups import Group, form_groups, single_groups

if TYPE_CHECKING:
    from scrjob.client.team import Communicator, Team

LEAST_XOR = 2  # members in a group


class Scheme(NamedTuple):
    """A rank's place; ``comm`` has the group's members, its ranks are the group ranks."""

    descriptor: Descriptor
    members: tuple[int, ...]
    comm: Communicator

    @property
    def is_xor(self) -> bool:
        """Tell whether there is redundancy at all."""
        return self.descriptor.type == "xor"


def choose_groups(copy_type: str, domains: Sequence[str], set_size: int) -> tuple[str, list[Group]]:
    """Return the scheme in force and the groups of the whole job.

    A job on a single node has nobody to share with: SINGLE, whatever was asked for.

    Args:
        copy_type: SINGLE or XOR.
        domains: failure domain of each rank.
        set_size: members of a group, at least.

    Raises:
        ConfigError: some rank would be alone in its group.

    Source: docs/formats/redundancy.md, "groups".
    """
    if copy_type == "SINGLE" or len(set(domains)) == 1:
        return "single", single_groups(len(domains))
    groups = form_groups(domains, set_size)
    lonely = [group.ranks[0] for group in groups if len(group.ranks) < LEAST_XOR]
    if lonely:
        raise ConfigError(
            f"SCR_COPY_TYPE=XOR: rank {lonely[0]} on {domains[lonely[0]]} has no partner on another "
            f"node with SCR_SET_SIZE={set_size}; place ranks evenly, or set SCR_COPY_TYPE=SINGLE"
        )
    return "xor", groups


def form(team: Team, copy_type: str, set_size: int) -> Scheme:
    """Return this rank's scheme. Collective.

    Raises:
        ConfigError: see ``choose_groups``.
    """
    kind, groups = choose_groups(copy_type, team.domains, set_size)
    group = next(group for group in groups if team.rank in group.ranks)
    place = group.ranks.index(team.rank)
    descriptor = Descriptor(
        type=kind,
        groups=len(groups),
        group=group.number,
        ranks=len(group.ranks),
        rank=place,
        world_rank=team.rank,
        world_ranks=team.size,
    )
    return Scheme(descriptor, group.ranks, team.comm.Split(group.number, place))
