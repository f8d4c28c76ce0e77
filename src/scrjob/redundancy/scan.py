# SPDX-License-Identifier: BSD-3-Clause
"""What has arrived of a dataset in the prefix: files by rank, redundancy files by group.

Source: docs/scavenge.md, "scan".
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from scrjob.errors import FormatError
from scrjob.formats import filemap, kvtree, redset_header
from scrjob.formats.rank2file import MAX_RANKS
from scrjob.redundancy.redset_file import RedsetReader

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileMeta
    from scrjob.formats.redset_header import RedsetName
    from scrjob.redundancy.paths import PrefixGuard

GroupKey = Tuple[str, str, int]
"""Set name, type and group number."""


class RankFiles(NamedTuple):
    """The files of one rank: how many there should be, and path -> record of those that are right."""

    expected: int
    accepted: Dict[str, FileMeta]

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
    """

    ranks: Dict[int, RankFiles]
    world_ranks: Optional[int]
    groups: Dict[GroupKey, List[RedsetName]]
    unreadable: Set[str]
    crcs: Dict[str, int]

    def missing(self) -> Optional[List[int]]:
        """Return the ranks that lack files, ascending; None if the size of the job is not known."""
        if self.world_ranks is None or self.world_ranks > MAX_RANKS:
            return None
        if any(rank >= self.world_ranks for rank in self.ranks):
            return None
        return [
            rank
            for rank in range(self.world_ranks)
            if rank not in self.ranks or not self.ranks[rank].is_whole
        ]

    def files(self) -> Dict[str, FileMeta]:
        """Return path -> record of all accepted files."""
        return {path: meta for rank in self.ranks.values() for path, meta in rank.accepted.items()}


def scan_dataset(directory: str, guard: PrefixGuard, complain: Callable[[str], None]) -> Scan:
    """Return what there is of the dataset whose metadata is in ``directory``.

    Args:
        directory: ``<prefix>/.scr/scr.dataset.<id>``.
        guard: decides where files belong.
        complain: gets one line for each file that is not right.

    Raises:
        OSError: the directory cannot be listed.
    """
    scanner = _Scanner(guard, complain)
    typed: Dict[GroupKey, List[RedsetName]] = {}
    filemaps: Dict[int, str] = {}
    for name in os.listdir(directory):
        rank = filemap.rank_of(name)
        found = redset_header.parse_name(name)
        if rank is not None:
            filemaps[rank] = os.path.join(directory, name)
        elif found is not None and found.type != "single":
            typed.setdefault((found.set_name, found.type, found.group), []).append(found)
    for rank in sorted(filemaps):
        scanner.filemap(rank, filemaps[rank])
    groups = {key: sorted(typed[key], key=lambda name: name.member) for key in sorted(typed)}
    if scanner.world_ranks is None:
        # No rank that is left has files of its own; the redundancy headers know the size of the job.
        scanner.world_ranks = _world_ranks(directory, groups)
    return Scan(scanner.ranks, scanner.world_ranks, groups, scanner.unreadable, scanner.crcs)


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
    def __init__(self, guard: PrefixGuard, complain: Callable[[str], None]) -> None:
        self.guard = guard
        self.complain = complain
        self.ranks: Dict[int, RankFiles] = {}
        self.world_ranks: Optional[int] = None
        self.unreadable: Set[str] = set()
        self.crcs: Dict[str, int] = {}

    def filemap(self, rank: int, path: str) -> None:
        try:
            listed = filemap.parse(kvtree.read(path))
        except (FormatError, OSError) as error:
            # The C tool gives up here and loses all later ranks; taken as absent it can be rebuilt.
            self.complain(f"Error reading filemap: {error}")
            self.unreadable.add(path)
            return
        accepted: Dict[str, FileMeta] = {}
        for recorded, meta in listed.items():
            place = self._accept(recorded, meta)
            if place is not None and meta is not None:
                accepted[place] = meta
        self.ranks[rank] = RankFiles(len(listed), accepted)

    def _accept(self, recorded: str, meta: Optional[FileMeta]) -> Optional[str]:
        """Return where a file lies in the prefix if it is as recorded; None, and a line, if not."""
        if meta is None or meta.directory is None or meta.name is None:
            self.complain(f"Reading path and name from meta data from {recorded}")
        elif meta.ranks is None:
            self.complain(f"Reading number of ranks from meta data from {recorded}")
        elif meta.stat.size_bytes is None:
            self.complain(f"Reading filesize from meta data from {recorded}")
        else:
            return self._compare(meta, meta.directory, meta.name, meta.ranks)
        return None

    def _compare(self, meta: FileMeta, directory: str, name: str, ranks: int) -> Optional[str]:
        if self.world_ranks is None:
            self.world_ranks = ranks
        try:
            path = self.guard.destination(directory, name)
            self.guard.check_real(path)
        except FormatError as error:
            self.complain(str(error))
            return None
        if meta.crc is not None:
            self.crcs[path] = meta.crc
        wanted = meta.stat.size_bytes
        try:
            status = os.lstat(path)
        except OSError:
            status = None
        if not meta.complete:
            self.complain(f"File is not complete: {path}")
        elif status is None or not stat.S_ISREG(status.st_mode):
            self.complain(f"File does not exist: {path}")
        elif status.st_size != wanted:
            self.complain(
                f"File is {status.st_size} bytes but expected to be {wanted} bytes: {path}"
            )
        elif ranks != self.world_ranks:
            self.complain(
                f"File was created with {ranks} ranks, but expected {self.world_ranks} ranks: {path}"
            )
        else:
            return path
        return None
