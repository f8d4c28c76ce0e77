# SPDX-License-Identifier: BSD-3-Clause
"""After the job: finish the flushes that it left to a transfer which goes on without it.

With SCR_FLUSH_POSTSTAGE the library starts to move a dataset to the prefix and ends without waiting; the
entry in flush.scr stays FLUSHING and nothing calls the dataset complete. Here each of them is
looked at, output sets first, then checkpoints from the newest: if all its files are there, it gets its
summary, is listed, and ``current`` moves to it, forward only; last, its entry leaves flush.scr.
Whatever is killed on the way can be done again. A dataset that is not whole is left alone.

Source: docs/howto/poststage.md.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from scrjob._fsio import fsync_dir
from scrjob.errors import FormatError, ScavengeError, ScrError
from scrjob.formats import dataset, flush, kvtree, paths, rank2file, summary
from scrjob.formats.index import Index
from scrjob.redundancy.logical import open_regular
from scrjob.redundancy.paths import PrefixGuard, sync_dirs

if TYPE_CHECKING:
    from scrjob.formats.flush import FlushEntry
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import Context

CLOCKS_APART_S = 60.0  # nodes whose clocks are further apart have other problems


class UnfinishedTransferError(ScavengeError):
    """Files of a dataset are not in the prefix, or not whole. Attribute ``missing``: those not there."""

    def __init__(self, message: str, missing: Tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class Finished(NamedTuple):
    """One dataset whose transfer was left: ``error`` None if it is complete now, else why it is not."""

    dataset_id: int
    name: str
    error: Optional[ScrError]


def finish_all(prefix: str, context: Context, *, bin_dir: Optional[str] = None) -> List[Finished]:
    """Finish all transfers that flush.scr calls FLUSHING, or of which the transfer library keeps a state.

    Args:
        prefix: absolute prefix directory.
        context: the outside world.
        bin_dir: directory of SCR's own executables, as for ``scrjob.cli``.

    Returns:
        What became of each; [] if none was left.

    Raises:
        FormatError: the flush file is damaged.
        OSError: it cannot be read; FileNotFoundError if the prefix has no directory ``.scr``.
    """
    os.stat(paths.scr_dir(prefix))
    try:
        tree = kvtree.read(paths.flush_file(prefix))
    except FileNotFoundError:
        return []
    done = []
    for entry in _waiting(prefix, tree):
        error: Optional[ScrError] = None
        try:
            finish_flush(prefix, entry, context, bin_dir=bin_dir)
        except ScrError as problem:
            error = problem
        except OSError as problem:
            error = ScavengeError(f"{problem.filename}: {problem.strerror}")
        done.append(Finished(entry.id, entry.name or f"dataset {entry.id}", error))
    return done


def _waiting(prefix: str, tree: KVTree) -> List[FlushEntry]:
    """Return the entries of unfinished transfers: output sets ascending, then the others descending."""
    listed = [flush.entry(tree, number) for number in flush.ids(tree)]
    found = [entry for entry in listed if entry and _is_waiting(prefix, entry)]
    others = [entry for entry in found if not entry.is_output]
    return [entry for entry in found if entry.is_output] + others[::-1]


def _is_waiting(prefix: str, entry: FlushEntry) -> bool:
    if flush.FLUSHING in entry.locations:
        return True
    return flush.PFS not in entry.locations and _has_state(prefix, entry.id)


def finish_flush(
    prefix: str, entry: FlushEntry, context: Context, *, bin_dir: Optional[str] = None
) -> None:
    """Finish one transfer, or raise and change nothing.

    Args:
        prefix: absolute prefix directory.
        entry: the dataset's entry in flush.scr.
        context: the outside world.
        bin_dir: as for ``scrjob.cli``.

    Raises:
        UnfinishedTransferError: files are missing or not whole.
        ScavengeError: the dataset cannot be judged, or the index cannot be changed.
        FormatError: its list of files is damaged.
        OSError: files cannot be read or written.
    """
    from scrjob.cli import SCRFlushFile, SCRIndex  # noqa: PLC0415 - choose their back ends

    descriptor = entry.descriptor
    name = None if descriptor is None else descriptor.text("NAME")
    if descriptor is None or name is None:
        raise ScavengeError("flush.scr does not describe it: nobody knows what must be there")
    flush_file = SCRFlushFile(prefix, context=context, bin_dir=bin_dir)
    if flush_file.can_resume and _has_state(prefix, entry.id) and not flush_file.resume(entry.id):
        raise UnfinishedTransferError("SCR's scr_flush_file could not finish the transfer")
    check_files(prefix, entry.id, descriptor)
    whole = summary.build(descriptor, complete=True)
    kvtree.write(paths.summary_file(prefix, entry.id), whole)
    index = SCRIndex(prefix, context=context, bin_dir=bin_dir)
    # By number, for an older dataset may have the same name.
    if not _is_listed(prefix, entry.id, descriptor) and not index.build(entry.id):
        raise ScavengeError("its files are there, but it could not be entered into the index")
    if entry.is_ckpt and _is_forward(prefix, entry.id) and not index.current(name):
        raise ScavengeError("it is listed, but could not be made current")
    if not flush_file.write_summary(entry.id):
        raise ScavengeError("it is listed, but its entry in flush.scr could not be removed")


def _has_state(prefix: str, dataset_id: int) -> bool:
    """Tell whether the transfer library still keeps the state of a transfer; it removes it at the end."""
    directory = glob.escape(paths.dataset_dir(prefix, dataset_id))
    return bool(glob.glob(os.path.join(directory, "rank_*.state_file")))


def check_files(prefix: str, dataset_id: int, descriptor: KVTree) -> None:
    """Return if all files that rank2file lists are in the prefix, of this dataset, and whole; durable.

    Number and size of all together are those of the descriptor, and none is older than the dataset: they
    are not of another one of its names, which a restart from an older checkpoint uses again.

    Raises:
        UnfinishedTransferError: some are not there, or not whole.
        ScavengeError: the descriptor does not tell numbers and sizes.
        FormatError: rank2file is damaged or names places outside of the prefix.
        OSError: files cannot be read.
    """
    wanted = dataset.parse(descriptor)
    if wanted.files is None or wanted.size_bytes is None or wanted.created_us is None:
        raise ScavengeError("its descriptor tells neither number, size nor age of its files")
    oldest = wanted.created_us / 1e6 - CLOCKS_APART_S
    files = listed_files(prefix, dataset_id)
    missing, directories, size = [], set(), 0
    for name, path in files:
        try:
            status = _settled(path)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(name)
            continue
        if status.st_mtime < oldest:
            raise UnfinishedTransferError(f"{name!r} is older than the dataset: it is not of it")
        size += status.st_size
        directories.add(os.path.dirname(path))
    if missing:
        raise UnfinishedTransferError(
            f"{len(missing)} of {len(files)} files are not there, the first is {missing[0]!r}",
            tuple(missing),
        )
    if (len(files), size) != (wanted.files, wanted.size_bytes):
        raise UnfinishedTransferError(
            f"expected {wanted.files} files of {wanted.size_bytes} bytes together, "
            f"got {len(files)} of {size}"
        )
    sync_dirs(directories, os.path.normpath(prefix))
    fsync_dir(paths.dataset_dir(prefix, dataset_id))


def listed_files(prefix: str, dataset_id: int) -> List[Tuple[str, str]]:
    """Return (name relative to the prefix, path) of the files that rank2file lists.

    Raises:
        UnfinishedTransferError: there is no list, or not of all ranks.
        FormatError: it is damaged, or a file is outside of the prefix.
        OSError: it cannot be read.
    """
    base = paths.rank2file(prefix, dataset_id)
    try:
        listed = rank2file.read(base)
    except FileNotFoundError as error:
        raise UnfinishedTransferError(f"{error.filename}: there is no list of its files") from error
    if listed.missing():
        raise UnfinishedTransferError(
            f"{base}: lists the files of {len(listed.entries)} of {listed.ranks} ranks"
        )
    guard = PrefixGuard(prefix)
    found = []
    for rank in sorted(listed.entries):
        for name in rank2file.files(listed.entries[rank]):
            path = guard.destination(*os.path.split(os.path.join(guard.prefix, name)))
            guard.check_real(path)
            found.append((name, path))
    return found


def _settled(path: str) -> os.stat_result:
    """Return the state of a regular file whose bytes are durable; who moved it may not have cared."""
    fd = open_regular(path)
    try:
        os.fsync(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _read_index(prefix: str) -> Optional[Index]:
    """Return the index, None if there is none that can be read: then the change tells."""
    try:
        return Index.read(paths.index_file(prefix))
    except (FileNotFoundError, FormatError):
        return None


def _is_listed(prefix: str, dataset_id: int, descriptor: KVTree) -> bool:
    """Tell whether the index has this very dataset as complete: listing it again would move current."""
    index = _read_index(prefix)
    entry = None if index is None else index.entry(dataset_id)
    return (
        entry is not None
        and entry.is_valid
        and entry.descriptor.created_us == dataset.parse(descriptor).created_us
    )


def _is_forward(prefix: str, dataset_id: int) -> bool:
    """Tell whether ``current`` is an older checkpoint, or none."""
    index = _read_index(prefix)
    present = None if index is None else index.id_of(index.current() or "")
    return present is None or present < dataset_id
