# SPDX-License-Identifier: BSD-3-Clause
"""One redundancy set of a cached dataset, made whole again in place.

A member of a group is lost when its redundancy file is missing, or any of its files is missing or of
another size. One lost member of an XOR group is computed from the others. The groups are those that
were recorded, whatever the program's present settings say.

Source: docs/formats/redundancy.md, "rebuild".
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob.client import ring
from scrjob.client.encode import PART, Place, conclude, own_member, parts_of, write_copies
from scrjob.client.team import EXPECTED, FirstError
from scrjob.errors import FormatError, UnrecoverableError
from scrjob.formats import redset_header
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.encode import header_of
from scrjob.redundancy.logical import LogicalReader, LogicalWriter, Part
from scrjob.redundancy.paths import is_below
from scrjob.redundancy.redset_file import RedsetReader, RedsetWriter
from scrjob.redundancy.stripes import role

if TYPE_CHECKING:
    from scrjob.client.team import Communicator, Team
    from scrjob.formats.redset_header import Header, Member


class GroupOf(NamedTuple):
    """A rank's group as recorded: its id, and the members' world ranks."""

    number: int
    members: tuple[int, ...]


class _Work(NamedTuple):
    """What a group works with."""

    comm: Communicator
    group: GroupOf
    place: Place
    piece_bytes: int


class _Output:
    """A lost member on its way: all of it under temporary names until ``commit``."""

    def __init__(self, header: Header, place: Place) -> None:
        member = own_member(header)
        rank = member.descriptor.world_rank
        self._files = member.files
        self._parts = [
            Part(place.path(f"rebuild.{rank}.{number}"), file.size_bytes)
            for number, file in enumerate(member.files)
        ]
        self.data = LogicalWriter(self._parts)
        self.parity: Optional[RedsetWriter] = None
        self._header = header
        self._place = place

    def create(self) -> None:
        """Make the files."""
        _check_places(own_member(self._header), self._place)
        self.data.create()
        path = self._place.redset(self._header)
        self.parity = RedsetWriter(path, self._header, path + PART)

    def commit(self) -> None:
        """Give the files their attributes and names, the redundancy file last."""
        for file, part in zip(self._files, self._parts):
            fd = os.open(part.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                apply_attributes(fd, file.stat)
            finally:
                os.close(fd)
            os.replace(part.path, file.path)
        if self.parity is not None:
            self.parity.commit()

    def close(self) -> None:
        """Remove what has no name yet."""
        self.data.close()
        for part in self._parts:
            with contextlib.suppress(OSError):
                os.unlink(part.path)
        if self.parity is not None:
            self.parity.close()


class _Restored(NamedTuple):
    """A member after the work of its group: what to record of it, its own error, what is to be named."""

    header: Optional[Header]
    error: Optional[Exception] = None
    output: Optional[_Output] = None


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
        if name.member not in header.members:
            raise FormatError("has no entry of its own member", path=path)
        expected = header.chunk_bytes or 0
        if reader.payload_bytes != expected:
            raise FormatError(
                f"expected {expected} bytes of redundancy, got {reader.payload_bytes}", path=path
            )
    return header


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


def make_whole(team: Team, place: Place, piece_bytes: int) -> None:
    """Rebuild what is lost of a set. Collective.

    Raises:
        UnrecoverableError: on all ranks; more is lost than the redundancy covers.
        ScrError: on all ranks; reading or writing failed, nothing was lost by that.
    """
    held: Optional[Header] = None
    with team.together("looking for what is left"):
        held = find(place, team.rank)
        if held is not None and not is_whole(held):
            held = None
    told = team.comm.allgather(None if held is None else _group_of(held))
    groups = {rank: group for group in told if group is not None for rank in group.members}
    lost = _lost([group is None for group in told], groups)
    group = groups[team.rank]
    comm = team.comm.Split(group.number, group.members.index(team.rank))
    done = _Restored(held)
    try:
        work = _Work(comm, group, place, piece_bytes)
        if group.number in lost:
            done = _restore(work, held, lost[group.number])
        # Only when all members have given what they should is it data: no file has its name before.
        team.agree("rebuilding lost files", done.error)
        with team.together("finishing rebuilt files"):
            if done.output is not None:
                done.output.commit()
    finally:
        if done.output is not None:
            done.output.close()
        comm.Free()
    header = done.header
    assert header is not None  # noqa: S101 - else agree has raised
    if lost:
        write_copies(team, place, header)
    conclude(team, place, header)


def _group_of(header: Header) -> GroupOf:
    own = own_member(header).descriptor
    world = header.world_ranks
    members = (own.world_rank,) if world is None else tuple(world[i] for i in sorted(world))
    return GroupOf(own.group, members)


def _lost(is_lost: Sequence[bool], groups: dict[int, GroupOf]) -> dict[int, int]:
    """Return the lost member (group rank) of each group that has lost one; the same on all ranks.

    Raises:
        UnrecoverableError: a group lost more than one, or all.
    """
    lost: dict[int, int] = {}
    for rank, missing in enumerate(is_lost):
        group = groups.get(rank)
        if group is None:
            raise UnrecoverableError(f"the files of rank {rank} and their redundancy are lost")
        if missing:
            if group.number in lost:
                other = group.members[lost[group.number]]
                raise UnrecoverableError(
                    f"the files of ranks {other} and {rank}, one set, are lost"
                )
            lost[group.number] = group.members.index(rank)
    return lost


def _restore(work: _Work, held: Optional[Header], missing: int) -> _Restored:
    """Restore the group's lost member. Collective in the group."""
    headers: list[Optional[Header]] = work.comm.allgather(held)
    known = [header for header in headers if header is not None]
    members: dict[int, Member] = {}
    for header in known:
        members = {**header.members, **members}
    if sorted(members) != list(range(len(work.group.members))):
        error = UnrecoverableError("no surviving header describes the lost member")
        return _Restored(held, error)
    if held is not None:
        return _Restored(held, _give(work, held, missing))
    ordered = [members[i] for i in sorted(members)]
    return _take(work, header_of(ordered, missing, known[0].chunk_bytes or 0))


