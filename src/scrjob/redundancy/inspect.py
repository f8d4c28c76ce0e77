# SPDX-License-Identifier: BSD-3-Clause
"""Can a dataset be had back from what is left of it? The decision alone, from descriptors.

The build asks before it writes anything; ``scr_inspect`` asks before anything is copied.

Source: docs/formats/redundancy.md, "what can be recovered".
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from scrjob.formats.redset_header import DATA_SET, MAP_SET, Descriptor
from scrjob.redundancy.plan import MAX_MEMBERS
from scrjob.redundancy.schemes import scheme_for

SHOWN = 9  # ranks or groups in a message
SURELY_RANKS = 1 << 16
MOST_COVERED = 256  # members of the largest RS group; XOR and PARTNER cover less of each


class View(NamedTuple):
    """One redundancy group, as far as it can be seen.

    Attributes:
        set_name: ``reddesc`` or ``reddescmap``.
        descriptor: of any of its members.
        ranks: group rank -> world rank, of the members that are there and of those that they tell of.
        present: group ranks of the members whose redundancy files can be used.
    """

    set_name: str
    descriptor: Descriptor
    ranks: Dict[int, int]
    present: Set[int]


class GroupVerdict(NamedTuple):
    """A group that lacks members.

    Attributes:
        view: the group.
        lost: group ranks of the lost members, ascending.
        tolerated: whether the others can bring them back.
    """

    view: View
    lost: List[int]
    tolerated: bool

    def is_needed(self, missing: Mapping[int, bool]) -> bool:
        """Tell whether something of a missing rank may depend on this group: more than redundancy is lost."""
        return any(i not in self.view.ranks or self.view.ranks[i] in missing for i in self.lost)

    def __str__(self) -> str:
        """Return one line for people; members count from 1, as file names do."""
        place = self.view.descriptor
        told = ", ".join(
            f"{i + 1} (rank {self.view.ranks[i]})" if i in self.view.ranks else str(i + 1)
            for i in self.lost[:SHOWN]
        )
        more = f" and {len(self.lost) - SHOWN} more" if len(self.lost) > SHOWN else ""
        what = "filemaps" if self.view.set_name == MAP_SET else "files"
        return (
            f"{place.type.upper()} group {place.group + 1} of {place.groups} ({what}): "
            f"lost member {told}{more} of {place.ranks}: "
            f"{'can be rebuilt' if self.tolerated else 'more than the scheme tolerates'}"
        )


class Verdict(NamedTuple):
    """What can be had of a dataset.

    Attributes:
        missing: ranks that lack files, ascending.
        uncovered: those of them that nothing brings back.
        groups: the redundancy groups that lack members.
    """

    missing: List[int]
    uncovered: List[int]
    groups: List[GroupVerdict]

    @property
    def recoverable(self) -> bool:
        """Tell whether all files can be had."""
        return not self.uncovered

    def reasons(self) -> List[str]:
        """Return lines that say why, most important first."""
        lines = []
        if self.uncovered:
            lines.append(f"nothing brings back the files of {_ranks(self.uncovered)}")
        elif self.missing:
            lines.append(f"the files of {_ranks(self.missing)} are rebuilt from redundancy")
        order = sorted(self.groups, key=lambda group: group.tolerated)
        lines += [str(group) for group in order[:SHOWN]]
        if len(order) > SHOWN:
            lines.append(f"{len(order) - SHOWN} groups more lack members")
        return lines


def judge(
    missing: Mapping[int, bool],
    views: Iterable[View],
    *,
    protects_files: bool,
    fileless: Collection[int] = (),
) -> Verdict:
    """Return what can be had of a dataset.

    Args:
        missing: ranks that lack files or a filemap -> whether the filemap is there.
        views: its redundancy groups, at least all that lack members.
        protects_files: the dataset has redundancy for files, not for filemaps alone; without it the
            data is in the prefix already, wherever the lost filemap says.
        fileless: ranks that have no files, as the redundancy of their filemaps says.

    Raises:
        NotSupportedError: for a scheme that is not known.
    """
    covered: Dict[str, Set[int]] = {MAP_SET: set(), DATA_SET: set()}
    groups = []
    for view in views:
        lost = lost_members(view, missing)
        if lost:
            tolerated = _tolerates(view.descriptor, lost)
            groups.append(GroupVerdict(view, lost, tolerated))
            if tolerated:
                covered[view.set_name].update(view.ranks[i] for i in lost if i in view.ranks)
    uncovered = [
        rank
        for rank, has_filemap in sorted(missing.items())
        if not (has_filemap or rank in covered[MAP_SET])
        or (
            (has_filemap or (protects_files and rank not in fileless))
            and rank not in covered[DATA_SET]
        )
    ]
    return Verdict(sorted(missing), uncovered, groups)


def is_believable(world_ranks: int, witnesses: int) -> bool:
    """Tell whether a job can be so large, or a damaged number would have memory filled with missing ranks.

    Args:
        world_ranks: number of ranks, as some file says.
        witnesses: number of files that are there of ranks, each of which may cover some that are lost.
    """
    return world_ranks <= max(SURELY_RANKS, MOST_COVERED * witnesses)


def lost_members(view: View, missing: Mapping[int, bool]) -> List[int]:
    """Return the group ranks of a group's lost members, ascending: their files or redundancy are gone."""
    if view.descriptor.ranks > MAX_MEMBERS:
        return [0]  # no group has so many; it helps nobody
    return [
        i
        for i in range(view.descriptor.ranks)
        if i not in view.present or _is_lost(view.set_name, view.ranks.get(i), missing)
    ]


def _is_lost(set_name: str, rank: Optional[int], missing: Mapping[int, bool]) -> bool:
    if rank is None or rank not in missing:
        return False
    return set_name != MAP_SET or not missing[rank]


def views(members: Iterable[Tuple[str, Descriptor, Mapping[int, int]]]) -> List[View]:
    """Return the groups of which members are there.

    Args:
        members: of each redundancy file that can be used: set, descriptor, what ``usable.told_by`` gives.
    """
    found: Dict[Tuple[str, str, int], View] = {}
    for set_name, place, told in members:
        key = (set_name, place.type, place.group)
        view = found.setdefault(key, View(set_name, place, {}, set()))
        if place.ranks == view.descriptor.ranks:
            view.ranks.update(told)
            view.ranks[place.rank] = place.world_rank
            view.present.add(place.rank)
    return [found[key] for key in sorted(found)]


def _tolerates(place: Descriptor, lost: List[int]) -> bool:
    scheme = scheme_for(place.type)
    return (
        place.ranks <= MAX_MEMBERS
        and scheme.is_possible(place)
        and scheme.tolerates(place.ranks, lost, place)
    )


def _ranks(ranks: List[int]) -> str:
    shown = ", ".join(map(str, ranks[:SHOWN]))
    more = f" and {len(ranks) - SHOWN} more" if len(ranks) > SHOWN else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"
