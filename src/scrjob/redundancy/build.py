# SPDX-License-Identifier: BSD-3-Clause
"""Make a scavenged dataset whole and list it: what ``scr_index --build`` does.

Scan, rebuild what redundancy covers, scan again, and only if every file of every rank is there write
the maps, the summary and the index, in this order. A build that fails leaves no summary, so it can be
tried again; an index that cannot be read is set aside, not overwritten.

Source: docs/scavenge.md, "build".
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
)

from scrjob.errors import (
    FormatError,
    ScavengeError,
    UnrecoverableError,
    UnsupportedVersionError,
)
from scrjob.formats import flush, index, kvtree, paths, rank2file, redset_header, summary
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy import inspect, rebuild, usable
from scrjob.redundancy.paths import PrefixGuard, Relocation, sync_dirs
from scrjob.redundancy.redset_file import Heads
from scrjob.redundancy.renewed import Renewed
from scrjob.redundancy.scan import GroupKey, Scan, scan_again, scan_dataset
from scrjob.redundancy.survivors import check_survivors

if TYPE_CHECKING:
    from scrjob.formats.kvtree import KVTree
    from scrjob.formats.redset_header import RedsetName
    from scrjob.redundancy.redset_file import ReadHead
    from scrjob.redundancy.survivors import Suspects

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


class Built(NamedTuple):
    """A dataset that is whole in the prefix.

    Attributes:
        scan: its files.
        rebuilt: path -> CRC32 of the files that were restored from redundancy.
        descriptor: its descriptor, None if nobody knows it.
        directory: where its metadata and redundancy files are.
        guard: tells where its files belong.
        renewed: the redundancy files of the members that were rebuilt, by earlier builds, too.
        repaired: path -> CRC32 of those of ``rebuilt`` that were there, with wrong bytes.
        notes: a line for each damage that was found.
    """

    scan: Scan
    rebuilt: Dict[str, int]
    descriptor: Optional[KVTree]
    directory: str
    guard: PrefixGuard
    renewed: Renewed
    repaired: Dict[str, int]
    notes: List[str]


_HALF_WRITTEN = re.compile(r"\.(?:rank2file(?:\.[0-9]+\.[0-9]+)?|summary\.scr)\.[a-z0-9_]{8}")
"""Temporary names of ``_fsio.atomic_write``."""
_NOTES_HALF_WRITTEN = re.compile(
    r"\.(?:scrjob\.(?:scavenge|pruning)\.(?:json|probe)|scavenge\.[eo].*)\.[a-z0-9_]{8}"
)
"""The same, of what a scavenge writes into the dataset's directory only."""
_SHARED_HALF_WRITTEN = re.compile(r"\.(?:index|flush)\.scr\.[a-z0-9_]{8}")
"""The same, in ``.scr``, where others may be writing now."""
STALE_S = 3600.0  # far more than such a file lives, and than clocks are apart

Verify = Callable[[Built], None]
"""Looks at a dataset before it is called complete; raises ScrError if it is not."""


def build_dataset(
    prefix: str,
    dataset_id: int,
    *,
    now: float,
    host: str,
    on_message: Say,
    moves: Iterable[Relocation] = (),
    force: bool = False,
    descriptor: Optional[KVTree] = None,
    keep_current: bool = False,
    verify: Optional[Verify] = None,
    audit: Optional[Mapping[str, int]] = None,
    explain: Optional[Say] = None,
    keep_record: bool = False,
) -> bool:
    """Make a dataset whole, list it in the index, and tell whether that is done.

    Args:
        prefix: absolute prefix directory.
        dataset_id: which dataset, > 0.
        now: Unix seconds, recorded as the time of the flush.
        host: name of this host, for messages.
        on_message: gets each line of the C tool's stdout.
        moves: relocations of recorded paths.
        force: scan and rebuild although a summary says that the dataset is complete.
        descriptor: what flush.scr should say of the dataset, if it does not.
        keep_current: if the dataset is CURRENT it stays so; else, as with the C tool, CURRENT moves
            to an older one.
        verify: called before anything is written that calls the dataset complete.
        audit: path -> CRC32 of what was copied; with it, be it empty, nothing is restored from members
            before they were checked against each other and against all checksums that are known.
        explain: gets why files are missing for good; default: it is logged.
        keep_record: leave the note of what was rebuilt to a later audit; else, as with the C tool,
            nothing but the dataset is left.

    Raises:
        UnsupportedVersionError: the index is of a newer version; it was not changed.
        ScrError: from ``verify``; with ``audit``, from ``survivors.check_survivors``.
        OSError: reading or writing failed.
    """
    guard = PrefixGuard(prefix, moves)
    builder = _Builder(guard, dataset_id, host, on_message, audit, explain)
    found = _read_summary(guard.prefix, dataset_id)
    if force or found is None or not found.complete or found.descriptor is None:
        built = builder.make_whole(descriptor)
        if built is None:
            return False
        if verify is not None:
            verify(built)
        if built.descriptor is None or built.descriptor.text("NAME") is None:
            builder.error(f"No descriptor of dataset {dataset_id} in flush file in {guard.prefix}")
            return False
        builder.write(built, built.descriptor, keep_record=keep_record)
        found = summary.parse(summary.build(built.descriptor, complete=True))
    if found.name is None or found.descriptor is None:
        builder.error(f"The summary of dataset {dataset_id} has no name")
        return False
    _list(guard.prefix, dataset_id, found.name, found.descriptor, now=now, keep=keep_current)
    return True


