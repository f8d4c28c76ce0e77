# SPDX-License-Identifier: BSD-3-Clause
"""Copies of single files between cache and prefix, in bounded memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scrjob.errors import FormatError
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.logical import open_regular

if TYPE_CHECKING:
    from scrjob.formats.redset_header import FileStat

NEW_MODE = 0o666  # before the umask


def copy(source: str, target: str, recorded: FileStat, buffer_bytes: int, *, keep: bool) -> None:
    """Copy a regular file, durably; what was at the target is overwritten.

    Args:
        source: file to be read.
        target: file to be written; its directory must exist.
        recorded: what is known of the file; its size, if known, must be right.
        buffer_bytes: memory to use.
        keep: put mode and times back.

    Raises:
        FormatError: the source is no regular file or has another size.
        OSError: reading or writing failed; the target may be incomplete.
    """
    reader = open_regular(source)
    try:
        size = os.fstat(reader).st_size
        if recorded.size_bytes is not None and size != recorded.size_bytes:
            raise FormatError(f"expected {recorded.size_bytes} bytes, got {size}", path=source)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        writer = os.open(target, flags, NEW_MODE)
        try:
            _pump(reader, writer, size, buffer_bytes, source)
            if keep:
                apply_attributes(writer, recorded)  # refusals are not worth a failure
            os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _pump(reader: int, writer: int, size: int, buffer_bytes: int, source: str) -> None:
    buffer = memoryview(bytearray(max(1, min(size, buffer_bytes))))
    done = 0
    while done < size:
        got = os.readv(reader, [buffer[: size - done]])
        if got == 0:
            raise FormatError(f"ends too early: expected {size} bytes, got {done}", path=source)
        done += got
        piece = buffer[:got]
        while piece:
            piece = piece[os.write(writer, piece) :]
