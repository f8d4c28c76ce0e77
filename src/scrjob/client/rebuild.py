# SPDX-License-Identifier: BSD-3-Clause
"""One redundancy set of a cached dataset, made whole again in place.

A member of a group is lost when its redundancy file is missing, or any of its files is missing or of
another size. What is lost is computed from the other members, as far as the group's scheme goes.

Source: docs/formats/redundancy.md, "rebuild".
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob.client import exchange, held
from scrjob.client.encode import PART, Place, conclude, own_member, parts_of, write_copies
from scrjob.client.survivors import GroupOf, groups_of, word_of
from scrjob.client.team import FirstError
from scrjob.errors import FormatError, ScrError, UnrecoverableError
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.encode import header_of
from scrjob.redundancy.logical import LogicalReader, LogicalWriter, Part
from scrjob.redundancy.redset_file import RedsetReader, RedsetWriter
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Outputs, Shape, Share

if TYPE_CHECKING:
    from scrjob.client.team import Communicator, Team
    from scrjob.formats.redset_header import Header, Member


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
        held.check_places(own_member(self._header), self._place)
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


def make_whole(team: Team, place: Place, piece_bytes: int) -> None:
    """Rebuild what is lost of a set. Collective.

    Raises:
        UnrecoverableError: on all ranks; more is lost than the redundancy covers.
        ScrError: on all ranks; reading or writing failed, nothing was lost by that.
    """
    own: Optional[Header] = None
    with team.together("looking for what is left"):
        own = held.find(place, team.rank)
        if own is not None and not held.is_whole(own):
            own = None
    groups = groups_of(team.comm.allgather(None if own is None else word_of(own)))
    group = groups[team.rank]
    comm = team.comm.Split(group.number, group.ranks.index(team.rank))
    done = _Restored(own)
    try:
        if group.lost:
            done = _restore(_Work(comm, group, place, piece_bytes), own)
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
    if any(one.lost for one in groups):
        write_copies(team, place, header)
    conclude(team, place, header)


def _restore(work: _Work, own: Optional[Header]) -> _Restored:
    """Restore the group's lost members. Collective in the group."""
    headers: list[Optional[Header]] = work.comm.allgather(own)
    known = {i: header for i, header in enumerate(headers) if header is not None}
    try:
        members, shape = _describe(known, work.comm.size)
    except ScrError as error:  # on all members of the group: they look at the same headers
        return _Restored(own, error)
    if own is not None:
        return _Restored(own, _give(work, own, shape))
    return _take(work, header_of(members, work.comm.rank, shape.chunk), shape)


def _describe(headers: dict[int, Header], n: int) -> tuple[list[Member], Shape]:
    """Return all members and the measures of a group, from the headers that are there.

    Raises:
        UnrecoverableError: they do not describe all members.
        FormatError: they contradict each other.
    """
    members: dict[int, Member] = {}
    for header in headers.values():
        members = {**header.members, **members}
    members.update({i: header.members[i] for i, header in headers.items()})  # its own word counts
    if sorted(members) != list(range(n)):
        raise UnrecoverableError("no surviving header describes the lost member")
    ordered = [members[i] for i in range(n)]
    first = own_member(next(iter(headers.values()))).descriptor
    sizes = [member.size_bytes for member in ordered]
    chunks = {header.chunk_bytes or 0 for header in headers.values()}
    least = scheme_for(first.type).chunk_bytes(sizes, first)
    if len(chunks) != 1 or min(chunks) < least:
        raise FormatError(f"expected chunks of {least} bytes at least, got {sorted(chunks)}")
    return ordered, Shape(first, sizes, min(chunks))


def _give(work: _Work, header: Header, shape: Shape) -> Optional[Exception]:
    """Contribute what this member has."""
    trouble = FirstError()
    payload = trouble.get(RedsetReader, work.place.redset(header))
    with contextlib.closing(LogicalReader(parts_of(own_member(header)))) as data:
        share = Share(data, payload or exchange.NOTHING)
        lost = work.group.lost
        trouble.add(exchange.restore(work.comm, shape, lost, share, None, work.piece_bytes))
    if payload is not None:
        payload.close()
    return trouble.error


def _take(work: _Work, header: Header, shape: Shape) -> _Restored:
    """Write a lost member's files and its redundancy file."""
    trouble = FirstError()
    output = _Output(header, work.place)
    trouble.run(output.create)
    outputs = Outputs(output.data, output.parity or exchange.NOTHING)
    lost = work.group.lost
    trouble.add(exchange.restore(work.comm, shape, lost, None, outputs, work.piece_bytes))
    trouble.run(output.data.close)
    return _Restored(header, trouble.error, output)
