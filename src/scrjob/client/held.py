# SPDX-License-Identifier: BSD-3-Clause
"""What this node holds of a redundancy set: sound redundancy files, and whether their files are there.

Source: docs/formats/redundancy.md, "what can be recovered".
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.client.encode import Place, own_member
from scrjob.client.team import EXPECTED
from scrjob.errors import FormatError
from scrjob.formats import redset_header
from scrjob.redundancy.paths import is_below
from scrjob.redundancy.plan import MAX_MEMBERS
from scrjob.redundancy.redset_file import RedsetReader
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Shape

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Header, Member


def read_header(path: str) -> Header:
    """Return the header of a redundancy file that is as long as it should be.

    The group rank is taken from its name: SCR 3.1 can leave a wrong one in the header.

    Raises:
        FormatError: it is damaged.
        OSError: it cannot be read.
    """
    name = redset_header.parse_name(os.path.basename(path))
    if name is None:
        raise FormatError("no name of a redundancy file", path=path)
    with contextlib.closing(RedsetReader(path)) as reader:
        header = reader.header._replace(rank=name.member)
        member = header.members.get(name.member)
        if member is None or member.descriptor.file_name(name.set_name) != str(name):
            raise FormatError("has no entry of its own member", path=path)
        possible = scheme_for(name.type).is_possible(member.descriptor)
        if not possible or name.members > MAX_MEMBERS:
            raise FormatError(f"an impossible group: {member.descriptor}", path=path)
        expected = _payload_bytes(header, member)
        if reader.payload_bytes != expected:
            raise FormatError(
                f"expected {expected} bytes of redundancy, got {reader.payload_bytes}", path=path
            )
    return header


def _payload_bytes(header: Header, own: Member) -> int:
    """Return how long a member's payload is: its header describes all members that this depends on."""
    place = own.descriptor
    sizes = [0] * place.ranks
    for i, member in header.members.items():
        if i < place.ranks:
            sizes[i] = member.size_bytes
    shape = Shape(place, sizes, header.chunk_bytes or 0)
    return scheme_for(place.type).payload_bytes(shape, place.rank)


def find(place: Place, rank: int) -> Optional[Header]:
    """Return the header of a rank's redundancy file on this node, None if it has no sound one."""
    try:
        names = sorted(os.listdir(os.path.dirname(place.path("x"))))
    except FileNotFoundError:
        return None
    for name in names:
        found = redset_header.parse_name(name)
        if found is not None and (found.set_name, found.rank) == (place.set_name, rank):
            with contextlib.suppress(*EXPECTED):  # damaged counts as lost
                return read_header(place.path(name))
    return None


def is_whole(header: Header) -> bool:
    """Tell whether all files that a member protects are there with their recorded sizes."""
    for file in own_member(header).files:
        try:
            status = os.lstat(file.path)
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
            return False
    return True


def check_places(member: Member, place: Place) -> None:
    """Refuse to restore a member's files outside of the dataset, or over another rank's.

    Raises:
        FormatError: one would be.
        OSError: the set cannot be listed.
    """
    for file in member.files:
        if not is_below(file.path, place.dataset) or ".." in file.path.split("/"):
            raise FormatError(f"{file.path!r} is no place in {place.dataset!r}")
    refuse_others(place, member.descriptor.world_rank, [file.path for file in member.files])


def refuse_others(place: Place, rank: int, paths: Sequence[str]) -> None:
    """Refuse paths at which this node holds a file of another rank: in cache only base names differ.

    Raises:
        FormatError: there is one.
        OSError: the set cannot be listed.
    """
    there = {path for path in paths if os.path.lexists(path)}
    if not there:
        return
    for name in os.listdir(os.path.dirname(place.path("x"))):
        found = redset_header.parse_name(name)
        if found is None or found.set_name != place.set_name or found.rank == rank:
            continue
        header = find(place, found.rank)
        for file in () if header is None else own_member(header).files:
            if file.path in there:
                raise FormatError(f"holds the file of rank {found.rank}", path=file.path)
