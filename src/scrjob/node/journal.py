# SPDX-License-Identifier: BSD-3-Clause
"""What a node has copied already, so that a scavenge that was killed need not start over.

One JSON object a line in ``scrjob.copy.<host>.jsonl`` in the dataset's directory, appended when the file is
durable under its name: ``path`` (relative to the prefix), ``size``, ``mtime_ns`` of the copy,
``source_mtime_ns``, ``crc`` (null if it was not computed). A line counts while size and both times are
still what it says; a last line that was cut off is ignored.

Source: docs/scavenge.md, "journals".
"""

from __future__ import annotations

import contextlib
import json
import os
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from scrjob.node._transfer import Place, Source

_PREFIX = "scrjob.copy."
_SUFFIX = ".jsonl"
_FIELDS = ("size", "mtime_ns", "source_mtime_ns")
_AS_FILE = (
    os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)  # a FIFO of this name must not keep us waiting

_Known = Tuple[
    int, int, int, Optional[int]
]  # the fields; a journal may have a hundred thousand lines


class Record(NamedTuple):
    """A finished copy: path relative to the prefix, bytes, times in ns, CRC32 (None: not computed)."""

    path: str
    size: int
    mtime_ns: int
    source_mtime_ns: int
    crc: Optional[int]


def line(path: str, size: int, mtime_ns: int, source_mtime_ns: int, crc: Optional[int]) -> str:
    """Return the line of a finished copy; see ``Record``."""
    # By hand: there can be a hundred thousand.
    return (
        f'{{"path": {encode_basestring_ascii(path)}, "size": {size}, "mtime_ns": {mtime_ns}, '
        f'"source_mtime_ns": {source_mtime_ns}, "crc": {"null" if crc is None else crc}}}\n'
    )


class Journal:
    """The journal of one node for one dataset. Nothing is read or created before it is needed.

    Args:
        directory: the dataset's in the prefix.
        host: name of this node.
        heeds_others: what the journals of other nodes prove counts, too.

    Attributes:
        is_whole: all that was added is in the file.
    """

    def __init__(self, directory: str, host: str, *, heeds_others: bool = False) -> None:
        self._directory = directory
        self._path = os.path.join(directory, f"{_PREFIX}{host}{_SUFFIX}")
        self._heeds_others = heeds_others
        self._known: Optional[dict[str, _Known]] = None
        self._fd = -1
        self.is_whole = True

    def find(self, place: Place, name: str, source: Source) -> Optional[Record]:
        """Return what is noted of an earlier copy; None if it does not stand, or the source is another.

        Args:
            place: its directory.
            name: its name there.
            source: what is to be copied.
        """
        if self._known is None:
            self._known = {}
            for path in [*(_journals(self._directory) if self._heeds_others else ()), self._path]:
                self._known.update(_read(path))
        if not self._known:
            return None
        relative = place.relative(name)
        known = self._known.get(relative)
        if known is None:
            return None
        record = Record(relative, *known)
        if (record.size, record.source_mtime_ns) != (source.size_bytes, source.mtime_ns):
            return None
        try:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except OSError:
            return None
        stands = (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)
        return record if stands else None

    def add(self, lines: Iterable[str]) -> None:
        """Note finished copies, a ``line`` for each."""
        text = "".join(lines)
        if not text:
            return
        # The leading newline ends a line that a killed predecessor may have left unfinished.
        data = memoryview(("\n" + text).encode("ascii"))
        try:
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _AS_FILE
                self._fd = os.open(self._path, flags, 0o666)
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:  # only costs another copy after a KILL
            self.is_whole = False

    def close(self) -> None:
        """Make what was noted durable."""
        if self._fd >= 0:
            try:
                os.fsync(self._fd)
            except OSError:
                self.is_whole = False
            os.close(self._fd)
            self._fd = -1


def known_crcs(directory: str, prefix: str) -> dict[str, int]:
    """Return path -> CRC32 of all copies that any node has noted: what these files must still have.

    Also of those that do not stand any more: nobody writes to the files of a dataset but to bring the same
    bytes back, so another checksum is damage.
    """
    found = {}
    for journal in _journals(directory):
        for relative, (_, _, _, crc) in dict(_read(journal)).items():
            if crc is not None:
                found[os.path.join(prefix, relative)] = crc
    return found


def _journals(directory: str) -> list[str]:
    names = sorted(os.listdir(directory))
    return [
        os.path.join(directory, name)
        for name in names
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    ]


def _read(path: str) -> Iterator[tuple[str, _Known]]:
    # No journal, or one that cannot be read, proves nothing: all is copied.
    with (
        contextlib.suppress(OSError),
        open(path, encoding="ascii", errors="replace", opener=_opener) as file,
    ):
        for line in file:
            record = _parse(line)
            if record is not None:
                size, mtime_ns, source_mtime_ns = (record[name] for name in _FIELDS)
                yield record["path"], (size, mtime_ns, source_mtime_ns, record["crc"])


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | _AS_FILE)


def _parse(line: str) -> Optional[dict[str, Any]]:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if (
        isinstance(record, dict)
        and isinstance(record.get("path"), str)
        and all(type(record.get(name)) is int for name in _FIELDS)
        and type(record.get("crc", "")) in (int, type(None))
    ):
        return record
    return None
