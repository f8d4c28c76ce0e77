# SPDX-License-Identifier: BSD-3-Clause
"""Files that lie on another node than their rank: moved over messages, in bounded memory.

A relaunch may put a rank on another node, typically when a spare took over. Its files go to the node
where it runs now, first under temporary names. They get their own names only when all of them have
arrived and the node has nothing of another rank under these names; the redundancy file last, for
without it the others count as lost. Only then the old copies are deleted.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

import numpy as np

from scrjob.client import layout, ring
from scrjob.client.team import EXPECTED, FirstError
from scrjob.errors import FormatError
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.logical import create_new, open_regular, read_exactly, write_exactly
from scrjob.redundancy.paths import is_below, make_dirs

if TYPE_CHECKING:
    from scrjob.client.team import Communicator
    from scrjob.formats.redset_header import ProtectedFile

_TAG = 72
DIRECTORY_MODE = 0o700


class _Notice(NamedTuple):
    """What is about to be sent: files with sizes, and which of them can be read at all."""

    files: list[ProtectedFile]


class Received(NamedTuple):
    """What came from another node: files, where they lie for the moment, and how it went.

    ``arrived``: all is here; False without an error means that the sender could not read its files.
    """

    files: Sequence[ProtectedFile]
    parts: Sequence[str]
    arrived: bool
    error: Optional[Exception]

    def commit(self) -> None:
        """Give the files their names, the last one last.

        Raises:
            OSError: one cannot be named; the last one then is not, either.
        """
        for file, part in zip(self.files, self.parts):
            os.replace(part, file.path)

    def discard(self) -> None:
        """Remove what still has a temporary name."""
        for part in self.parts:
            with contextlib.suppress(OSError):
                os.unlink(part)


def send(comm: Communicator, rank: int, files: Sequence[ProtectedFile], piece_bytes: int) -> bool:
    """Send files to a rank; returns whether all of them arrived.

    Args:
        comm: all ranks.
        rank: who gets them.
        files: what exists of them; the redundancy file last.
        piece_bytes: bytes sent at a time.
    """
    comm.send(_Notice(list(files)), rank, _TAG)
    buffer = np.empty(max(1, piece_bytes), dtype=np.uint8)
    trouble = FirstError()
    for file in files:
        fd = -1
        try:
            fd = open_regular(file.path)
        except EXPECTED as error:
            trouble.error = trouble.error or error
        try:
            for offset, length in ring.pieces(file.size_bytes, piece_bytes):
                piece = buffer[:length]
                trouble.run(read_exactly, fd, offset, memoryview(piece), file.path)
                comm.Send(piece, rank, _TAG)
        finally:
            if fd >= 0:
                os.close(fd)
    comm.send(trouble.error is None, rank, _TAG)
    arrived: bool = comm.recv(source=rank, tag=_TAG)
    return arrived


def delete(files: Sequence[ProtectedFile]) -> None:
    """Delete what was sent and has its names on the other node."""
    for file in reversed(files):  # the redundancy file first: without it the rest is not taken
        with contextlib.suppress(OSError):
            os.unlink(file.path)


def receive(comm: Communicator, rank: int, dataset: str, piece_bytes: int) -> Received:
    """Take the files that ``send`` sends; they must belong in the directory ``dataset``."""
    notice: _Notice = comm.recv(source=rank, tag=_TAG)
    buffer = np.empty(max(1, piece_bytes), dtype=np.uint8)
    trouble = FirstError()
    parts = [
        os.path.join(layout.hidden(dataset), f"move.{comm.rank}.{number}")
        for number in range(len(notice.files))
    ]
    for file, part in zip(notice.files, parts):
        fd = -1
        if trouble.error is None:
            try:
                fd = _create(part, file.path, dataset)
            except EXPECTED as error:
                trouble.error = error
        try:
            for offset, length in ring.pieces(file.size_bytes, piece_bytes):
                piece = buffer[:length]
                comm.Recv(piece, rank, _TAG)
                trouble.run(write_exactly, fd, offset, memoryview(piece))
            if fd >= 0:
                trouble.run(apply_attributes, fd, file.stat)
        finally:
            if fd >= 0:
                os.close(fd)
    is_whole: bool = comm.recv(source=rank, tag=_TAG)
    received = Received(notice.files, parts, is_whole and trouble.error is None, trouble.error)
    if not received.arrived:
        received.discard()
    comm.send(received.arrived, rank, _TAG)
    return received


def _create(part: str, path: str, dataset: str) -> int:
    """Return a new file under a temporary name, which no file of the program can have."""
    if not is_below(path, dataset) or ".." in path.split("/"):
        raise FormatError(f"{path!r} is no place in {dataset!r}")
    make_dirs(os.path.dirname(part), DIRECTORY_MODE)
    return create_new(part)
