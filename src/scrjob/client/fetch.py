# SPDX-License-Identifier: BSD-3-Clause
"""From prefix to cache: load the checkpoint that the index names, and protect it again."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob.client import layout
from scrjob.client.dataset import encode_sets
from scrjob.client.files import copy
from scrjob.client.team import EXPECTED
from scrjob.errors import FormatError, ScrError
from scrjob.formats import dataset, filemap, kvtree, paths
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.formats.flush import CACHE, FLUSHING, PFS
from scrjob.redundancy.logical import open_regular
from scrjob.redundancy.paths import PrefixGuard

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.client.prefix import Candidate, Stored
    from scrjob.formats.cindex import CachedDataset

logger = logging.getLogger(__name__)


class _Plan(NamedTuple):
    """What rank 0 found out about a candidate; ``why`` says why it cannot be taken."""

    stored: Optional[Stored]
    why: str
    is_damaged: bool  # else it is only not for this program


def fetch_newest(core: Core) -> Optional[CachedDataset]:
    """Load the checkpoint that the index says, or the next older one that can be read. Collective.

    A dataset that turns out damaged is marked as failed; one of another number of ranks is skipped.

    Returns:
        the dataset in cache, None if there is none to be had.

    Raises:
        ScrError: on all ranks; the cache cannot take it. Nothing is wrong with the dataset then.
    """
    below: Optional[int] = None
    _obey_current(core)
    while True:
        found: Optional[Candidate] = core.team.on_first(
            "choosing a checkpoint to fetch", partial(core.prefix.candidate, below)
        )
        if found is None:
            return None
        below = found.id
        entry = _fetch(core, found)
        if entry is not None:
            return entry


def _obey_current(core: Core) -> None:
    """Do once in a job what SCR_CURRENT asks for."""
    name = core.settings.current
    if name is None or core.cache.current == name:
        return
    core.cache.current = name
    core.cache.store()

    def choose() -> None:
        index = core.prefix.index()
        if index.id_of(name) is None:
            logger.warning("SCR_CURRENT=%s: no such checkpoint in the index", name)
        else:
            core.prefix.change_index(lambda changed: changed.set_current(name))

    core.team.on_first("setting the current checkpoint", choose)


def _fetch(core: Core, found: Candidate) -> Optional[CachedDataset]:
    source = paths.dataset_dir(core.settings.prefix, found.id)
    start = core.clock.now()
    core.log.event("FETCH_START", found.id, found.name, note=source)
    plan: _Plan = core.team.on_first(
        "reading the checkpoint's metadata", lambda: _plan(core, found)
    )
    entry: Optional[CachedDataset] = None
    why = plan.why
    if plan.stored is not None:
        entry, why = _load(core, found, plan.stored)
    secs = core.clock.now() - start
    label = "FETCH_SUCCESS" if entry is not None else "FETCH_FAIL"
    core.log.event(label, found.id, found.name, secs=secs, note=source)
    if entry is None:
        if core.team.is_first:
            logger.warning("cannot fetch %s (dataset %d): %s", found.name, found.id, why)
        if plan.is_damaged or plan.stored is not None:
            core.team.on_first(
                "marking a failed fetch", lambda: core.prefix.fail(found.id, found.name)
            )
        return None
    details = entry.details or dataset.Descriptor(found.id, found.name)
    core.log.transfer(
        "FETCH",
        from_=source,
        to=entry.path,
        dset=found.id,
        name=found.name,
        start=start,
        secs=secs,
        nbytes=details.size_bytes,
        files=details.files,
    )
    core.team.on_first("recording the fetch", lambda: _record(core, entry, found))
    return entry


def _plan(core: Core, found: Candidate) -> _Plan:
    try:
        stored = core.prefix.stored(found.id)
    except EXPECTED as error:
        return _Plan(None, str(error), is_damaged=True)
    if len(stored.files) != core.team.size:
        why = f"it was written by {len(stored.files)} ranks, this program has {core.team.size}"
        return _Plan(None, why, is_damaged=False)
    return _Plan(stored, "", is_damaged=False)


def _record(core: Core, entry: CachedDataset, found: Candidate) -> None:
    core.prefix.change_flush()  # also starts a new file where an old one is damaged
    core.prefix.locate(entry.id, PFS, CACHE, remove=[FLUSHING])
    core.prefix.match_cache(list(core.cache.datasets.values()))
    core.prefix.change_index(lambda index: index.set_current(found.name))


def _load(core: Core, found: Candidate, stored: Stored) -> tuple[Optional[CachedDataset], str]:
    """Copy the files to cache and encode them; (None, why) if the dataset in the prefix is damaged."""
    names = core.team.comm.scatter(stored.files if core.team.is_first else None)
    is_bypass = core.settings.fetch_bypass or _clash(core, names)
    entry = core.cache.put(found.id, stored.descriptor, is_bypass=is_bypass)
    core.cache.make_directories(entry.path or "", fresh=True)
    why = ""
    files: dict[str, FileMeta] = {}
    error: Optional[Exception] = None
    try:
        sources, why = _check_sources(core, names)
        if not why:
            files = _take(core, entry, sources)
            kvtree.write(
                layout.filemap_path(entry.path or "", core.team.rank), filemap.build(files)
            )
    except EXPECTED as caught:
        error = caught
    why = next((text for text in core.team.comm.allgather(why) if text), "")
    try:
        core.team.agree("copying files to the cache", error)
        total = core.team.comm.allreduce(sum(m.stat.size_bytes or 0 for m in files.values()))
        expected = dataset.parse(stored.descriptor).size_bytes
        if not why and expected is not None and total != expected:
            why = f"expected {expected} bytes in all, got {total}"
        if why:
            core.cache.remove(found.id)
            return None, why
        encode_sets(core, entry, list(files))
    except ScrError:  # agreed: the same on all ranks
        core.cache.remove(found.id)
        raise
    return entry, ""


def _clash(core: Core, names: list[str]) -> bool:
    """Tell whether some node would get two files of one base name: such a dataset is read in place."""
    everyone = core.team.node.gather([os.path.basename(name) for name in names])
    together = [name for part in everyone or [] for name in part]
    return not core.team.all_true(len(together) == len(set(together)))


def _check_sources(core: Core, names: list[str]) -> tuple[list[str], str]:
    """Return where this rank's files are in the prefix, and what is wrong with the first bad one."""
    guard = PrefixGuard(core.settings.prefix)
    sources = []
    for name in names:
        try:
            directory, base = os.path.split(os.path.join(core.settings.prefix, name))
            source = guard.destination(directory, base)
            guard.check_real(source)
            os.close(open_regular(source))
        except (FormatError, OSError) as error:
            return [], str(error)
        sources.append(source)
    return sources, ""


def _take(core: Core, entry: CachedDataset, sources: list[str]) -> dict[str, FileMeta]:
    """Copy this rank's files, or take them where they are in bypass mode."""
    files: dict[str, FileMeta] = {}
    for source in sources:
        directory, name = os.path.split(source)
        target = source if entry.is_bypass else os.path.join(entry.path or "", name)
        recorded = FileStat.from_os(os.stat(source))
        if target != source:
            copy(
                source,
                target,
                recorded,
                core.settings.file_buf_size,
                keep=core.settings.copy_metadata,
            )
        files[target] = FileMeta(
            complete=True,
            ranks=core.team.size,
            orig=source,
            directory=directory,
            name=name,
            stat=FileStat.from_os(os.stat(target)),
        )
    return files
