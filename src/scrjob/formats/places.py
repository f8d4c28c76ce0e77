# SPDX-License-Identifier: BSD-3-Clause
"""Filemaps of very many files: the few fields that a build needs, or all that a copy needs.

The records of one filemap all have the same keys in the same order. A pattern made from the first one
takes the others at the speed of ``re``; whatever it does not fit is read as ``filemap`` reads it, so
the answer is always the same.

Source: docs/formats/cache.md, "filemap".
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, NamedTuple, Optional, Pattern, Sequence, Tuple, TypeVar

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import _numbers, filemap, kvtree
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.formats.kvtree import as_text

_HEAD = re.compile(rb"\0\0\0\x01FILE\0(.{4})", re.DOTALL)
_RECORD = re.compile(rb"([^\0]*)\0\0\0\0\x01META\0(.{4})", re.DOTALL)
_SCALAR = re.compile(rb"([^\0]*)\0\0\0\0\x01[^\0]*\0\0\0\0\0")
_PLACE_KEYS = (b"PATH", b"NAME", b"RANKS", b"SIZE", b"COMPLETE", b"CRC")
_META_KEYS = (
    *(*_PLACE_KEYS, b"ORIG", b"MODE", b"UID", b"GID"),
    *(b"ATIME_SECS", b"ATIME_NSECS", b"CTIME_SECS", b"CTIME_NSECS", b"MTIME_SECS", b"MTIME_NSECS"),
)
_SECOND_NS = 1_000_000_000
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
    """The pattern of a whole record, and the numbers of its groups in the order of the wanted keys.

    The number of a key that the records do not have is that of a group that never matches.
    """

    match: Pattern[bytes]
    groups: Tuple[int, ...]


Made = TypeVar("Made")
_Make = Callable[[Sequence[Optional[bytes]]], Made]
"""Makes a record from the values of the wanted keys; None for one that is not there."""


class Reader:
    """Reads filemaps; one for all that are like each other, so that patterns are made once."""

    def __init__(self) -> None:
        self._schemas: Dict[Tuple[Tuple[bytes, ...], ...], _Schema] = {}

    def read(self, data: bytes, path: str = "") -> Dict[str, Optional[Place]]:
        """Return cache path -> place in list order; None for a path that has no record.

        Args:
            data: the bytes of a filemap.
            path: for messages.

        Raises:
            TruncatedError: there are none.
            FormatError and children: as ``kvtree.decode``; also if bytes follow the tree: redundancy covers
                the file as it was, and the two would not fit together.
        """
        _refuse_nothing(data, path)
        packed = kvtree.packed(data, path)
        if len(data) > kvtree.image_bytes(data):
            raise FormatError("bytes follow its end", path=path, offset=kvtree.image_bytes(data))
        found = self._quick(packed, _PLACE_KEYS, _place)
        return _thorough(data, path) if found is None else found

    def read_metas(self, data: bytes, path: str = "") -> Dict[str, Optional[FileMeta]]:
        """Return what ``filemap.parse(kvtree.decode(data))`` returns, in a tenth of the time.

        Raises: as ``read``.
        """
        _refuse_nothing(data, path)
        found = self._quick(kvtree.packed(data, path), _META_KEYS, _meta)
        return filemap.parse(kvtree.decode(data, path)) if found is None else found

    def _quick(
        self, body: memoryview, wanted: Tuple[bytes, ...], make: _Make[Made]
    ) -> Optional[Dict[str, Optional[Made]]]:
        head = _HEAD.match(body)
        if head is None:
            return None
        count = int.from_bytes(head[1], "big")
        schema = self._schema(body, head.end(), wanted)
        if schema is None:
            return None
        take, groups = schema.match.match, schema.groups
        found: Dict[str, Optional[Made]] = {}
        at, end = head.end(), len(body)
        while at < end:
            record = take(body, at)
            if record is None:
                return None
            at = record.end()
            cached, *values = record.group(1, *groups)
            found[as_text(cached)] = make(values)
        # A path that comes twice is folded by the reader of trees.
        return found if len(found) == count else None

    def _schema(self, body: memoryview, at: int, wanted: Tuple[bytes, ...]) -> Optional[_Schema]:
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
        known = self._schemas.get((tuple(keys), wanted))
        if known is None:
            if len(set(keys)) != count:
                return None
            if len(self._schemas) >= _MOST_PATTERNS:
                self._schemas.clear()
            known = self._schemas[tuple(keys), wanted] = _make_schema(keys, wanted)
        return known


def _make_schema(keys: List[bytes], wanted: Tuple[bytes, ...]) -> _Schema:
    parts = [rb"([^\0]*)\0\0\0\0\x01META\0", re.escape(len(keys).to_bytes(4, "big"))]
    numbers: Dict[bytes, int] = {}
    for key in keys:
        if key in wanted:
            numbers[key] = len(numbers) + 2
        value = rb"([^\0]*)" if key in wanted else rb"[^\0]*"
        parts.append(re.escape(key) + rb"\0\0\0\0\x01" + value + rb"\0\0\0\0\0")
    parts.append(rb"(?:|(never))")
    never = len(numbers) + 2
    groups = tuple(numbers.get(key, never) for key in wanted)
    return _Schema(re.compile(b"".join(parts), re.DOTALL), groups)


def _place(values: Sequence[Optional[bytes]]) -> Place:
    directory, name, ranks, size, complete, crc = values
    return Place(
        _text(directory),
        _text(name),
        _integer(ranks),
        _unsigned(size),
        complete == b"1" or _integer(complete) == 1,
        _unsigned(crc),
    )


def _meta(values: Sequence[Optional[bytes]]) -> FileMeta:
    directory, name, ranks, size, complete, crc, orig, mode, uid, gid, *times = values
    return FileMeta(
        complete if complete is None else complete == b"1" or _integer(complete) == 1,
        _integer(ranks),
        _text(orig),
        _text(directory),
        _text(name),
        FileStat(
            *(_unsigned(size), _unsigned(mode), _unsigned(uid), _unsigned(gid)),
            *(_time(*times[0:2]), _time(*times[2:4]), _time(*times[4:6])),
        ),
        _unsigned(crc),
    )


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else as_text(value)


def _integer(value: Optional[bytes]) -> Optional[int]:
    return None if value is None else _numbers.atoi(value)


def _unsigned(value: Optional[bytes]) -> Optional[int]:
    return None if value is None else _numbers.strtoul(value)


def _time(seconds: Optional[bytes], nanoseconds: Optional[bytes]) -> Optional[int]:
    if seconds is None:
        return None
    return _numbers.strtoul(seconds) * _SECOND_NS + (_unsigned(nanoseconds) or 0)


def _refuse_nothing(data: bytes, path: str) -> None:
    """Raise TruncatedError for a file without bytes: elsewhere that is a tree, but a filemap it is not.

    The filemap of a rank that has no files is an empty tree of 28 bytes. Without any, somebody was
    killed before he had written it; taken for "no files", the rank would lose its own.
    """
    if not data:
        raise TruncatedError("empty: a filemap without files has 28 bytes", path=path)


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