def remove_leftovers(directories: Iterable[str], dataset_id: int) -> None:
    """Remove temporary files that killed copies and builds of this dataset left behind.

    For those who hold ``lock.one_at_a_time``, or what others are writing would go, too.
    """
    marks = (
        f".scrjob-copy.{dataset_id}.",
        f"{rebuild.TEMPORARY}scr.dataset.{dataset_id}.",
        f"{rebuild.TEMPORARY}{redset_header.DATA_SET}.",
        f"{rebuild.TEMPORARY}{redset_header.MAP_SET}.",
    )
    for directory in directories:
        for name in os.listdir(directory):
            if name.startswith(".") and (
                (name.startswith(marks) and name.endswith(".tmp")) or _HALF_WRITTEN.fullmatch(name)
            ):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))


def _remove_half_written(
    directory: str, names: re.Pattern[str], older_than: Optional[float] = None
) -> None:
    """Remove what killed processes left; ``older_than``: only if last changed before (Unix seconds)."""
    with contextlib.suppress(OSError), os.scandir(directory) as rows:
        for row in rows:
            with contextlib.suppress(OSError):
                if names.fullmatch(row.name) and (
                    older_than is None or row.stat(follow_symlinks=False).st_mtime < older_than
                ):
                    os.unlink(row.path)


