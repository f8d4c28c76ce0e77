# SPDX-License-Identifier: BSD-3-Clause
"""Make a group whole: write the files and the redundancy files of its lost members.

All is written under temporary names first. Only when every byte is durable, and agrees with the
checksums that are recorded, do the files get their names, the redundancy file last: a process that is
killed leaves a group that counts as lost as before; the build that succeeds removes what it left.

Memory use is that of ``combine``, whatever the sizes of the files.

Source: docs/formats/redundancy.md, "rebuild".
"""

from __future__ import annotations

import contextlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Collection, Mapping, NamedTuple, Optional, Sequence, Union

from scrjob._fsio import fsync_dir, sync_filesystem, syncs_all_and_tells
from scrjob.errors import FormatError, UnrecoverableError
from scrjob.formats import redset_header
from scrjob.redundancy import combine
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.encode import header_of
from scrjob.redundancy.locate import DataLocator, FilemapLocator
from scrjob.redundancy.logical import LogicalReader, LogicalWriter, Part, open_regular
from scrjob.redundancy.openfiles import OpenFiles
from scrjob.redundancy.paths import make_dirs
from scrjob.redundancy.plan import damage, plan_group
from scrjob.redundancy.redset_file import Payload, RedsetWriter, read_head
from scrjob.redundancy.shape import Outputs, Share

if TYPE_CHECKING:
    from scrjob.formats.redset_header import FileStat
    from scrjob.redundancy.paths import PrefixGuard
    from scrjob.redundancy.plan import GroupPlan
    from scrjob.redundancy.redset_file import ReadHead
    from scrjob.redundancy.renewed import Renewed

DIR_MODE = 0o777  # of directories that are made for files, before the umask; as SCR's tools do
TEMPORARY = ".scrjob-rebuild."
SYNC_TOGETHER_FILES = 32
"""Fewer files of a member are synced by themselves: others' unwritten data is no business of ours."""

INSUFFICIENT = "REDSET 0.4.0 ERROR: rank 0 on (null): Insufficient data to rebuild group"
"""What SCR's rebuild tools say, on stdout, when more is lost than the redundancy covers."""


class _Output(NamedTuple):
    """One lost member on its way: its data under temporary names, its redundancy file."""

    data: LogicalWriter
    redset: RedsetWriter


def rebuild_files(
    directory: str,
    names: Sequence[str],
    guard: PrefixGuard,
    *,
    distrusted: Collection[str] = (),
    crcs: Mapping[str, int] = MappingProxyType({}),
    renewed: Optional[Renewed] = None,
    read: ReadHead = read_head,
    workers: Optional[int] = None,
) -> dict[str, int]:
    """Make one group of a dataset in the prefix whole and return path -> CRC32 of what was written.

    Args:
        directory: the dataset's directory; the redundancy files and filemaps lie there.
        names: names of the group's redundancy files that exist; at least one. Filemaps must have been
            rebuilt before application files.
        guard: decides where files belong.
        distrusted: paths of files, redundancy files and filemaps too, that count as lost whatever their
            size.
        crcs: known CRC32 by path, beside those that the filemaps record: what is restored must agree.
        renewed: notes which redundancy files are written.
        read: gives what is in a redundancy file.
        workers: threads that work at the same time; by default one for each processor.

    Raises:
        UnrecoverableError: more is lost than the scheme tolerates.
        NotSupportedError: for a scheme that this version does not know.
        FormatError: headers, filemaps or file names contradict each other.
        OSError: reading or writing failed.
    """
    locate = locator(directory, names, guard)
    plan = plan_group(directory, names, locate, distrusted=distrusted, read=read)
    return rebuild_group(plan, crcs={**crcs, **locate.crcs}, renewed=renewed, workers=workers)


def locator(
    directory: str, names: Sequence[str], guard: PrefixGuard
) -> Union[FilemapLocator, DataLocator]:
    """Return what knows where the files belong that redundancy files of these names protect."""
    if names[0].startswith(f"{redset_header.MAP_SET}."):
        return FilemapLocator(directory)
    return DataLocator(directory, guard)


