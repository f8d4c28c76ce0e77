# SPDX-License-Identifier: BSD-3-Clause
"""Restart in place: what the nodes still hold of each cached dataset, completed and put where it is needed.

For each dataset of the cache index, oldest first: files that lie on another node than their rank are
moved, lost members of redundancy groups are rebuilt, and what was recorded is compared with what is
there. A dataset that cannot be completed is dropped from the cache. An error of the machine (no space,
no permission) is not a loss: it is raised, and everything stays for a scavenge.

Source: docs/howto/python-client.md, "Restart in place".
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from typing import TYPE_CHECKING, Iterator, NamedTuple, NoReturn, Optional, Sequence

from scrjob.client import layout, move
from scrjob.client.encode import Place, own_member
from scrjob.client.held import find, read_header, refuse_others
from scrjob.client.opened import shared_paths
from scrjob.client.rebuild import make_whole
from scrjob.client.team import EXPECTED
from scrjob.errors import FormatError, ScrError, UnrecoverableError
from scrjob.formats import er, filemap, kvtree, redset_header
from scrjob.formats.redset_header import DATA_SET, MAP_SET
from scrjob.redundancy.paths import PrefixGuard

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.client.team import Team
    from scrjob.formats.cindex import CachedDataset
    from scrjob.formats.redset_header import ProtectedFile

logger = logging.getLogger(__name__)


class _Survey(NamedTuple):
    """What one node holds of one set: is it encoded, whose redundancy files, written by how many ranks."""

    is_encoded: bool
    ranks: tuple[int, ...]
    world: Optional[int]


def restore_cache(core: Core) -> None:
    """Make every dataset in cache usable again or drop it. Collective.

    Raises:
        ScrError: on all ranks; a dataset could not be completed for a reason that may pass.
    """
    core.cache.load()
    start = core.clock.now()
    tried = False
    for entry in list(core.cache.datasets.values()):
        details = entry.details
        if details is None or not details.complete:
            core.cache.remove(entry.id)  # was being written when the last run ended
            continue
        tried = True
        core.log.event("REBUILD_START", entry.id)
        try:
            _restore_dataset(core, entry)
        except UnrecoverableError as error:  # agreed: the same on all ranks
            core.log.event("REBUILD_FAIL", entry.id)
            if core.team.is_first:
                logger.warning("dataset %d is lost from the cache: %s", entry.id, error)
            core.cache.remove(entry.id)
        else:
            core.log.event("REBUILD_SUCCESS", entry.id)
    core.cache.store()
    cached = list(core.cache.datasets.values())
    core.team.on_first("updating the flush file", lambda: core.prefix.match_cache(cached))
    if tried:
        newest = max(core.cache.datasets, default=None)
        label = "RESTART_FAIL" if newest is None else "RESTART_SUCCESS"
        core.log.event(label, newest, start=start, secs=core.clock.now() - start)


def _restore_dataset(core: Core, entry: CachedDataset) -> None:
    path = entry.path or ""
    sets = (MAP_SET,) if entry.is_bypass else (MAP_SET, DATA_SET)
    surveys = {name: _survey(core, Place(path, name)) for name in sets}
    for found in surveys.values():
        _check(core, entry, found)
    core.cache.make_directories(path, fresh=False)
    for name in sets:
        place = Place(path, name)
        if name == DATA_SET:
            _refuse_clashes(core, entry)
        _move(core, place, surveys[name])
        make_whole(core.team, place, core.settings.mpi_buf_size)
    foreign = ""
    complaint = ""
    with core.team.together("checking restored files"):
        foreign, complaint = _complaints(core, path)
    others = core.team.comm.allgather(foreign)
    if any(others):
        text = f"dataset {entry.id} in cache belongs elsewhere: {next(filter(None, others))}"
        if entry.is_bypass:  # nothing but metadata is here
            raise UnrecoverableError(text)
        _pass_over(core, entry, text, "start in its own SCR_PREFIX")
    complaints = core.team.comm.allgather(complaint)
    first = next((text for text in complaints if text), None)
    if first is not None:
        raise UnrecoverableError(first)


def _survey(core: Core, place: Place) -> dict[str, _Survey]:
    """Return what each node holds of a set. Collective."""
    team = core.team
    mine: Optional[_Survey] = None
    with team.together("looking into the cache"):
        if team.is_leader:
            mine = _look(place)
    everyone = team.comm.allgather(mine)
    return {team.domains[rank]: found for rank, found in enumerate(everyone) if found is not None}


def _look(place: Place) -> _Survey:
    try:
        names = os.listdir(layout.hidden(place.dataset))
    except FileNotFoundError:
        return _Survey(False, (), None)
    parsed = [redset_header.parse_name(name) for name in names]
    own = [found for found in parsed if found is not None and found.set_name == place.set_name]
    world: Optional[int] = None
    for found in own:
        try:
            header = read_header(place.path(str(found)))
        except EXPECTED:
            continue
        world = header.members[found.member].descriptor.world_ranks
        break
    return _Survey(_is_encoded(place), tuple(sorted({f.rank for f in own})), world)


def _is_encoded(place: Place) -> bool:
    try:
        return er.is_encoded(kvtree.read(place.path(er.state_name(place.set_name))))
    except (FileNotFoundError, FormatError):
        return False


def _check(core: Core, entry: CachedDataset, found: dict[str, _Survey]) -> None:
    """Refuse a dataset that this run cannot take; the decision is the same on all ranks.

    Raises:
        UnrecoverableError: there is nothing to rebuild from.
        ScrError: there is, but not for this program: nothing must be deleted.
    """
    # Every rank's part was whole before the first node wrote that the set is encoded.
    if not any(survey.is_encoded for survey in found.values()):
        raise UnrecoverableError("its encoding was never finished")
    worlds = {survey.world for survey in found.values() if survey.world is not None}
    if worlds - {core.team.size}:
        text = f"dataset {entry.id} in cache is of {max(worlds)} ranks, not {core.team.size}"
        _pass_over(core, entry, text, "start as many ranks")


def _pass_over(core: Core, entry: CachedDataset, text: str, advice: str) -> NoReturn:
    """Refuse a dataset that is not for this run. Collective.

    Raises:
        UnrecoverableError: it is in the prefix too.
        ScrError: it is not.
    """
    if core.team.on_first("reading the flush file", lambda: bool(core.prefix.flushed([entry.id]))):
        raise UnrecoverableError(text)
    raise ScrError(
        f"{text}, and this prefix directory does not have it ({entry.path}); {advice}, save it with "
        "scr_postrun, set another SCR_JOB_ID if it is another simulation's, or SCR_CACHE_PURGE=1 to "
        "give it up"
    )


def _refuse_clashes(core: Core, entry: CachedDataset) -> None:
    """Refuse a placement that brings two files of one base name to a node, as far as filemaps tell.

    Raises:
        ScrError: see ``_pass_over``.
    """
    team = core.team
    names: list[str] = []
    with contextlib.suppress(*EXPECTED):  # a filemap that cannot be read is told in the end
        tree = kvtree.read(layout.filemap_path(entry.path or "", team.rank))
        names = list(filemap.parse(tree))
    everyone = team.node.gather(names)
    shared: set[str] = team.node.scatter(None if everyone is None else shared_paths(everyone))
    clashes = team.comm.allgather(min(shared, default=None))
    first = next((name for name in clashes if name is not None), None)
    if first is not None:
        text = f"dataset {entry.id} in cache has two files {first!r} for ranks of one node now"
        _pass_over(core, entry, text, "place the ranks as before")


class _Move(NamedTuple):
    """A rank's files of a set are to go from one node to another."""

    rank: int
    source: str
    target: str


