# SPDX-License-Identifier: BSD-3-Clause
"""Where the files that a redundancy header names by their cache paths lie in the prefix.

Source: docs/formats/redundancy.md, "rebuild".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scrjob._fsio import read_bounded
from scrjob.errors import FormatError
from scrjob.formats import filemap
from scrjob.formats.places import Reader
from scrjob.redundancy.paths import check_name

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
        self._reader = Reader()
        self._at: dict[str, str] = {}  # recorded directory -> where it is, with a slash
        self.crcs: dict[str, int] = {}

    def __call__(self, member: Member) -> list[str]:
        """Return the paths of a member's files.

        Raises:
            FormatError: the filemap is absent, damaged or does not list one, or the file would be
                outside of the prefix.
        """
        path = os.path.join(self._directory, filemap.file_name(member.descriptor.world_rank))
        try:
            listed = self._reader.read(read_bounded(path), path)
        except FileNotFoundError:
            raise FormatError("no such filemap: rebuild the filemaps first", path=path) from None
        found = []
        for file in member.files:
            record = listed.get(file.path)
            if record is None or record.directory is None or record.name is None:
                raise FormatError(f"does not tell where {file.path!r} belongs", path=path)
            check_name(record.name)
            place = self._where(record.directory) + record.name
            if record.crc is not None:
                self.crcs[place] = record.crc
            found.append(place)
        return found

    def _where(self, recorded: str) -> str:
        """Return the place of a recorded directory, with a slash; most files have the same few."""
        where = self._at.get(recorded)
        if where is None:
            directory = self._guard.directory(recorded)
            self._guard.check_real_dir(directory)
            where = self._at[recorded] = os.path.join(directory, "")
        return where
