# SPDX-License-Identifier: BSD-3-Clause
"""Protect files in cache: one redundancy set of a dataset, written by all ranks together.

A dataset has two sets: ``reddescmap`` over the filemaps, then ``reddesc`` over the application's files.
On each node the set's state file says 1 (do not trust) until every rank of the program has written its
part, then 2. If any node has 2, all parts are whole.

Source: docs/formats/cache.md and docs/formats/redundancy-header.md.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

from scrjob.client import exchange, layout
from scrjob.client.team import FirstError
from scrjob.errors import FormatError
from scrjob.formats import er, kvtree, redset_header
from scrjob.formats.redset_header import FileStat, Header, Member, ProtectedFile
from scrjob.redundancy.encode import header_of, shape_of
from scrjob.redundancy.logical import LogicalReader, Part
from scrjob.redundancy.redset_file import RedsetWriter

if TYPE_CHECKING:
    from scrjob.client.scheme import Scheme
    from scrjob.client.team import Communicator, Team
    from scrjob.redundancy.shape import Shape

PART = ".part"  # added to the name of a file that is not whole yet


class Place(NamedTuple):
    """One set of one dataset: directory of the dataset, and name of the set."""

    dataset: str
    set_name: str

    def path(self, name: str) -> str:
        """Return the path of one of the set's files."""
        return os.path.join(layout.hidden(self.dataset), name)

    def redset(self, header: Header) -> str:
        """Return the path of the redundancy file that a header belongs to."""
        return self.path(own_member(header).descriptor.file_name(self.set_name))


def own_member(header: Header) -> Member:
    """Return a header's entry of the member that it belongs to."""
    if header.rank is None:
        raise FormatError("a redundancy header without a rank")
    return header.members[header.rank]


def protect(
    team: Team, scheme: Scheme, place: Place, files: Sequence[str], piece_bytes: int
) -> None:
    """Encode this rank's files. Collective.

    Args:
        team: all ranks.
        scheme: this rank's group.
        place: which set.
        files: absolute paths in cache, in the order of the logical file; may be empty.
        piece_bytes: bytes exchanged at a time.

    Raises:
        ScrError: on all ranks; the set is not usable.
    """
    mark(team, place, er.STATE_CORRUPT)
    member = Member(scheme.descriptor, ())
    with team.together("reading the files to be protected"):
        member = Member(scheme.descriptor, tuple(map(protected_file, files)))
    members = scheme.comm.allgather(member)
    shape = shape_of(members)
    header = header_of(members, scheme.descriptor.rank, shape.chunk)
    write_copies(team, place, header)
    team.agree(
        "writing redundancy data", _write_redset(scheme.comm, place, header, shape, piece_bytes)
    )
    conclude(team, place, header)


def mark(team: Team, place: Place, state: int) -> None:
    """Write the state file on every node. Collective."""
    with team.together("writing the state of the redundancy"):
        if team.is_leader:
            kvtree.write(place.path(er.state_name(place.set_name)), er.build_state(state))


def protected_file(path: str) -> ProtectedFile:
    """Return a file with what is recorded of it.

    Raises:
        FormatError: it is no regular file.
        OSError: it is not there.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("not a regular file", path=path)
    return ProtectedFile(path, FileStat.from_os(status))


def parts_of(member: Member) -> list[Part]:
    """Return a member's files as parts of its logical file."""
    return [Part(file.path, file.size_bytes) for file in member.files]


def write_copies(team: Team, place: Place, header: Header) -> None:
    """Write this rank's file of descriptor copies. Collective."""
    own = own_member(header).descriptor
    # A header that SCR has rebuilt in place describes more members than belong here.
    wanted = {(own.rank - t) % own.ranks for t in range(own.copies + 1)}
    kept = [member.descriptor for i, member in header.members.items() if i in wanted]
    copies = {descriptor.world_rank: descriptor for descriptor in kept}
    with team.together("writing descriptor copies"):
        name = redset_header.copies_name(place.set_name, team.rank)
        kvtree.write(place.path(name), redset_header.encode_copies(copies))


def _write_redset(
    comm: Communicator, place: Place, header: Header, shape: Shape, piece_bytes: int
) -> Optional[Exception]:
    """Write header and payload. Collective in the group; returns this rank's own error."""
    path = place.redset(header)
    trouble = FirstError()
    writer = trouble.get(RedsetWriter, path, header, path + PART)
    with contextlib.closing(LogicalReader(parts_of(own_member(header)))) as data:
        out = writer or exchange.NOTHING
        trouble.add(exchange.encode(comm, shape, data, out, piece_bytes))
    if writer is not None:
        trouble.run(writer.commit)
        writer.close()
    return trouble.error


def conclude(team: Team, place: Place, header: Header) -> None:
    """Record which rank owns which file, then that the set is whole. Collective."""
    mine = [file.path for file in own_member(header).files]
    mine.append(place.path(redset_header.copies_name(place.set_name, team.rank)))
    mine.append(place.redset(header))
    everyone = team.node.gather((team.rank, mine))
    with team.together("recording the owners of files"):
        if everyone is not None:
            tree = er.build_shuffile(dict(everyone))
            kvtree.write(place.path(er.shuffile_name(place.set_name)), tree)
    mark(team, place, er.STATE_ENCODED)
