# SPDX-License-Identifier: BSD-3-Clause
"""What has arrived of a dataset in the prefix: files by rank, redundancy files by group.

Source: docs/scavenge.md, "scan".
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from scrjob._fsio import read_bounded
from scrjob.errors import FormatError
from scrjob.formats import filemap, redset_header
from scrjob.formats.places import Reader
from scrjob.formats.rank2file import MAX_RANKS
from scrjob.redundancy.inspect import is_believable
from scrjob.redundancy.paths import check_name
from scrjob.redundancy.redset_file import RedsetReader

if TYPE_CHECKING:
    from scrjob.formats.places import Place
    from scrjob.formats.redset_header import RedsetName
    from scrjob.redundancy.paths import PrefixGuard

GroupKey = Tuple[str, str, int]
"""Set name, type and group number."""

Complain = Callable[[str], None]


class RankFiles(NamedTuple):
    """The files of one rank: how many there should be, and path -> bytes of those that are right."""

    expected: int
    accepted: Dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Tell whether all files are right."""
        return len(self.accepted) == self.expected


class Scan(NamedTuple):
    """What there is.

    Attributes:
        ranks: files by world rank; a rank without a readable filemap has no entry.
        world_ranks: size of the job, as the files say; None if none says.
        groups: names of redundancy files by group, each list by ascending member.
        unreadable: paths of filemaps that are there but cannot be read.
        crcs: recorded checksums by path in the prefix, of accepted and of missing files.
        directories: where files belong.
        bypass: whether files were written to the prefix in the first place, so that nothing but the
            filemaps has redundancy; None if no file tells.
    """

    ranks: Dict[int, RankFiles]
    world_ranks: Optional[int]
    groups: Dict[GroupKey, List[RedsetName]]
    unreadable: Set[str]
    crcs: Dict[str, int]
    directories: Set[str]
    bypass: Optional[bool]

    def missing(self) -> Optional[List[int]]:
        """Return the ranks that lack files, ascending; None if no believable size of the job is known."""
        if self.world_ranks is None or self.world_ranks > MAX_RANKS:
            return None
        if not is_believable(
            self.world_ranks, len(self.ranks) + sum(map(len, self.groups.values()))
        ):
            return None
        if any(rank >= self.world_ranks for rank in self.ranks):
            return None
        return [
            rank
            for rank in range(self.world_ranks)
            if rank not in self.ranks or not self.ranks[rank].is_whole
        ]

    def files(self) -> Dict[str, int]:
        """Return path -> bytes of all accepted files."""
        return {path: size for rank in self.ranks.values() for path, size in rank.accepted.items()}


def scan_dataset(directory: str, guard: PrefixGuard, complain: Complain) -> Scan:
    """Return what there is of the dataset whose metadata is in ``directory``.

    Args:
        directory: ``<prefix>/.scr/scr.dataset.<id>``.
        guard: decides where files belong.
        complain: gets one line for each file that is not right.

    Raises:
        OSError: the directory cannot be listed.
    """
    scanner = _Scanner(guard, complain)
    ranks, groups = _listed(directory)
    for rank in ranks:
        scanner.filemap(rank, os.path.join(directory, filemap.file_name(rank)))
    if scanner.world_ranks is None:
        # No rank that is left has files of its own; the redundancy headers know the size of the job.
        scanner.world_ranks = _world_ranks(directory, groups)
    return scanner.result(groups)


def _listed(directory: str) -> Tuple[List[int], Dict[GroupKey, List[RedsetName]]]:
    """Return the ranks that have filemaps and the redundancy files, both in ascending order."""
    typed: Dict[GroupKey, List[RedsetName]] = {}
    ranks: List[int] = []
    for name in os.listdir(directory):
        rank = filemap.rank_of(name)
        if rank is not None:
            ranks.append(rank)
            continue
        found = redset_header.parse_name(name)
        if found is not None and found.type != "single":
            typed.setdefault((found.set_name, found.type, found.group), []).append(found)
    return sorted(ranks), {
        key: sorted(typed[key], key=lambda name: name.member) for key in sorted(typed)
    }