class _Builder:
    def __init__(
        self,
        guard: PrefixGuard,
        dataset_id: int,
        host: str,
        say: Say,
        audit: Optional[Mapping[str, int]],
        explain: Optional[Say],
    ) -> None:
        self.explain = explain or self._log_reason
        self.guard = guard
        self.audit = audit
        self.dataset_id = dataset_id
        self.host = host
        self.say = say
        self.directory = paths.dataset_dir(guard.prefix, dataset_id)
        self.rebuilt: Dict[str, int] = {}
        self.took_part: Set[int] = set()
        self.renewed = Renewed(self.directory)
        self.repaired: Dict[str, int] = {}
        self.notes: List[str] = []
        self.heads = Heads()

    def error(self, text: str) -> None:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        self.say(f"SCR v3.1.0 ERROR: {self.host}: {line}")

    def make_whole(self, descriptor: Optional[KVTree]) -> Optional[Built]:
        """Return the dataset when all of it is there, None when it is not and cannot be."""
        descriptor = self._descriptor() or descriptor
        scan = self._scan()
        missing = scan.missing()
        if missing:
            if not self._rebuild(scan, missing):
                return None
        elif missing is not None:
            self._finish(scan)
        if self.rebuilt:
            scan = scan_again(self.directory, self.guard, self.error, scan, self.took_part)
            missing = scan.missing()
        if missing is None:
            self.error(f"Dataset {self.dataset_id} has more than one value for the number of ranks")
            return None
        if missing:
            self.explain(
                f"files of {len(missing)} ranks are missing ({', '.join(map(str, missing[:9]))}), "
                "and no redundancy file covers them"
            )
            return None
        return Built(
            *(scan, self.rebuilt, descriptor, self.directory, self.guard),
            *(self.renewed, self.repaired, self.notes),
        )

    def _descriptor(self) -> Optional[KVTree]:
        try:
            tree = kvtree.read(paths.flush_file(self.guard.prefix))
        except FileNotFoundError:
            return None
        except FormatError as error:
            self.error(f"Failed to read flush file: {error}")
            return None
        entry = flush.entry(tree, self.dataset_id)
        return entry.descriptor if entry is not None else None

    def _scan(self) -> Scan:
        try:
            return scan_dataset(self.directory, self.guard, self.error)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ScavengeError(
                f"dataset {self.dataset_id} has no directory {self.directory}: nothing was copied"
            ) from error

    def _rebuild(self, scan: Scan, missing: List[int]) -> bool:
        """Rebuild what the scan lacks; tells whether all that is needed could be."""
        absent = set(missing)
        passes = [
            self._damaged(scan, set_name, absent)
            for set_name in (redset_header.MAP_SET, redset_header.DATA_SET)
        ]
        has_filemap = {rank: rank in scan.ranks for rank in missing}
        fileless: Set[int] = set()
        views = {
            key: _view(self.directory, scan, key, self.heads, fileless)
            for damaged in passes
            for key in damaged
        }
        protects_files = scan.bypass is False or any(
            set_name == redset_header.DATA_SET for set_name, _, _ in scan.groups
        )
        verdict = inspect.judge(
            has_filemap, views.values(), protects_files=protects_files, fileless=fileless
        )
        spoiled = {id(group.view): group for group in verdict.groups if not group.tolerated}
        hopeless = {key: spoiled[id(view)] for key, view in views.items() if id(view) in spoiled}
        if verdict.recoverable:
            # Groups of which only redundancy is lost, and too much of it, are no obstacle.
            return all(self._pass(scan, [k for k in keys if k not in hopeless]) for keys in passes)
        # Nothing is rebuilt for a dataset that stays incomplete anyhow.
        for keys in passes:
            self._refuse(
                scan,
                [k for k in keys if k in hopeless and hopeless[k].is_needed(has_filemap)],
            )
        self.explain("; ".join(verdict.reasons()))
        return False

    def _log_reason(self, why: str) -> None:
        where = self.guard.prefix
        logger.warning("dataset %d in %s is not complete: %s", self.dataset_id, where, why)

    def _finish(self, scan: Scan) -> None:
        """Do what a killed build left undone: all files are there, but not the redundancy of some."""
        groups = {(name.set_name, name.type, name.group) for name in self.renewed.unwritten}
        for set_name in (redset_header.MAP_SET, redset_header.DATA_SET):
            self._pass(scan, [key for key in scan.groups if key[0] == set_name and key in groups])

    def _refuse(self, scan: Scan, keys: List[GroupKey]) -> None:
        """Say what the C tool says of groups that cannot be rebuilt; for some schemes it tries."""
        tried = [key for key in keys if key[1] != "xor"]
        for key in tried:
            self.say(rebuild.INSUFFICIENT)
            self._announce(scan, key)
            self.error("Child returned with non-zero")
        if tried:
            self._failed()
        if tried != keys:
            self.error(
                f"Insufficient files to attempt rebuild of dataset {self.dataset_id} "
                f"in {self.directory}"
            )

    def _announce(self, scan: Scan, key: GroupKey) -> None:
        word = "map" if key[0] == redset_header.MAP_SET else key[1]
        self.say(
            f"SCR v3.1.0: {self.host}: Rebuild command: "
            f"scr_rebuild_{key[1]} {word} {' '.join(_names(scan, key))} "
        )
        self.say("")

    def _failed(self) -> None:
        self.error(f"At least one rebuild failed for dataset {self.dataset_id} in {self.directory}")

    @staticmethod
    def _damaged(scan: Scan, set_name: str, absent: Set[int]) -> List[GroupKey]:
        """Return the groups of a set that lack members, or of which ranks lack files."""
        return [
            key
            for key, names in scan.groups.items()
            if key[0] == set_name
            and (len(names) != names[0].members or any(name.rank in absent for name in names))
        ]

    def _pass(self, scan: Scan, damaged: List[GroupKey]) -> bool:
        good = True
        suspects = self._check(scan, damaged)
        if suspects is None:
            self._failed()
            return False
        for key in damaged:
            self._announce(scan, key)
            self.took_part.update(name.rank for name in scan.groups[key])
            wrong = suspects[key].files if key in suspects else frozenset()
            crcs = self.audit or {}
            if wrong:  # they must not come back as they were copied
                crcs = {path: crc for path, crc in crcs.items() if path not in wrong}
            try:
                written = rebuild.rebuild_files(
                    self.directory,
                    _names(scan, key),
                    self.guard,
                    distrusted=suspects[key].distrusted if key in suspects else scan.unreadable,
                    renewed=self.renewed,
                    crcs=crcs,
                    read=self.heads,
                )
            except (FormatError, UnrecoverableError) as error:
                self.error(str(error))
                good = False
            else:
                self.rebuilt.update(written)
                if key in suspects and suspects[key].why:
                    self.notes.append(f"{suspects[key].why}: repaired")
                    self.repaired.update({p: crc for p, crc in written.items() if p in wrong})
        if not good:
            self._failed()
        return good

    def _check(self, scan: Scan, keys: List[GroupKey]) -> Optional[Dict[GroupKey, Suspects]]:
        """Check the survivors of all groups before anything is restored; None if one cannot be had back."""
        found: Dict[GroupKey, Suspects] = {}
        if self.audit is None:
            return found
        good = True
        for key in keys:
            try:
                found[key] = self._suspects(scan, key, self.audit)
            except (FormatError, UnrecoverableError) as error:
                self.error(str(error))
                good = False
        return found if good else None

    def _suspects(self, scan: Scan, key: GroupKey, crcs: Mapping[str, int]) -> Suspects:
        def check(distrusted: Set[str]) -> Suspects:
            return check_survivors(
                self.directory,
                _names(scan, key),
                self.guard,
                crcs=crcs,
                distrusted=distrusted,
                read=self.heads,
            )

        # Who was rebuilt repeats what the others said; but it may be all that is left.
        with contextlib.suppress(UnrecoverableError):
            return check(scan.unreadable | self.renewed.paths)
        return check(scan.unreadable)

    def write(self, built: Built, descriptor: KVTree, *, keep_record: bool) -> None:
        """Write the maps and the summary of a complete dataset."""
        rank2file.write(
            paths.rank2file(self.guard.prefix, self.dataset_id),
            _Entries(built.scan, self.guard),
            built.scan.world_ranks or len(built.scan.ranks),
        )
        directories = {name for name in built.scan.directories if os.path.isdir(name)}
        sync_dirs(directories, self.guard.prefix)
        remove_leftovers(directories | {self.directory}, self.dataset_id)
        _remove_half_written(self.directory, _NOTES_HALF_WRITTEN)
        if not keep_record:
            built.renewed.remove()
        kvtree.write(
            paths.summary_file(self.guard.prefix, self.dataset_id),
            summary.build(descriptor, complete=True),
        )


