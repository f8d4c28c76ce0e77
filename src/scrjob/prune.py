# SPDX-License-Identifier: BSD-3-Clause
"""Delete old checkpoints from the prefix: what is more than SCR_PREFIX_SIZE, as the library does.

The order makes a KILL at any line harmless: a dataset is taken off the index first, so that nothing that is
listed ever lacks files; then its summary goes, without which nobody can list it again; then its files, the
list of which goes last. A note in its directory lets the next pruning go on with it.

Source: docs/scavenge.md, "pruning"; docs/decisions/026-pruning.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple, Optional

from scrjob._fsio import atomic_write, fsync_dir, read_bounded
from scrjob.errors import FormatError
from scrjob.formats import flush, kvtree, paths, rank2file
from scrjob.formats.index import Index
from scrjob.redundancy.paths import PrefixGuard
from scrjob.scavenge.flushes import MARKS
from scrjob.scavenge.record import PRUNING, complete_files
from scrjob.scavenge.settings import ScavengeSettings

if TYPE_CHECKING:
    from scrjob.formats.index import IndexEntry
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
Real = Callable[[str], str]

DIRECTORIES = 4096  # of which it is remembered where they are in truth


class Pruned(NamedTuple):
    """A dataset that was deleted."""

    dataset_id: int
    name: str
    files: int


def prune(prefix: str, newest_id: int, keep: int, say: Say) -> list[Pruned]:
    """Delete checkpoints older than the ``keep`` newest up to ``newest_id``; returns what was deleted.

    Only datasets count as kept that are complete, have not failed and whose files are all there. Never
    deleted: output, the current checkpoint, what is newer than the oldest that is kept, files that a dataset
    that stays has, too. Nothing is deleted while it is not known which files those are.

    Args:
        prefix: absolute prefix directory.
        newest_id: a checkpoint that was verified a moment ago.
        keep: how many stay, ``newest_id`` among them; 0: all.
        say: is told of each dataset.

    Raises:
        FormatError, OSError: the index cannot be read or written, or a file cannot be deleted.
    """
    if keep <= 0:
        return []
    index = Index.read(paths.index_file(prefix))
    doomed = _too_many(prefix, index, newest_id, keep)
    left = _half_deleted(prefix, index)
    if not doomed and not left:
        return []
    gone = {*left, *(entry.id for entry in doomed)}
    real = _follower()
    try:
        _refuse_flushes(prefix, gone)
        stay = _files_of_others(prefix, gone, real)
    except (OSError, FormatError) as error:
        say(
            f"no old checkpoint is deleted, for the files of another dataset are not known: {error}"
        )
        return []
    done = []
    for entry in doomed:
        name = entry.descriptor.name or ""
        _take_off(prefix, index, entry)
        files = _delete(prefix, entry.id, stay, real)
        say(f"deleted checkpoint {name} (dataset {entry.id}): the prefix keeps {keep}")
        done.append(Pruned(entry.id, name, files))
    for dataset_id, name in left.items():
        files = _delete(prefix, dataset_id, stay, real)
        say(f"deleted what was left of checkpoint {name} (dataset {dataset_id})")
        done.append(Pruned(dataset_id, name, files))
    return done


def prune_after(jobenv: JobEnvironment, saved_id: int, say: Say) -> None:
    """Prune as SCR_PREFIX_SIZE wants it, now that ``saved_id`` is verified; a failure is only told."""
    keep = ScavengeSettings.from_param(jobenv.param).keep
    if keep <= 0:
        return
    try:
        prune(jobenv.dir_prefix(), saved_id, keep, say)
    except (FormatError, OSError) as error:
        say(f"not all old checkpoints could be deleted: {error}")


def _too_many(prefix: str, index: Index, newest_id: int, keep: int) -> list[IndexEntry]:
    """Return the checkpoints to delete, oldest first."""
    kept = 0
    doomed = []
    for entry in index.entries():
        if entry.id > newest_id or not entry.descriptor.is_ckpt:
            continue
        if kept < keep:
            # What is listed and not there must not count for one of the few that stay.
            kept += entry.is_valid and complete_files(prefix, entry.id) is not None
        elif not entry.descriptor.is_output and _may_go(index, entry):
            doomed.append(entry)
    return [entry for entry in reversed(doomed) if _has_list(prefix, entry.id)]


def _may_go(index: Index, entry: IndexEntry) -> bool:
    """Tell whether an entry is not current, and is what its name stands for: a name may be used anew."""
    name = entry.descriptor.name
    return name is not None and name != index.current() and index.id_of(name) == entry.id


def _has_list(prefix: str, dataset_id: int) -> bool:
    """Tell whether the files of a dataset are known; else it is left alone."""
    try:
        rank2file.read(paths.rank2file(prefix, dataset_id))
    except (OSError, FormatError) as error:
        logger.warning(
            "old dataset %d is not deleted, its files are not known: %s", dataset_id, error
        )
        return False
    return True


def _half_deleted(prefix: str, index: Index) -> dict[int, str]:
    """Return id -> name of the datasets that a pruning which was killed had begun to delete.

    One that is listed (again) is whole: the killed one had not taken it off, or its number is used anew.
    """
    found = {}
    for dataset_id in _directories(prefix):
        note = os.path.join(paths.dataset_dir(prefix, dataset_id), PRUNING)
        try:
            name = str(json.loads(read_bounded(note))["name"])
        except FileNotFoundError:
            continue
        except (OSError, FormatError, ValueError, KeyError, TypeError, RecursionError):
            name = "?"
        if index.entry(dataset_id) is None:
            found[dataset_id] = name
        else:
            os.unlink(note)
    return found


def _directories(prefix: str) -> list[int]:
    found = (paths.dataset_dir_id(name) for name in os.listdir(paths.scr_dir(prefix)))
    return sorted(number for number in found if number is not None)


def _follower() -> Real:
    """Return what tells where a file is in truth: two datasets may know a directory by different names."""
    real_dir = lru_cache(DIRECTORIES)(os.path.realpath)
    return lambda path: os.path.join(real_dir(os.path.dirname(path)), os.path.basename(path))


def _refuse_flushes(prefix: str, gone: Iterable[int]) -> None:
    """Raise FormatError if a dataset is being flushed, or may be, of whose files there is no list yet."""
    path = paths.flush_file(prefix)
    try:
        tree = kvtree.read(path)
    except FileNotFoundError:
        return
    for dataset_id in set(flush.ids(tree)).difference(gone):
        entry = flush.entry(tree, dataset_id)
        if entry is None or not set(MARKS).intersection(entry.locations):
            continue
        if not os.path.lexists(paths.rank2file(prefix, dataset_id)):
            raise FormatError(f"dataset {dataset_id} is being flushed", path=path)


def _files_of_others(prefix: str, gone: Iterable[int], real: Real) -> set[str]:
    """Return the true paths of those files of ``gone`` that a dataset which stays has, too.

    No more is kept in memory than what is to be deleted: a prefix may hold very many output sets.

    Raises:
        FormatError, OSError: a dataset that stays has a list that cannot be read.
    """
    going = list(gone)
    doomed: set[str] = set()
    for dataset_id in going:
        with contextlib.suppress(FileNotFoundError, FormatError):  # as when it is deleted
            doomed.update(map(real, _listed(prefix, dataset_id)))
    stay: set[str] = set()
    for dataset_id in set(_directories(prefix)).difference(going):
        # Without a list it is being written, or was never complete.
        if os.path.lexists(paths.rank2file(prefix, dataset_id)):
            stay.update(doomed.intersection(map(real, _listed(prefix, dataset_id))))
    return stay


def _listed(prefix: str, dataset_id: int) -> Iterator[str]:
    for tree in rank2file.read(paths.rank2file(prefix, dataset_id)).entries.values():
        for name in rank2file.files(tree):
            yield os.path.normpath(os.path.join(prefix, name))


def _take_off(prefix: str, index: Index, entry: IndexEntry) -> None:
    """Note what is about to be done, then take a dataset off the index."""
    content = json.dumps({"dataset": entry.id, "name": entry.descriptor.name})
    note = os.path.join(paths.dataset_dir(prefix, entry.id), PRUNING)
    atomic_write(note, content.encode("ascii"))
    index.remove(entry.descriptor.name or "")
    index.write(paths.index_file(prefix))


def _delete(prefix: str, dataset_id: int, stay: set[str], real: Real) -> int:
    """Delete a dataset that is not listed any more; returns how many files of the program went."""
    hidden = paths.dataset_dir(prefix, dataset_id)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(paths.summary_file(prefix, dataset_id))
    fsync_dir(hidden)
    deleted = 0
    parents: set[str] = set()
    guard = PrefixGuard(prefix)
    listed: list[str] = []
    with contextlib.suppress(
        FileNotFoundError, FormatError
    ):  # all of its files were deleted before
        listed = list(_listed(prefix, dataset_id))
    for path in listed:
        if real(path) not in stay and _unlink(guard, path):
            deleted += 1
        parents.add(os.path.dirname(path))
    _remove_empty(guard.prefix, parents)
    _remove_hidden(hidden)
    return deleted


def _unlink(guard: PrefixGuard, path: str) -> bool:
    """Delete a file if it is one and inside of the prefix; tells whether it did."""
    try:
        guard.destination(*os.path.split(path))
        guard.check_real(path)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            logger.warning("not deleted, for it is no file any more: %r", path)
            return False
        os.unlink(path)
    except FileNotFoundError:
        return False
    except FormatError as error:
        logger.warning("not deleted: %s", error)
        return False
    return True


def _remove_empty(prefix: str, directories: Iterable[str]) -> None:
    """Remove directories that have become empty, and their parents, up to the prefix."""
    scr = paths.scr_dir(prefix)
    for lowest in sorted(directories, key=len, reverse=True):
        directory: Optional[str] = lowest
        while directory and directory.startswith(prefix.rstrip("/") + "/") and directory != scr:
            try:
                os.rmdir(directory)
            except OSError:  # not empty, or gone
                break
            directory = os.path.dirname(directory)


def _remove_hidden(hidden: str) -> None:
    """Remove the metadata: the list of files and the note go last. What is no plain file stays."""
    with os.scandir(hidden) as rows:
        names = [row.name for row in rows if row.is_file(follow_symlinks=False)]
    last = ["rank2file", PRUNING]
    for name in [name for name in names if name not in last] + last:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(hidden, name))
    try:
        os.rmdir(hidden)
    except OSError as error:
        logger.warning("%s stays: %s", hidden, error.strerror)