def _give(work: _Work, header: Header, missing: int) -> Optional[Exception]:
    """Contribute this member's blocks."""
    own = work.comm.rank
    chunk = header.chunk_bytes or 0
    trouble = FirstError()
    parity: Optional[RedsetReader] = None
    try:
        parity = RedsetReader(work.place.redset(header))
    except EXPECTED as error:
        trouble.error = error
    with contextlib.closing(LogicalReader(parts_of(own_member(header)))) as data:

        def read(stripe: int, offset: int, view: memoryview) -> None:
            part = role(stripe, own, work.comm.size)
            if not part.is_parity:
                data.readinto(part.block * chunk + offset, view)
            elif parity is not None:
                parity.readinto(offset, view)

        own_error = ring.restore(work.comm, missing, read, None, chunk, work.piece_bytes)
    if parity is not None:
        parity.close()
    return trouble.error or own_error


def _take(work: _Work, header: Header) -> _Restored:
    """Write the lost member's files and its redundancy file."""
    own = work.comm.rank
    chunk = header.chunk_bytes or 0
    trouble = FirstError()
    output = _Output(header, work.place)
    trouble.run(output.create)

    def write(stripe: int, offset: int, view: memoryview) -> None:
        part = role(stripe, own, work.comm.size)
        if output.parity is None:
            return
        if part.is_parity:
            output.parity.write(offset, view)
        else:
            output.data.write(part.block * chunk + offset, view)

    own_error = ring.restore(work.comm, own, None, write, chunk, work.piece_bytes)
    trouble.error = trouble.error or own_error
    trouble.run(output.data.close)
    return _Restored(header, trouble.error, output)


def _check_places(member: Member, place: Place) -> None:
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
