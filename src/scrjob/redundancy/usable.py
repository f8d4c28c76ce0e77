# SPDX-License-Identifier: BSD-3-Clause
"""Which redundancy files can be used, and what they tell. Few imports: also for programs on nodes.

Source: docs/formats/redundancy.md, "what can be recovered".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional

from scrjob.errors import FormatError
from scrjob.formats.filemap import EMPTY_BYTES
from scrjob.redundancy.redset_file import read_head

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Descriptor, Header, RedsetName
    from scrjob.redundancy.redset_file import ReadHead


def usable_header(path: str, name: RedsetName, read: ReadHead = read_head) -> Optional[Header]:
    """Return the header of a redundancy file; None if it cannot be read, or is not what its name says.

    Args:
        path: where it is.
        name: its name.
        read: gives what is in it.
    """
    try:
        header, _, payload_bytes = read(path)
    except (FormatError, OSError):
        return None
    mine = header.members.get(name.member)
    if mine is None or mine.descriptor.file_name(name.set_name) != str(name):
        return None
    return header if payload_bytes == _payload_bytes(header, mine.descriptor) else None


def _payload_bytes(header: Header, place: Descriptor) -> int:
    if header.chunk_bytes is not None:
        return header.chunk_bytes * place.copies
    neighbours = [(place.rank - t) % place.ranks for t in range(1, place.copies + 1)]
    if any(i not in header.members for i in neighbours):
        return -1
    return sum(header.members[i].size_bytes for i in neighbours)


def fileless(header: Header) -> List[int]:
    """Return the world ranks that have no files, as far as a header of the set ``reddescmap`` tells.

    It knows the sizes of filemaps; for the other set the answer has no meaning.
    """
    return [
        member.descriptor.world_rank
        for member in header.members.values()
        if [file.size_bytes for file in member.files] == [EMPTY_BYTES]
    ]


def told_by(header: Header) -> Dict[int, int]:
    """Return group rank -> world rank of the members that a header knows."""
    known = {i: member.descriptor.world_rank for i, member in header.members.items()}
    return {**(header.world_ranks or {}), **known}
