# SPDX-License-Identifier: BSD-3-Clause
"""The few fields of a filemap's records that a build needs, for very many files.

The records of one filemap all have the same keys in the same order. A pattern made from the first one
takes the others at the speed of ``re``; whatever it does not fit is read as ``filemap`` reads it, so
the answer is always the same.

Source: docs/formats/cache.md, "filemap".
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Pattern, Tuple

from scrjob.formats import _numbers, filemap, kvtree
from scrjob.formats.kvtree import as_text

_HEAD = re.compile(rb"\0\0\0\x01FILE\0(.{4})", re.DOTALL)
_RECORD = re.compile(rb"([^\0]*)\0\0\0\0\x01META\0(.{4})", re.DOTALL)
_SCALAR = re.compile(rb"([^\0]*)\0\0\0\0\x01[^\0]*\0\0\0\0\0")
_WANTED = (b"PATH", b"NAME", b"RANKS", b"SIZE", b"COMPLETE")
_CRC = b"CRC"
_MOST_KEYS = 64  # of a record; there are 15
_MOST_PATTERNS = 64


class Place(NamedTuple):
    """One file; None: not recorded. See ``filemap.FileMeta``; ``directory`` may be bytes of any kind."""

    directory: Optional[str]
    name: Optional[str]
    ranks: Optional[int]
    size_bytes: Optional[int]
    complete: bool
    crc: Optional[int]


class _Schema(NamedTuple):
    """The pattern of a whole record, and the numbers of its groups in the order of ``Place``."""

    match: Pattern[bytes]
    groups: Tuple[int, ...]
    has_crc: bool


class Reader:
    """Reads filemaps; one for all that are like each other, so that patterns are made once."""

    def __init__(self) -> None:
        self._schemas: Dict[Tuple[bytes, ...], _Schema] = {}

    def read(self, data: bytes, path: str = "") -> Dict[str, Optional[Place]]:
        """Return cache path -> place in list order; None for a path that has no record.

        Args:
            data: the bytes of a filemap.
            path: for messages.

        Raises:
            FormatError and children: as ``kvtree.decode``.
        """
        body = kvtree.packed(data, path)
        found = self._quick(body)
        return _thorough(data, path) if found is None else found

    def _quick(self, body: memoryview) -> Optional[Dict[str, Optional[Place]]]:
        head = _HEAD.match(body)
        if head is None:
            return None
        count = int.from_bytes(head[1], "big")
        schema = self._schema(body, head.end())
        if schema is None:
            return None
        take, groups, has_crc = schema.match.match, schema.groups, schema.has_crc
        found: Dict[str, Optional[Place]] = {}
        at, end = head.end(), len(body)
        whole, integer, unsigned = b"1", _numbers.atoi, _numbers.strtoul
        while at < end:
            record = take(body, at)
            if record is None:
                return None
            at = record.end()
            cached, directory, name, ranks, size, complete, crc = record.group(*groups)
            found[as_text(cached)] = Place(
                as_text(directory),
                as_text(name),
                integer(ranks),
                unsigned(size),
                complete == whole or integer(complete) == 1,
                unsigned(crc) if has_crc else None,
            )
        # A path that comes twice is folded by the reader of trees.
        return found if len(found) == count else None

    def _schema(self, body: memoryview, at: int) -> Optional[_Schema]:
        """Return the schema of the record that begins at ``at``, None if it is not as it should be."""
        record = _RECORD.match(body, at)
        if record is None:
            return None
        count = int.from_bytes(record[2], "big")
        if count > _MOST_KEYS:
            return None
        keys: List[bytes] = []
        at = record.end()
        for _ in range(count):
            scalar = _SCALAR.match(body, at)
            if scalar is None:
                return None
            keys.append(scalar[1])
            at = scalar.end()
        known = self._schemas.get(tuple(keys))
        if known is None:
            if len(set(keys)) != count or not set(_WANTED).issubset(keys):
                return None
            if len(self._schemas) >= _MOST_PATTERNS:
                self._schemas.clear()
            known = self._schemas[tuple(keys)] = _make_schema(keys)
        return known


def _make_schema(keys: List[bytes]) -> _Schema:
    parts = [rb"([^\0]*)\0\0\0\0\x01META\0", re.escape(len(keys).to_bytes(4, "big"))]
    numbers: Dict[bytes, int] = {}
    for key in keys:
        wanted = key in _WANTED or key == _CRC
        if wanted:
            numbers[key] = len(numbers) + 2
        value = rb"([^\0]*)" if wanted else rb"[^\0]*"
        parts.append(re.escape(key) + rb"\0\0\0\0\x01" + value + rb"\0\0\0\0\0")
    groups = (1, *(numbers[key] for key in _WANTED), numbers.get(_CRC, 0))
    return _Schema(re.compile(b"".join(parts), re.DOTALL), groups, _CRC in numbers)


def _thorough(data: bytes, path: str) -> Dict[str, Optional[Place]]:
    listed = filemap.parse(kvtree.decode(data, path))
    return {
        cached: meta
        and Place(
            meta.directory,
            meta.name,
            meta.ranks,
            meta.stat.size_bytes,
            meta.complete is True,
            meta.crc,
        )
        for cached, meta in listed.items()
    }