def rebuild_group(
    plan: GroupPlan,
    *,
    crcs: Mapping[str, int],
    renewed: Optional[Renewed] = None,
    workers: Optional[int] = None,
) -> dict[str, int]:
    """Write what is lost of a group and return path -> CRC32 of the files that were written.

    Args:
        plan: from ``plan_group``; if nothing is lost, nothing is touched.
        crcs: recorded checksums by path of the file; what is restored must agree.
        renewed: notes which redundancy files are written.
        workers: threads that work at the same time; by default one for each processor.

    Raises:
        UnrecoverableError: a restored file has another checksum than the recorded one, so a survivor
            is damaged; nothing was changed.
        FormatError: a survivor is shorter than its header says; nothing was changed.
        OSError: reading or writing failed.
    """
    if not plan.lost:
        return {}
    with contextlib.ExitStack() as stack:
        files = OpenFiles()
        stack.callback(files.close)
        shares = shares_of(plan, files)
        storage = _Storage()
        stack.callback(storage.close)
        outputs = {i: _create(plan, i, files, storage, stack) for i in plan.lost}
        sinks = {i: Outputs(out.data, out.redset) for i, out in outputs.items()}
        combine.run(plan.scheme.restore(plan.shape, shares, sinks), workers=workers)
        written = {}
        for i, out in outputs.items():
            for part, crc in zip(plan.parts[i], out.data.crcs):
                written[part.path] = crc
                if crcs.get(part.path, crc) != crc:
                    raise UnrecoverableError(
                        f"{part.path}: restored with CRC32 {crc:#x}, recorded is "
                        f"{crcs[part.path]:#x}: another file of its group is damaged"
                    )
        _note(plan, {i: out.redset for i, out in outputs.items()}, renewed)
        for i, out in outputs.items():
            _commit(plan, i, out, storage)
    _settle_others(plan)
    return written


def renew_redundancy(
    directory: str,
    names: Sequence[str],
    guard: PrefixGuard,
    *,
    renewed: Optional[Renewed] = None,
    workers: Optional[int] = None,
) -> dict[str, str]:
    """Make anew the redundancy files of a group that are lost or cannot be used, from its files.

    The files are all there and are not written to; ``rebuild_files`` would replace those of these members.

    Args:
        directory: see ``rebuild_files``.
        names: see there.
        guard: see there.
        renewed: see there.
        workers: see there.

    Returns:
        path -> why it had to be.

    Raises: as ``rebuild_files``; FormatError, too, if files are missing.
    """
    plan = plan_group(directory, names, locator(directory, names, guard))
    wrong = next(filter(None, (damage(plan.parts[i]) for i in plan.lost)), None)
    if wrong is not None:
        raise FormatError(f"{plan.where}: {wrong}")
    with contextlib.ExitStack() as stack:
        files = OpenFiles()
        stack.callback(files.close)
        data = {i: LogicalReader(parts, files) for i, parts in enumerate(plan.parts)}
        writers = {i: _redset_writer(plan, i, stack) for i in plan.lost}
        for i, writer in writers.items():
            combine.run(plan.scheme.encode(plan.shape, data, i, writer), workers=workers)
        _note(plan, writers, renewed)
        for writer in writers.values():
            writer.commit()
    if plan.lost:
        fsync_dir(directory)
    return {plan.redset_path(i): why for i, why in plan.lost.items()}


def _note(plan: GroupPlan, writers: Mapping[int, RedsetWriter], renewed: Optional[Renewed]) -> None:
    """Note the redundancy files that get their names next."""
    times = {plan.redset_path(i): writer.sync() for i, writer in writers.items()}
    if renewed is not None and times:
        renewed.note(times)


def shares_of(plan: GroupPlan, files: OpenFiles) -> dict[int, Share]:
    """Return what the members that are there bring; ``files`` keeps descriptors."""
    return {
        i: Share(
            LogicalReader(plan.parts[i], files),
            Payload(plan.redset_path(i), plan.heads[i], files),
        )
        for i in range(plan.shape.n)
        if i not in plan.lost
    }


