# SPDX-License-Identifier: BSD-3-Clause
"""Which redundancy a program has: the scheme, this rank's group, and the group's communicator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob.errors import ConfigError
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy import gf256
from scrjob.redundancy.groups import Group, form_groups, single_groups

if TYPE_CHECKING:
    from scrjob.client.team import Communicator, Team

REPLICAS = 1  # of PARTNER: SCR 3.1 has no setting for more


class Wish(NamedTuple):
    """What the user asks for: SCR_COPY_TYPE, SCR_SET_SIZE, and SCR_SET_FAILURES, which is for RS."""

    copy_type: str
    set_size: int
    set_failures: int = 2


class Scheme(NamedTuple):
    """A rank's place; ``comm`` has the group's members, its ranks are the group ranks."""

    descriptor: Descriptor
    comm: Communicator


class Choice(NamedTuple):
    """What all ranks have: the scheme as descriptors name it, its parameters, and the groups."""

    type: str
    groups: list[Group]
    replicas: Optional[int] = None
    parity: Optional[int] = None


def choose_groups(wish: Wish, domains: Sequence[str]) -> Choice:
    """Return the scheme in force and the groups of the whole job.

    A job on a single node has nobody to share with: SINGLE, whatever was asked for. RS for one failure
    is XOR, and RS for as many failures as there are ranks is PARTNER, as in SCR.

    Args:
        wish: what was asked for.
        domains: failure domain of each rank.

    Raises:
        ConfigError: some rank has too few others in its group, or a group is too large for RS.

    Source: docs/formats/redundancy.md, "groups"; docs/howto/python-client.md, "Settings".
    """
    kind = _kind(wish, domains)
    if kind == "single":
        return Choice(kind, single_groups(len(domains)))
    groups = form_groups(domains, wish.set_size)
    parity = wish.set_failures if kind == "rs" else None
    for group in groups:
        _check(wish, group, domains, parity or 1)
    return Choice(kind, groups, REPLICAS if kind == "partner" else None, parity)


def _kind(wish: Wish, domains: Sequence[str]) -> str:
    if len(set(domains)) == 1:
        return "single"
    if wish.copy_type == "RS" and wish.set_failures == 1:
        return "xor"
    if wish.copy_type == "RS" and wish.set_failures == len(domains):
        return "partner"
    return wish.copy_type.lower()


def _check(wish: Wish, group: Group, domains: Sequence[str], others: int) -> None:
    """Refuse a group that is too small to lose ``others`` of its members, or too large."""
    size = len(group.ranks)
    asked = f"SCR_COPY_TYPE={wish.copy_type}"
    if wish.copy_type == "RS":
        asked += f" with SCR_SET_FAILURES={wish.set_failures}"
    if size <= others:
        first = group.ranks[0]
        partners = {1: "no partner", 2: "only 1 partner"}.get(size, f"only {size - 1} partners")
        raise ConfigError(
            f"{asked}: rank {first} on {domains[first]} has "
            f"{partners} on another node with SCR_SET_SIZE={wish.set_size}, expected {others} at "
            "least; place ranks evenly on more nodes, or set SCR_COPY_TYPE=SINGLE"
        )
    if others > 1 and size + others > gf256.ELEMENTS:
        raise ConfigError(
            f"{asked}: a set of {size} ranks is too large, expected {gf256.ELEMENTS - others} at "
            "most; set a lower SCR_SET_SIZE"
        )


def form(team: Team, wish: Wish) -> Scheme:
    """Return this rank's scheme. Collective.

    Raises:
        ConfigError: on all ranks; see ``choose_groups``.
    """
    choice = choose_groups(wish, team.domains)
    group = next(group for group in choice.groups if team.rank in group.ranks)
    place = group.ranks.index(team.rank)
    descriptor = Descriptor(
        type=choice.type,
        groups=len(choice.groups),
        group=group.number,
        ranks=len(group.ranks),
        rank=place,
        world_rank=team.rank,
        world_ranks=team.size,
        replicas=choice.replicas,
        parity=choice.parity,
    )
    return Scheme(descriptor, team.comm.Split(group.number, place))