def _move(core: Core, place: Place, found: dict[str, _Survey]) -> None:
    """Move each rank's files to the node where it runs. Collective; every rank has the same plan."""
    team = core.team
    moves = _moves(team, found)
    if not moves:
        return
    piece = core.settings.mpi_buf_size
    error: Optional[Exception] = None
    sent: dict[int, list[ProtectedFile]] = {}
    received: Optional[move.Received] = None
    for rank, source, _ in moves:
        sender = team.leader_of(source)
        if team.rank == sender:
            files = _files_of(place, rank)
            if move.send(team.comm, rank, files, piece):
                sent[rank] = files
        elif team.rank == rank:
            received = move.receive(team.comm, sender, place.dataset, piece)
            error = received.error
    try:
        team.agree("moving files to their ranks' nodes", error)
        for wave in _waves(moves):
            ranks = {one.rank for one in wave}
            with team.together("naming moved files"):
                if received is not None and received.arrived and team.rank in ranks:
                    refuse_others(place, team.rank, [file.path for file in received.files])
                    received.commit()
            for rank in ranks & set(sent):
                move.delete(sent[rank])
            team.comm.barrier()
    finally:
        if received is not None:
            received.discard()


def _moves(team: Team, found: dict[str, _Survey]) -> list[_Move]:
    moves = []
    for rank in range(team.size):
        here = team.domains[rank]
        holders = [name for name in team.domain_names() if rank in _ranks(found, name)]
        if holders and here not in holders:
            moves.append(_Move(rank, holders[0], here))
    return moves


