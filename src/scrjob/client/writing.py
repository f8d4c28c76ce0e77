# SPDX-License-Identifier: BSD-3-Clause
"""The life of one dataset: opened, completed, protected, flushed in its turn, deleted to make room.

Two rules go beyond SCR's own library. The newest complete checkpoint is never deleted before the next
one is protected, also with SCR_CACHE_SIZE=1. And pure output that is not in the prefix yet is kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob.client.dataset import encode_sets
from scrjob.client.flush import flush_dataset
from scrjob.client.opened import Output, shared_paths
from scrjob.client.policy import is_flush_due
from scrjob.client.team import EXPECTED
from scrjob.errors import DatasetError, ScrError, UsageError
from scrjob.formats import dataset, flush
from scrjob.formats.dataset import Descriptor

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.client.team import Communicator
    from scrjob.formats.cindex import CachedDataset
    from scrjob.formats.kvtree import KVTree

logger = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000


class Request(NamedTuple):
    """A dataset to be opened; ``ckpt`` is its checkpoint counter, None for pure output."""

    id: int
    name: str
    ckpt: Optional[int]
    is_output: bool

    @property
    def kind(self) -> str:
        """Return the word for it in the log; a checkpoint that is output too is a checkpoint."""
        return "OUTPUT" if self.ckpt is None else "CHECKPOINT"


def begin(core: Core, request: Request, now: float) -> Output:
    """Open a dataset. Collective.

    Raises:
        UsageError: on all ranks; the name is none, or ranks gave different ones.
        ScrError: on all ranks; the cache or the prefix cannot take it.
    """
    settings = core.settings
    with core.team.together("opening a dataset"):
        if not request.name.strip() or "\0" in request.name:
            raise UsageError(f"{request.name!r} is no name for a dataset")
    asked = core.team.comm.bcast(request)
    with core.team.together("opening a dataset"):
        if request != asked:
            raise UsageError(f"the ranks do not agree: {request} here, {asked} on rank 0")
    make_room(core, room=1)
    core.log.event(
        f"{request.kind}_START", request.id, request.name, start=now, note=settings.cache_base
    )
    descriptor = dataset.build(
        Descriptor(
            id=request.id,
            name=request.name,
            is_ckpt=request.ckpt is not None,
            is_output=request.is_output,
            created_us=int(core.team.comm.bcast(now) * _MICROSECONDS),
            user=settings.user,
            job_name=settings.job_name,
            job_id=settings.job_id,
            cluster=settings.cluster_name,
            ckpt=request.ckpt,
        )
    )
    if settings.cache_bypass:
        core.team.on_first(
            "listing the dataset in the index",
            lambda: core.prefix.announce(request.id, request.name, descriptor),
        )
    entry = core.cache.put(request.id, descriptor, is_bypass=settings.cache_bypass)
    try:
        core.cache.make_directories(entry.path or "", fresh=True)
    except ScrError:  # agreed: the same on all ranks
        core.cache.remove(request.id)
        raise
    return Output(
        entry, rank=core.team.rank, size=core.team.size, prefix=settings.prefix, started=now
    )


def finish(core: Core, output: Output, valid: bool) -> bool:
    """Close a dataset and protect it; False, and it is gone, if any rank could not. Collective."""
    entry = output.entry
    details = entry.details
    assert details is not None  # noqa: S101 - made by begin
    kind = "CHECKPOINT" if details.is_ckpt else "OUTPUT"
    good = False
    try:
        with core.team.together("completing the dataset"):
            output.sync()
        _settle_shared(core, output)
        with core.team.together("completing the dataset"):
            if not valid:
                raise DatasetError("the program says that it could not write its files")
            output.finish()
        details = details._replace(
            files=core.team.comm.allreduce(len(output.paths)),
            size_bytes=core.team.comm.allreduce(output.size_bytes),
            complete=True,
        )
        descriptor = dataset.build(details)
        entry = entry._replace(descriptor=descriptor)
        _log_transfer(core, "WRITE", output, details)
        encode_sets(core, entry, output.paths)
        core.cache.put(entry.id, descriptor, is_bypass=entry.is_bypass)
        core.team.on_first("updating the flush file", lambda: _list(core, entry.id, descriptor))
        good = True
    except ScrError as error:  # agreed: the same on all ranks
        if core.team.is_first:
            logger.warning("dataset %d (%s) is given up: %s", entry.id, details.name, error)
        discard(core, entry.id)
    core.log.event(
        f"{kind}_END",
        entry.id,
        details.name,
        secs=core.clock.now() - output.started,
        note=core.settings.cache_base,
    )
    _log_transfer(core, kind, output, details)
    return good


def _list(core: Core, dataset_id: int, descriptor: KVTree) -> None:
    """Add a dataset to the flush file. A full prefix does not undo what is safe in cache."""
    try:
        core.prefix.change_flush(lambda tree: flush.put_dataset(tree, dataset_id, descriptor))
    except OSError as error:
        logger.warning("dataset %d is cached, but not in the flush file: %s", dataset_id, error)


def _settle_shared(core: Core, output: Output) -> None:
    """See to files that several ranks have named. Collective.

    In bypass mode they are one file, which is listed once. Out of a cache they would overwrite each other
    in the prefix, and already there, where only the base name counts, those of one node.

    Raises:
        ScrError: on all ranks.
    """
    team = core.team
    shared = _shared(team.comm, output.targets)
    if output.entry.is_bypass:
        output.disown(shared)
        return
    alike = _shared(team.node, output.paths)
    with team.together("completing the dataset"):
        if shared:
            raise DatasetError(
                f"{min(shared)}: another rank writes this file too; ranks can only share files with "
                "SCR_CACHE_BYPASS=1"
            )
        if alike:
            raise DatasetError(
                f"{min(alike)}: another rank of this node has a file of this base name; "
                "in cache they must differ"
            )


def _shared(group: Communicator, paths: list[str]) -> set[str]:
    """Return those paths that a lower rank of the group has too. Collective in the group."""
    everyone = group.gather(paths)
    found: set[str] = group.scatter(None if everyone is None else shared_paths(everyone))
    return found


def _log_transfer(core: Core, label: str, output: Output, details: Descriptor) -> None:
    core.log.transfer(
        label,
        from_=core.settings.cache_base,
        to=output.dataset,
        dset=details.id,
        name=details.name,
        start=output.started,
        secs=core.clock.now() - output.started,
        nbytes=details.size_bytes,
        files=details.files,
    )


def discard(core: Core, dataset_id: int) -> None:
    """Delete a dataset from cache and flush file. Collective."""

    def forget() -> None:
        try:
            core.prefix.change_flush(lambda tree: flush.remove(tree, dataset_id))
        except EXPECTED as error:
            logger.warning("cannot update the flush file: %s", error)

    core.team.on_first("updating the flush file", forget)
    core.cache.remove(dataset_id)


def flush_at_once(core: Core, dataset_id: int) -> None:
    """Flush what does not wait for its turn: output, and what lies in the prefix already. Collective."""
    entry = core.cache.datasets[dataset_id]
    details = entry.details
    if entry.is_bypass or (details is not None and details.is_output):
        flush_dataset(core, entry)


def flush_in_turn(core: Core, dataset_id: int) -> None:
    """Flush a checkpoint if SCR_FLUSH says so. Collective."""
    entry = core.cache.datasets[dataset_id]
    details = entry.details
    if details is None or entry.is_bypass or details.is_output:
        return
    if is_flush_due(details.ckpt, core.settings.flush):
        flush_dataset(core, entry)


def make_room(core: Core, *, room: int) -> None:
    """Delete the oldest datasets until ``room`` more would fit, or none may go. Collective."""
    excess = len(core.cache.datasets) + room - core.settings.cache_size
    if excess <= 0:
        return
    ids = list(core.cache.datasets)
    flushed = core.team.on_first("reading the flush file", lambda: core.prefix.flushed(ids))
    newest = core.cache.newest_checkpoint()
    for entry in list(core.cache.datasets.values()):
        if excess > 0 and entry is not newest and _may_go(entry, flushed):
            discard(core, entry.id)
            excess -= 1


def _may_go(entry: CachedDataset, flushed: set[int]) -> bool:
    details = entry.details
    return details is None or not details.is_output or entry.id in flushed
