# SPDX-License-Identifier: BSD-3-Clause
"""Filemaps of very many files: the few fields that a build needs, or all that a copy needs.

The records of one filemap all have the same keys in the same order. A pattern made from the first one
takes the others at the speed of ``re``; whatever it does not fit is read as ``filemap`` reads it, so
the answer is always the same.

Source: docs/formats/cache.md, "filemap".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable, Dict, NamedTuple, Optional, Sequence, TypeVar

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import _numbers, _stat, filemap, kvtree
from scrjob.formats._patterns import Schemas
from scrjob.formats.filemap import FileMeta
from scrjob.formats.kvtree import as_text

_HEAD = re.compile(rb"\0\0\0\x01FILE\0(.{4})", re.DOTALL)
_PLACE_KEYS = (b"PATH", b"NAME", b"RANKS", b"SIZE", b"COMPLETE", b"CRC")
_META_KEYS = (*_PLACE_KEYS[:3], *_PLACE_KEYS[4:], b"ORIG", *_stat.KEYS)
_RECORD = rb"([^\0]*)\0\0\0\0\x01META\0"


class Place(NamedTuple):
    """One file; None: not recorded. See ``filemap.FileMeta``; ``directory`` may be bytes of any kind."""

    directory: Optional[str]
    name: Optional[str]
    ranks: Optional[int]
    size_bytes: Optional[int]
    complete: bool
    crc: Optional[int]


Made = TypeVar("Made")
_Make = Callable[[Sequence[Optional[bytes]]], Made]
"""Makes a record from the values of the wanted keys; None for one that is not there."""


class Reader:
    """Reads filemaps; one for all that are like each other, so that patterns are made once."""

    def __init__(self) -> None:
        self._places = Schemas(_RECORD, 1, _PLACE_KEYS)
        self._metas = Schemas(_RECORD, 1, _META_KEYS)

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
        found = _quick(packed, self._places, _place)
        return _thorough(data, path) if found is None else found

    def read_metas(self, data: bytes, path: str = "") -> Dict[str, Optional[FileMeta]]:
        """Return what ``filemap.parse(kvtree.decode(data))`` returns, in a tenth of the time.

        Raises: as ``read``.
        """
        _refuse_nothing(data, path)
        found = _quick(kvtree.packed(data, path), self._metas, _meta)
        return filemap.parse(kvtree.decode(data, path)) if found is None else found


def _quick(
    body: memoryview, schemas: Schemas, make: _Make[Made]
) -> Optional[Dict[str, Optional[Made]]]:
    head = _HEAD.match(body)
    if head is None:
        return None
    count = int.from_bytes(head[1], "big")
    schema = schemas.of(body, head.end())
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


def _place(values: Sequence[Optional[bytes]]) -> Place:
    directory, name, ranks, size, complete, crc = values
    return Place(
        _shared_text(directory),
        _text(name),
        _shared_integer(ranks),
        _stat.unsigned(size),
        complete == b"1" or _integer(complete) == 1,
        _stat.unsigned(crc),
    )


def _meta(values: Sequence[Optional[bytes]]) -> FileMeta:
    directory, name, ranks, complete, crc, orig, *stat = values
    return FileMeta(
        None if complete is None else complete == b"1" or _integer(complete) == 1,
        _shared_integer(ranks),
        _text(orig),
        _shared_text(directory),
        _text(name),
        _stat.of_values(stat),
        _stat.unsigned(crc),
    )


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else as_text(value)


def _integer(value: Optional[bytes]) -> Optional[int]:
    return None if value is None else _numbers.atoi(value)


# Values that the files of a rank mostly have in common.
_shared_text = lru_cache(maxsize=64)(_text)
_shared_integer = lru_cache(maxsize=64)(_integer)


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
