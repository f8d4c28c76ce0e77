# SPDX-License-Identifier: BSD-3-Clause
"""Many files made durable and named together: the bytes first, then the names, then the journal.

A file has its name only when its bytes are durable, and its line in the journal only when its name is.
Where the kernel tells of failed writes, one sync of the file system does for all small files of a batch;
elsewhere each file is synced by itself, by several threads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

from scrjob._fsio import sync_filesystem, syncs_all_and_tells
from scrjob.node._crew import LARGE_BYTES
from scrjob.node._transfer import Place
from scrjob.node.journal import line
from scrjob.redundancy.paths import make_dirs, sync_dirs

if TYPE_CHECKING:
    from scrjob.node._crew import Crew
    from scrjob.node._transfer import Transfer
    from scrjob.node.journal import Journal
    from scrjob.redundancy.paths import PrefixGuard

BATCH_FILES = 8192
BATCH_PLACES = 256  # each holds a descriptor
BATCH_BYTES = 1 << 30  # what a KILL may cost
SYNC_TOGETHER_FILES = (
    32  # fewer are synced by themselves: others' unwritten data is no business of ours
)


class Batch:
    """The files that are on their way, and the directories where they will have their names.

    Args:
        crew: copies them.
        guard: of the prefix.
        journal: gets a line for each file that is there for good; None: no journal.

    Attributes:
        is_full: it is time to commit.
    """

    def __init__(self, crew: Crew, guard: PrefixGuard, journal: Optional[Journal]) -> None:
        self._crew = crew
        self._guard = guard
        self._journal = journal
        self._transfers: list[Transfer] = []
        self._places: dict[str, Place] = {}
        self._small = self._bytes = 0
        self.is_full = False
        self._together: dict[int, bool] = {}

    def place(self, directory: str, mode: int) -> Place:
        """Return a directory of the prefix, opened, made first if it is not there.

        Raises:
            FormatError: links lead out of the prefix.
            OSError: it cannot be had.
        """
        place = self._places.get(directory)
        if place is None:
            self._guard.check_real(os.path.join(directory, "."))
            make_dirs(directory, mode)
            place = self._places[directory] = Place(directory, self._guard.relative(directory))
            if len(self._places) >= BATCH_PLACES:
                self.is_full = True
        return place

    def add(self, transfer: Transfer) -> None:
        """Copy a file whose place is one of this batch."""
        transfers = self._transfers
        transfers.append(transfer)
        self._bytes += transfer.size
        self._small += transfer.size < LARGE_BYTES
        self._crew.copy(
            transfer,
            syncs_alone=self._small > SYNC_TOGETHER_FILES
            and not self._is_synced_together(transfer.place),
        )
        if len(transfers) >= BATCH_FILES or self._bytes >= BATCH_BYTES:
            self.is_full = True

    def commit(self) -> None:
        """Give all files that could be copied their names, for good. What fails is noted in them."""
        self._crew.wait()
        self._sync_files()
        for transfer in self._good():
            try:
                transfer.settle()
            except OSError as error:
                transfer.discard(error)
        self._sync_places()
        if self._journal is not None:
            self._journal.add(map(_line, self._good()))
        self._clear()

    def abandon(self, error: Exception) -> None:
        """Leave nothing of the files that have no names yet."""
        for transfer in self._transfers:
            transfer.discard(error)
        self._clear()

    def _clear(self) -> None:
        for place in self._places.values():
            place.close()
        self._places = {}
        self._transfers = []
        self._small = self._bytes = 0
        self.is_full = False

    def _good(self) -> list[Transfer]:
        return [transfer for transfer in self._transfers if transfer.error is None]

    def _is_synced_together(self, place: Place) -> bool:
        answer = self._together.get(place.device)
        if answer is None:
            answer = self._together[place.device] = syncs_all_and_tells(place.fd)
        return answer

    def _sync_files(self) -> None:
        open_ones: dict[int, list[Transfer]] = {}
        for transfer in self._good():
            if not transfer.durable:
                open_ones.setdefault(transfer.place.device, []).append(transfer)
        for transfers in open_ones.values():
            if not self._sync_together(len(transfers), [t.place for t in transfers]):
                for transfer in transfers:
                    try:
                        transfer.make_durable()
                    except OSError as error:
                        transfer.discard(error)

    def _sync_places(self) -> None:
        by_device: dict[int, list[Place]] = {}
        for place in {transfer.place for transfer in self._good()}:
            by_device.setdefault(place.device, []).append(place)
        for places in by_device.values():
            if self._sync_together(len(places), places):
                continue
            for place in places:
                try:
                    sync_dirs([place.path], self._guard.prefix)
                except OSError as error:  # they have their names, but for how long
                    for transfer in self._good():
                        if transfer.place is place:
                            transfer.error = error

    def _sync_together(self, number: int, places: list[Place]) -> bool:
        """Sync a file system as a whole; False if that is not worth it, not to be relied on, or failed.

        The descriptor was opened before anything of the batch was written, so no failed write of it
        can have been told to somebody else only.
        """
        if number < SYNC_TOGETHER_FILES or not self._is_synced_together(places[0]):
            return False
        try:
            sync_filesystem(places[0].fd)
        except OSError:
            return False  # which file it was, only its own sync can tell
        return True


def _line(transfer: Transfer) -> str:
    return line(
        transfer.place.relative(transfer.name),
        transfer.size,
        transfer.mtime_ns,
        transfer.source.mtime_ns,
        transfer.found,
    )