def _view(
    directory: str, scan: Scan, key: GroupKey, read: ReadHead, fileless: Set[int]
) -> inspect.View:
    """Look at the headers of a group; ``fileless`` gets the ranks that, as they say, have no files."""
    members = []
    for name in scan.groups[key]:
        header = usable.usable_header(os.path.join(directory, str(name)), name, read)
        if header is not None:
            place = header.members[name.member].descriptor
            members.append((key[0], place, usable.told_by(header)))
            if key[0] == redset_header.MAP_SET:
                fileless.update(usable.fileless(header))
    found = inspect.views(members)
    return found[0] if found else inspect.View(key[0], _unknown(scan.groups[key][0]), {}, set())


def _unknown(name: RedsetName) -> Descriptor:
    """Return what only the name of a redundancy file says of its group: it tolerates nothing."""
    return Descriptor(
        *("single", name.groups, name.group, name.members, name.member, name.rank, name.rank + 1)
    )


class _Entries(Mapping[int, "KVTree"]):
    """The entries of rank2file, each made when it is asked for: there can be very many."""

    def __init__(self, scan: Scan, guard: PrefixGuard) -> None:
        self._ranks = scan.ranks
        self._guard = guard

    def __getitem__(self, rank: int) -> KVTree:
        files = self._ranks[rank]
        return rank2file.entry(map(self._guard.relative, files.accepted), files.expected)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ranks)

    def __len__(self) -> int:
        return len(self._ranks)


def _read_summary(prefix: str, dataset_id: int) -> Optional[summary.Summary]:
    """Return the summary, None if there is none that can be read: then all is looked at afresh."""
    try:
        return summary.parse(kvtree.read(paths.summary_file(prefix, dataset_id)))
    except (FileNotFoundError, FormatError):
        return None


def _names(scan: Scan, key: GroupKey) -> List[str]:
    return [str(name) for name in scan.groups[key]]


def _list(
    prefix: str, dataset_id: int, name: str, descriptor: KVTree, *, now: float, keep: bool
) -> None:
    """Enter a complete dataset into the index."""
    path = paths.index_file(prefix)
    found = _read_index(path)
    was_current = found.current() == name
    found.put_complete(dataset_id, name, descriptor, complete=True, when=index.timestamp(now))
    if keep and was_current:
        found.set_current(name)
    found.write(path)
    _remove_half_written(paths.scr_dir(prefix), _SHARED_HALF_WRITTEN, now - STALE_S)


def _read_index(path: str) -> index.Index:
    """Return the index; a new one if there is none. One that cannot be read is set aside.

    Raises:
        UnsupportedVersionError: it can be read and is of another version.
    """
    try:
        return index.Index.read(path)
    except FileNotFoundError:
        return index.Index()
    except FormatError as error:
        if isinstance(error, UnsupportedVersionError) and _has_version(path):
            raise
        kept = f"{path}.damaged"
        logger.warning("%s; kept as %s, starting a new index", error, kept)
        os.replace(path, kept)
        return index.Index()


def _has_version(path: str) -> bool:
    try:
        return "VERSION" in kvtree.read(path)
    except FormatError:
        return False
