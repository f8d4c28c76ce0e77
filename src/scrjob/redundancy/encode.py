# SPDX-License-Identifier: BSD-3-Clause
"""Make the redundancy files of a group whose files all lie on this machine.

The parallel client encodes the same way, with the sum over the members taken by MPI: ``header_of``
gives it the header, ``stripes`` the blocks that it contributes.

Source: docs/formats/redundancy.md.
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Sequence

from scrjob.formats.redset_header import Header, Member
from scrjob.redundancy import combine
from scrjob.redundancy.logical import LogicalReader, Part
from scrjob.redundancy.redset_file import RedsetWriter
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Shape

STRIPED = ("xor", "rs")  # their headers have chunk size and world ranks


def shape_of(members: Sequence[Member]) -> Shape:
    """Return the measures of a new group.

    Raises:
        NotSupportedError: for a scheme that this version does not know.
    """
    descriptor = members[0].descriptor
    sizes = [member.size_bytes for member in members]
    chunk = scheme_for(descriptor.type).chunk_bytes(sizes, descriptor)
    return Shape(descriptor, sizes, chunk)


def header_of(members: Sequence[Member], i: int, chunk: int) -> Header:
    """Return the header of member ``i``'s redundancy file.

    Args:
        members: all members by group rank; only ``i`` and the left neighbours that its header
            describes need their list of files.
        i: group rank.
        chunk: chunk size in bytes; ignored for schemes without chunks.
    """
    n = len(members)
    described = sorted({(i - t) % n for t in range(members[i].descriptor.copies + 1)})
    striped = members[i].descriptor.type in STRIPED
    return Header(
        rank=i,
        members={j: members[j] for j in described},
        chunk_bytes=chunk if striped else None,
        world_ranks=(
            {j: member.descriptor.world_rank for j, member in enumerate(members)}
            if striped
            else None
        ),
    )


def encode_group(
    members: Sequence[Member],
    set_name: str,
    *,
    locate: Callable[[str], str],
    directory: Callable[[int], str],
) -> list[str]:
    """Write the redundancy file of each member and return their paths, by group rank.

    Args:
        members: all members by group rank, with their files as they are to be recorded.
        set_name: ``reddesc`` or ``reddescmap``.
        locate: recorded path of a file -> where to read it.
        directory: group rank -> directory of its redundancy file.

    Raises:
        NotSupportedError: for a scheme that this version does not know.
        FormatError: a file is shorter than recorded.
        OSError: reading or writing failed.
    """
    shape = shape_of(members)
    scheme = scheme_for(shape.descriptor.type)
    paths = []
    with contextlib.ExitStack() as stack:
        data = {}
        for i, member in enumerate(members):
            parts = [Part(locate(file.path), file.size_bytes) for file in member.files]
            data[i] = LogicalReader(parts)
            stack.callback(data[i].close)
        for i, member in enumerate(members):
            path = os.path.join(directory(i), member.descriptor.file_name(set_name))
            writer = RedsetWriter(path, header_of(members, i, shape.chunk), f"{path}.tmp")
            with contextlib.closing(writer):
                combine.run(scheme.encode(shape, data, i, writer))
                writer.commit()
            paths.append(path)
    return paths
