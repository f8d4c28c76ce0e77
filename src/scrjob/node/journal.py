# SPDX-License-Identifier: BSD-3-Clause
"""What a node has copied already, so that a scavenge that was killed need not start over.

One JSON object a line in ``scrjob.copy.<host>.jsonl`` in the dataset's directory, appended after a
file got its name: ``path`` (relative to the prefix), ``size``, ``mtime_ns`` of the copy,
``source_mtime_ns``, ``crc``. A line counts while size and both times are still what it says; a last
line that was cut off is ignored.

Source: docs/scavenge.md, "journals".
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Optional

_PREFIX = "scrjob.copy."
_SUFFIX = ".jsonl"
_FIELDS = ("size", "mtime_ns", "source_mtime_ns", "crc")


class Journal:
    """The journal of one node for one dataset. Nothing is read or created before it is needed."""

    def __init__(self, directory: str, host: str) -> None:
        self._path = os.path.join(directory, f"{_PREFIX}{host}{_SUFFIX}")
        self._known: Optional[dict[str, dict[str, int]]] = None
        self._fd = -1

    def find(self, relative: str, target: str, source: os.stat_result) -> Optional[int]:
        """Return the CRC32 of an earlier copy if it still stands and the source is the same, else None."""
        record = self._records().get(relative)
        if record is None:
            return None
        try:
            status = os.lstat(target)
        except OSError:
            return None
        there = (status.st_size, status.st_mtime_ns, source.st_mtime_ns)
        recorded = (record["size"], record["mtime_ns"], record["source_mtime_ns"])
        return record["crc"] if there == recorded and source.st_size == record["size"] else None

    def add(
        self, relative: str, size: int, mtime_ns: int, source: os.stat_result, crc: int
    ) -> None:
        """Note a finished copy."""
        record = {
            "path": relative,
            "size": size,
            "mtime_ns": mtime_ns,
            "source_mtime_ns": source.st_mtime_ns,
            "crc": crc,
        }
        line = json.dumps(record).encode("ascii")
        # A journal that cannot be written only costs another copy after a KILL.
        with contextlib.suppress(OSError):
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o666)
            # The leading newline ends a line that a killed predecessor may have left unfinished.
            os.write(self._fd, b"\n" + line + b"\n")

    def close(self) -> None:
        """Make what was noted durable."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _records(self) -> dict[str, dict[str, int]]:
        if self._known is None:
            self._known = _read(self._path)
        return self._known


def known_crcs(directory: str, prefix: str) -> dict[str, int]:
    """Return path -> CRC32 of all copies that the journals of any node prove to be there still."""
    found = {}
    for name in sorted(os.listdir(directory)):
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            for relative, record in _read(os.path.join(directory, name)).items():
                path = os.path.join(prefix, relative)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if (status.st_size, status.st_mtime_ns) == (record["size"], record["mtime_ns"]):
                    found[path] = record["crc"]
    return found


def _read(path: str) -> dict[str, dict[str, int]]:
    known: dict[str, dict[str, int]] = {}
    # No journal, or one that cannot be read, proves nothing: all is copied.
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            record = _parse(line)
            if record is not None:
                known[record["path"]] = {name: record[name] for name in _FIELDS}
    return known


def _parse(line: str) -> Optional[dict[str, Any]]:
    try:
        record: Any = json.loads(line)
    except ValueError:
        return None
    if (
        isinstance(record, dict)
        and isinstance(record.get("path"), str)
        and all(type(record.get(name)) is int for name in _FIELDS)
    ):
        return record
    return None