def scan_again(
    directory: str, guard: PrefixGuard, complain: Complain, before: Scan, ranks: Iterable[int]
) -> Scan:
    """Return what there is after a rebuild: only ranks that were not whole or took part are looked at.

    Args:
        directory: see ``scan_dataset``.
        guard: see there.
        complain: see there.
        before: the scan before the rebuild.
        ranks: the members of the groups that were rebuilt.

    Raises:
        OSError: the directory cannot be listed.
    """
    took_part = set(ranks)
    scanner = _Scanner(guard, complain)
    for rank, files in before.ranks.items():
        if files.is_whole and rank not in took_part:
            scanner.ranks[rank] = files
    scanner.world_ranks = before.world_ranks
    scanner.bypass = before.bypass
    scanner.crcs.update(before.crcs)
    scanner.directories.update(before.directories)
    listed, groups = _listed(directory)
    for rank in listed:
        if rank not in scanner.ranks:
            scanner.filemap(rank, os.path.join(directory, filemap.file_name(rank)))
    return scanner.result(groups)


def _world_ranks(directory: str, groups: Dict[GroupKey, List[RedsetName]]) -> Optional[int]:
    for names in groups.values():
        for name in names:
            with contextlib.suppress(FormatError, OSError):
                reader = RedsetReader(os.path.join(directory, str(name)))
                reader.close()
                for member in reader.header.members.values():
                    return member.descriptor.world_ranks
    return None


class _Scanner:
    def __init__(self, guard: PrefixGuard, complain: Complain) -> None:
        self.guard = guard
        self.complain = complain
        self.reader = Reader()
        self.ranks: Dict[int, RankFiles] = {}
        self.world_ranks: Optional[int] = None
        self.unreadable: Set[str] = set()
        self.crcs: Dict[str, int] = {}
        self.directories: Set[str] = set()
        self.bypass: Optional[bool] = None

    def result(self, groups: Dict[GroupKey, List[RedsetName]]) -> Scan:
        ranks = {rank: self.ranks[rank] for rank in sorted(self.ranks)}
        return Scan(
            ranks,
            self.world_ranks,
            groups,
            self.unreadable,
            self.crcs,
            self.directories,
            self.bypass,
        )

    def filemap(self, rank: int, path: str) -> None:
        try:
            listed = self.reader.read(read_bounded(path), path)
        except (FormatError, OSError) as error:
            # The C tool gives up here and loses all later ranks; taken as absent it can be rebuilt.
            self.complain(f"Error reading filemap: {error}")
            self.unreadable.add(path)
            return
        accepted: Dict[str, int] = {}
        at: Dict[str, str] = {}  # recorded directory -> where it is, with a slash; mostly one
        for recorded, place in listed.items():
            if self.bypass is None and place is not None and place.directory and place.name:
                self.bypass = recorded == os.path.join(place.directory, place.name)
            path, size = self._accept(recorded, place, at)
            if path:
                accepted[path] = size
        self.ranks[rank] = RankFiles(len(listed), accepted)

    def _accept(self, recorded: str, place: Optional[Place], at: Dict[str, str]) -> Tuple[str, int]:
        """Return path and bytes of a file if it is as recorded; ("", 0), and a line, if not."""
        if place is None or place.directory is None or place.name is None:
            self.complain(f"Reading path and name from meta data from {recorded}")
        elif place.ranks is None:
            self.complain(f"Reading number of ranks from meta data from {recorded}")
        elif place.size_bytes is None:
            self.complain(f"Reading filesize from meta data from {recorded}")
        else:
            try:
                check_name(place.name)
                directory = at.get(place.directory)
                if directory is None:
                    directory = self.guard.directory(place.directory)
                    self.guard.check_real_dir(directory)
                    self.directories.add(directory)
                    directory = at[place.directory] = os.path.join(directory, "")
            except FormatError as error:
                self.complain(str(error))
                return "", 0
            path = directory + place.name
            if self._is_right(path, place, place.ranks, place.size_bytes):
                return path, place.size_bytes
        return "", 0

    def _is_right(self, path: str, place: Place, ranks: int, size_bytes: int) -> bool:
        if self.world_ranks is None:
            self.world_ranks = ranks
        if place.crc is not None:
            self.crcs[path] = place.crc
        try:
            status = os.lstat(path)
        except (OSError, ValueError):  # a NUL in it
            status = None
        if not place.complete:
            self.complain(f"File is not complete: {path}")
        elif status is None or not stat.S_ISREG(status.st_mode):
            self.complain(f"File does not exist: {path}")
        elif status.st_size != size_bytes:
            self.complain(
                f"File is {status.st_size} bytes but expected to be {size_bytes} bytes: {path}"
            )
        elif ranks != self.world_ranks:
            self.complain(
                f"File was created with {ranks} ranks, but expected {self.world_ranks} ranks: {path}"
            )
        else:
            return True
        return False
