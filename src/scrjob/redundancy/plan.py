# SPDX-License-Identifier: BSD-3-Clause
"""What of one redundancy group is there, what is lost, and whether that can be had back.

Looks, decides, changes nothing. A member is lost if its redundancy file is absent or damaged, or if
one of its files is absent or of the wrong size.

Source: docs/formats/redundancy.md, "what can be recovered".
"""

from __future__ import annotations

import os
import stat
from typing import Callable, Collection, NamedTuple, Optional, Sequence

from scrjob.errors import FormatError, UnrecoverableError
from scrjob.formats import redset_header
from scrjob.formats.redset_header import Descriptor, Member, RedsetName
from scrjob.redundancy.logical import Part
from scrjob.redundancy.redset_file import Head, ReadHead, read_head
from scrjob.redundancy.schemes import Scheme, scheme_for
from scrjob.redundancy.shape import Shape

MAX_MEMBERS = 1 << 20  # no machine has so many failure domains; a damaged name may
SHOWN = 9  # lost members in a message

Locate = Callable[[Member], "list[str]"]
"""Gives the paths at which the files of a member belong, in their order."""


class GroupPlan(NamedTuple):
    """A group that is whole or can be made whole.

    Attributes:
        directory: where the redundancy files lie.
        set_name: ``reddesc`` or ``reddescmap``.
        scheme: how its bytes are combined.
        shape: its measures.
        members: all members by group rank.
        parts: their files, by group rank, where they are or will be.
        lost: group rank -> why it counts as lost.
        heads: group rank -> what is in the redundancy files that can be read.
    """

    directory: str
    set_name: str
    scheme: Scheme
    shape: Shape
    members: Sequence[Member]
    parts: Sequence[Sequence[Part]]
    lost: dict[int, str]
    heads: dict[int, Head]

    @property
    def where(self) -> str:
        """Return what messages call it."""
        return f"group {self.shape.descriptor.group + 1} ({self.set_name}) in {self.directory}"

    def redset_path(self, i: int) -> str:
        """Return the path of a member's redundancy file."""
        name = self.members[i].descriptor.file_name(self.set_name)
        return os.path.join(self.directory, name)


def plan_group(
    directory: str,
    names: Sequence[str],
    locate: Locate,
    *,
    distrusted: Collection[str] = (),
    read: ReadHead = read_head,
) -> GroupPlan:
    """Return what there is of one group.

    Args:
        directory: where the redundancy files lie.
        names: the names of those of this group that exist; at least one.
        locate: where the files of a member belong; a FormatError of it ends the planning.
        distrusted: paths of files, redundancy files too, that count as lost whatever their size.
        read: gives what is in a redundancy file.

    Raises:
        UnrecoverableError: more is lost than the scheme tolerates.
        NotSupportedError: for a scheme that this version does not know.
        FormatError: the headers contradict each other.
    """
    first, parsed = _parse_names(directory, names)
    scheme = scheme_for(first.type)
    where = f"group {first.group + 1} of {first.groups} ({first.set_name}) in {directory}"
    n = first.members
    lost: dict[int, str] = {}
    seen: dict[int, Head] = {}
    for i in range(n):
        if i not in parsed:
            lost[i] = "no redundancy file"
        else:
            found = _read(os.path.join(directory, str(parsed[i])), parsed[i], distrusted, read)
            if isinstance(found, str):
                lost[i] = found
            else:
                seen[i] = found
    descriptor = next((found.header.members[i].descriptor for i, found in seen.items()), None)
    if descriptor is not None and not scheme.is_possible(descriptor):
        raise FormatError(f"{where}: there is no such group: {descriptor}")
    if descriptor is None or not scheme.tolerates(n, lost.keys(), descriptor):
        raise UnrecoverableError(f"cannot rebuild {where}: lost {describe(lost)}")
    members = _members(seen, n, where)
    sizes = [member.size_bytes for member in members]
    shape = Shape(descriptor, sizes, _chunk(scheme, seen, members, where))
    parts = []
    for i, member in enumerate(members):
        places = locate(member)
        parts.append([Part(path, file.size_bytes) for path, file in zip(places, member.files)])
        why = damage(parts[i], distrusted)
        if i in seen and why is None and seen[i].payload_bytes != scheme.payload_bytes(shape, i):
            why = "its redundancy file has the wrong size"
        if why is not None:
            lost.setdefault(i, why)
    if not scheme.tolerates(n, lost.keys(), descriptor):
        raise UnrecoverableError(f"cannot rebuild {where}: lost {describe(lost)}")
    return GroupPlan(directory, first.set_name, scheme, shape, members, parts, lost, seen)


