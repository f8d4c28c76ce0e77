# SPDX-License-Identifier: BSD-3-Clause
"""Files that lie on another node than their rank: moved over messages, in bounded memory.

A relaunch may put a rank on another node, typically when a spare took over. Its files go to the node
where it runs now; the redundancy file goes last, under its own name only when all else has arrived:
without it the others count as lost. Only then the old copies are deleted.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, Sequence

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


def send(comm: Communicator, rank: int, files: Sequence[ProtectedFile], piece_bytes: int) -> bool:
    """Send files to a rank; True, and the files are deleted here, if all of them arrived.

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
    if arrived:
        for file in reversed(files):  # the redundancy file first: without it the rest is not taken
            with contextlib.suppress(OSError):
                os.unlink(file.path)
    return arrived


def receive(
    comm: Communicator, rank: int, dataset: str, piece_bytes: int
) -> tuple[bool, Exception | None]:
    """Take the files that ``send`` sends; they must lie in the directory ``dataset``.

    Returns:
        whether all is here, and this rank's own error; False without an error means that the sender
        could not read its files.
    """
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
    if is_whole:
        for file, part in zip(notice.files, parts):
            trouble.run(os.replace, part, file.path)
    arrived = is_whole and trouble.error is None
    if not arrived:
        for part in parts:
            with contextlib.suppress(OSError):
                os.unlink(part)
    comm.send(arrived, rank, _TAG)
    return arrived, trouble.error


def _create(part: str, path: str, dataset: str) -> int:
    """Return a new file under a temporary name, which no file of the program can have."""
    if not is_below(path, dataset) or ".." in path.split("/"):
        raise FormatError(f"{path!r} is no place in {dataset!r}")
    make_dirs(os.path.dirname(part), DIRECTORY_MODE)
    return create_new(part)
