# SPDX-License-Identifier: BSD-3-Clause
"""From cache to prefix: copy a dataset's files, then list it in the index.

A dataset in bypass mode has its files in place already and is only listed.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from scrjob.client import layout
from scrjob.client.files import copy
from scrjob.errors import DatasetError, ScrError
from scrjob.formats import filemap, kvtree
from scrjob.formats.flush import PFS, SYNC_FLUSHING
from scrjob.redundancy.paths import PrefixGuard, make_dirs, sync_dirs

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.formats.cindex import CachedDataset

logger = logging.getLogger(__name__)

DIRECTORY_MODE = 0o777  # before the umask


def flush_dataset(core: Core, entry: CachedDataset) -> bool:
    """Bring a complete dataset to the prefix; returns whether that worked. Collective.

    A failure is logged and leaves the dataset in cache, listed as not flushed: a later flush or a
    scavenge may have better luck.
    """
    details = entry.details
    descriptor = entry.descriptor
    if details is None or descriptor is None or details.name is None or entry.path is None:
        raise DatasetError(f"dataset {entry.id} in cache has no descriptor")  # same on all ranks
    name = details.name
    start = core.clock.now()
    core.log.event("FLUSH_START", entry.id, name)
    good = True
    try:
        core.team.on_first("starting a flush", lambda: _begin(core, entry.id, name, entry))
        files: list[str] = []
        with core.team.together("copying files to the prefix"):
            files = _copy_own(core, entry)
        everyone = core.team.comm.gather(files)
        core.team.on_first(
            "listing the dataset in the index",
            lambda: _end(core, entry, name, everyone or []),
        )
    except ScrError as error:  # agreed: the same on all ranks
        good = False
        if core.team.is_first:
            logger.warning("dataset %d (%s) stays in cache only: %s", entry.id, name, error)
            _forget(core, entry.id)
    secs = core.clock.now() - start
    core.log.event("FLUSH_SUCCESS" if good else "FLUSH_FAIL", entry.id, name, secs=secs)
    core.log.transfer(
        "FLUSH_SYNC",
        from_=entry.path,
        to=core.settings.prefix,
        dset=entry.id,
        name=name,
        start=start,
        secs=secs,
        nbytes=details.size_bytes,
        files=details.files,
    )
    return good


def _begin(core: Core, dataset_id: int, name: str, entry: CachedDataset) -> None:
    core.prefix.locate(dataset_id, SYNC_FLUSHING)
    assert entry.descriptor is not None  # noqa: S101 - checked by the caller
    core.prefix.announce(dataset_id, name, entry.descriptor)


def _end(core: Core, entry: CachedDataset, name: str, files: list[list[str]]) -> None:
    assert entry.descriptor is not None  # noqa: S101 - checked by the caller
    core.prefix.publish(entry.id, name, entry.descriptor, files)
    core.prefix.locate(entry.id, PFS)
    core.prefix.locate(entry.id, remove=[SYNC_FLUSHING])


def _forget(core: Core, dataset_id: int) -> None:
    try:
        core.prefix.locate(dataset_id, remove=[SYNC_FLUSHING])
    except OSError as error:
        logger.warning("cannot update the flush file: %s", error)


def _copy_own(core: Core, entry: CachedDataset) -> list[str]:
    """Copy this rank's files; returns their paths relative to the prefix."""
    assert entry.path is not None  # noqa: S101 - checked by the caller
    guard = PrefixGuard(core.settings.prefix)
    done = []
    tree = kvtree.read(layout.filemap_path(entry.path, core.team.rank))
    for path, meta in filemap.parse(tree).items():
        if meta is None:
            raise DatasetError(f"{path}: nothing recorded of it")
        target = guard.destination(meta.directory or "", meta.name or "")
        if target != path:
            make_dirs(os.path.dirname(target), DIRECTORY_MODE)
            copy(
                path,
                target,
                meta.stat,
                core.settings.file_buf_size,
                keep=core.settings.copy_metadata,
            )
        done.append(guard.relative(target))
    sync_dirs({os.path.dirname(os.path.join(guard.prefix, name)) for name in done}, guard.prefix)
    return done