def describe(lost: dict[int, str]) -> str:
    """Return the lost members (counted from 1, as file names do) and the reasons for a message."""
    shown = "; ".join(f"member {i + 1} ({why})" for i, why in sorted(lost.items())[:SHOWN])
    return shown + (f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else "")


def _parse_names(directory: str, names: Sequence[str]) -> tuple[RedsetName, dict[int, RedsetName]]:
    parsed: dict[int, RedsetName] = {}
    first: Optional[RedsetName] = None
    for name in names:
        found = redset_header.parse_name(name)
        if found is None:
            raise FormatError("not the name of a redundancy file", path=name)
        first = first or found
        same = found._replace(rank=first.rank, member=first.member)
        if same != first or found.member in parsed:
            raise FormatError(f"does not belong to one group with {first}", path=name)
        parsed[found.member] = found
    if first is None:
        raise UnrecoverableError(f"no redundancy file is left in {directory}")
    if first.members > MAX_MEMBERS:
        raise FormatError(f"a group of {first.members} members is impossible", path=str(first))
    return first, parsed


def _read(path: str, name: RedsetName, distrusted: Collection[str], read: ReadHead) -> Head | str:
    """Return what is in a redundancy file, or why it counts as lost."""
    if path in distrusted:
        return f"damaged: {path}"
    try:
        head = read(path)
    except FileNotFoundError:
        return "no redundancy file"
    except (FormatError, OSError) as error:
        return f"its redundancy file cannot be used: {error}"
    # The recorded RANK of a header can be wrong after a rebuild in place; the file's name is right.
    mine = head.header.members.get(name.member)
    if mine is None or mine.descriptor.file_name(name.set_name) != str(name):
        return f"its redundancy file is not that of this member: {path}"
    return head


def _members(seen: dict[int, Head], n: int, where: str) -> list[Member]:
    """Collect the descriptions of all members; a member's own word comes first."""
    known: dict[int, Member] = {}
    for found in seen.values():
        for j, member in found.header.members.items():
            known.setdefault(j, member)
    for i, found in seen.items():
        known[i] = found.header.members[i]
    missing = [i for i in range(n) if i not in known]
    if missing:
        raise UnrecoverableError(
            f"cannot rebuild {where}: no surviving header describes members {missing[:9]} of {n}"
        )
    for i, member in known.items():
        place = member.descriptor
        if i >= n or (place.rank, place.ranks) != (i, n):
            raise FormatError(f"a header describes member {i} as {place.rank} of {place.ranks}")
        if _common(place) != _common(known[0].descriptor):
            raise FormatError(f"{where}: members 0 and {i} are not of one group")
    return [known[i] for i in range(n)]


def _common(place: Descriptor) -> Descriptor:
    """Return a descriptor without what differs between the members of a group."""
    return place._replace(rank=0, world_rank=0)


def _chunk(scheme: Scheme, seen: dict[int, Head], members: list[Member], where: str) -> int:
    chunks = {found.header.chunk_bytes or 0 for found in seen.values()}
    least = scheme.chunk_bytes([member.size_bytes for member in members], members[0].descriptor)
    if len(chunks) != 1 or min(chunks) < least:
        raise FormatError(
            f"{where}: expected chunks of {least} bytes at least, got {sorted(chunks)}"
        )
    return min(chunks)


def damage(parts: Sequence[Part], distrusted: Collection[str] = ()) -> Optional[str]:
    """Return why one of a member's files must be made anew, None if all may stay."""
    for part in parts:
        if part.path in distrusted:
            return f"damaged: {part.path}"
        try:
            status = os.lstat(part.path)
        except FileNotFoundError:
            return f"no {part.path}"
        if not stat.S_ISREG(status.st_mode) or status.st_size != part.size:
            return f"{part.path} is not a file of {part.size} bytes"
    return None