def _create(
    plan: GroupPlan, i: int, files: OpenFiles, storage: _Storage, stack: contextlib.ExitStack
) -> _Output:
    """Create the new files of a lost member; whatever is not renamed in the end is removed."""
    world_rank = plan.members[i].descriptor.world_rank
    mine = os.urandom(4).hex()  # another build of this dataset may be at work
    temporaries = []
    for index, part in enumerate(plan.parts[i]):
        directory = os.path.dirname(part.path)
        make_dirs(directory, DIR_MODE)
        storage.add(directory)
        # Rank and number keep the names apart within the dataset; the base name may be too long.
        path = os.path.join(
            directory, f"{TEMPORARY}{_mark(plan.directory)}.{world_rank}.{index}.{mine}.tmp"
        )
        temporaries.append(Part(path, part.size))
        stack.callback(_remove, path)
    data = LogicalWriter(temporaries, files)
    data.create()
    return _Output(data, _redset_writer(plan, i, stack))


def _redset_writer(plan: GroupPlan, i: int, stack: contextlib.ExitStack) -> RedsetWriter:
    """Create a member's new redundancy file; it is removed if it is not committed in the end."""
    world_rank = plan.members[i].descriptor.world_rank
    name = f"{TEMPORARY}{plan.set_name}.{world_rank}.{os.urandom(4).hex()}.tmp"
    header = header_of(plan.members, i, plan.shape.chunk)
    writer = RedsetWriter(plan.redset_path(i), header, os.path.join(plan.directory, name))
    stack.callback(writer.close)
    return writer


def _mark(directory: str) -> str:
    """Return what tells the temporary files of one dataset from those of others in one directory."""
    return os.path.basename(directory)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _commit(plan: GroupPlan, i: int, out: _Output, storage: _Storage) -> None:
    """Give the files of a member their attributes and names."""
    temporaries = [part.path for part in out.data.parts]
    stats = [file.stat for file in plan.members[i].files]
    if len(temporaries) < SYNC_TOGETHER_FILES:
        _settle(temporaries, stats, sync=True)
    else:
        _settle(temporaries, stats, sync=False)
        if not storage.sync():
            _settle(temporaries, stats, sync=True)
    for part, temporary in zip(plan.parts[i], temporaries):
        os.replace(temporary, part.path)
    for directory in {os.path.dirname(part.path) for part in plan.parts[i]}:
        fsync_dir(directory)
    out.redset.commit()
    fsync_dir(plan.directory)


def _settle(paths: Sequence[str], stats: Sequence[FileStat], *, sync: bool) -> None:
    """Give new files their attributes; make them durable if ``sync``."""
    for path, stat in zip(paths, stats):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # That an attribute cannot be set is no reason to lose the bytes.
            apply_attributes(fd, stat)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)


def _settle_others(plan: GroupPlan) -> None:
    """Give the files of the members that were there their recorded attributes, too, as SCR's tools do.

    Reading them has changed the time of the last access.
    """
    for i, member in enumerate(plan.members):
        if i in plan.lost:
            continue
        for part, file in zip(plan.parts[i], member.files):
            with contextlib.suppress(FormatError, OSError):
                fd = open_regular(part.path)
                try:
                    apply_attributes(fd, file.stat)
                finally:
                    os.close(fd)


class _Storage:
    """The file systems that are written to, each by an open directory: to make many files durable at once."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}
        self._seen = ""

    def add(self, directory: str) -> None:
        """Take note of a directory before anything is written to it."""
        if directory == self._seen:
            return
        self._seen = directory
        device = os.stat(directory).st_dev
        if device not in self._fds:
            self._fds[device] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self) -> bool:
        """Make all that was written durable; False if each file must be synced by itself."""
        if not all(map(syncs_all_and_tells, self._fds.values())):
            return False
        try:
            for fd in self._fds.values():
                sync_filesystem(fd)
        except OSError:  # may be somebody else's file
            return False
        return True

    def close(self) -> None:
        """Close the directories."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