def _waves(moves: Sequence[_Move]) -> Iterator[list[_Move]]:
    """Yield moves such that a node gets files when those that leave it are gone, as far as that goes.

    Ranks may use the same base names on different nodes, and a spare shifts all of them.
    """
    todo = list(moves)
    while todo:
        leaving = {one.source for one in todo}
        wave = [one for one in todo if one.target not in leaving]
        yield wave or todo
        todo = [one for one in todo if one.target in leaving] if wave else []


def _ranks(found: dict[str, _Survey], domain: str) -> tuple[int, ...]:
    survey = found.get(domain)
    return () if survey is None else survey.ranks


def _files_of(place: Place, rank: int) -> list[ProtectedFile]:
    """Return what exists of a rank's files of a set on this node, the redundancy file last.

    One whose redundancy file is damaged has nothing worth moving: it will be rebuilt.
    """
    header = find(place, rank)
    if header is None:
        return []
    names = [file.path for file in own_member(header).files]
    names += [place.path(redset_header.copies_name(place.set_name, rank)), place.redset(header)]
    return [found for found in map(_existing, names) if found is not None]


def _existing(path: str) -> Optional[ProtectedFile]:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return redset_header.ProtectedFile(path, redset_header.FileStat.from_os(status))


def _complaints(core: Core, dataset: str) -> tuple[str, str]:
    """Return why this rank's files are not of this prefix, and what is wrong with them; "" if nothing.

    Raises:
        OSError: they cannot be looked at, which says nothing about them.
    """
    rank, size = core.team.rank, core.team.size
    path = layout.filemap_path(dataset, rank)
    guard = PrefixGuard(core.settings.prefix)
    try:
        files = filemap.parse(kvtree.read(path))
    except (FormatError, FileNotFoundError) as error:
        return "", f"rank {rank}: {error}"
    for name, meta in files.items():
        if meta is None or not meta.complete or meta.ranks != size:
            return "", f"rank {rank}: {name} was not complete"
        try:
            guard.destination(meta.directory or "", meta.name or "")
        except FormatError as error:
            return str(error), ""
        try:
            found = os.stat(name).st_size
        except FileNotFoundError as error:
            return "", f"rank {rank}: {error}"
        if found != meta.stat.size_bytes:
            return "", f"rank {rank}: {name}: expected {meta.stat.size_bytes} bytes, got {found}"
    return "", ""
