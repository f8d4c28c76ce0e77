# SPDX-License-Identifier: BSD-3-Clause
"""Where the files that a redundancy header names by their cache paths lie in the prefix.

Source: docs/formats/redundancy.md, "rebuild".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scrjob.errors import FormatError
from scrjob.formats import filemap, kvtree

if TYPE_CHECKING:
    from scrjob.formats.redset_header import Member
    from scrjob.redundancy.paths import PrefixGuard


class FilemapLocator:
    """The set ``reddescmap`` protects filemaps: each lies in the dataset's directory by its own name."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.crcs: dict[str, int] = {}

    def __call__(self, member: Member) -> list[str]:
        """Return the paths of a member's filemaps.

        Raises:
            FormatError: a protected file is not the filemap of the member's rank.
        """
        found = []
        mine = filemap.file_name(member.descriptor.world_rank)
        for file in member.files:
            name = os.path.basename(file.path)
            if name != mine:
                raise FormatError(f"expected {mine}, got {file.path!r}", path=self._directory)
            found.append(os.path.join(self._directory, name))
        return found


class DataLocator:
    """The set ``reddesc`` protects application files: the filemap of their rank tells where they belong.

    ``crcs``: the checksums that the filemaps record, by path in the prefix.
    """

    def __init__(self, directory: str, guard: PrefixGuard) -> None:
        self._directory = directory
        self._guard = guard
        self.crcs: dict[str, int] = {}

    def __call__(self, member: Member) -> list[str]:
        """Return the paths of a member's files.

        Raises:
            FormatError: the filemap is absent, damaged or does not list one, or the file would be
                outside of the prefix.
        """
        path = os.path.join(self._directory, filemap.file_name(member.descriptor.world_rank))
        try:
            listed = filemap.parse(kvtree.read(path))
        except FileNotFoundError:
            raise FormatError("no such filemap: rebuild the filemaps first", path=path) from None
        found = []
        for file in member.files:
            meta = listed.get(file.path)
            if meta is None or meta.directory is None or meta.name is None:
                raise FormatError(f"does not tell where {file.path!r} belongs", path=path)
            place = self._guard.destination(meta.directory, meta.name)
            self._guard.check_real(place)
            if meta.crc is not None:
                self.crcs[place] = meta.crc
            found.append(place)
        return found
