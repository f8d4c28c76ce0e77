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
from typing import Callable, Dict, NamedTuple, Optional, Sequence

from scrjob.errors import FormatError, TruncatedError
from scrjob.formats import _numbers, _stat, filemap, kvtree
from scrjob.formats._patterns import ANY, Schemas
from scrjob.formats.filemap import FileMeta
from scrjob.formats.kvtree import Made, as_text

_HEAD = re.compile(rb"\0\0\0\x01FILE\0(.{4})", re.DOTALL)
_PLACE_KEYS = {
    b"PATH": ANY,
    b"NAME": ANY,
    b"RANKS": _numbers.PLAIN_INT,
    b"COMPLETE": _numbers.PLAIN_INT,
    b"CRC": rb"0x[0-9a-f]{1,16}|0",  # as C's %#lx writes it
    b"SIZE": _numbers.PLAIN_LONG,
}
_COPY_KEYS = {
    **{key: _PLACE_KEYS[key] for key in (b"PATH", b"COMPLETE", b"CRC")},
    **{key: _stat.PLAIN[key] for key in _stat.KEYS if not key.startswith(b"CTIME")},
}
_RECORD = rb"([^\0]*)\0\0\0\0\x01META\0"


class Place(NamedTuple):
    """One file; None: not recorded. See ``filemap.FileMeta``; ``directory`` may be bytes of any kind."""

    directory: Optional[str]
    name: Optional[str]
    ranks: Optional[int]
    size_bytes: Optional[int]
    complete: bool
    crc: Optional[int]


_Make = Callable[[Sequence[Optional[bytes]]], Made]
"""Makes a record from the values of the wanted keys; None for one that is not there."""


class Reader:
    """Reads filemaps; one for all that are like each other, so that patterns are made once."""

    def __init__(self) -> None:
        self._places = Schemas(_RECORD, 1, _PLACE_KEYS)
        self._copied = Schemas(_RECORD, 1, _COPY_KEYS)

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
        found = kvtree.without_gc(_quick, packed, self._places, _place)
        return _thorough(data, path) if found is None else found

    def read_metas(self, data: bytes, path: str = "") -> Dict[str, Optional[FileMeta]]:
        """Return what a copy needs of ``filemap.parse(kvtree.decode(data))``, in a tenth of the time.

        The fields ``ranks``, ``orig``, ``name`` and ``stat.ctime_ns`` may be None although they are recorded.

        Raises: as ``read``.
        """
        _refuse_nothing(data, path)
        found = kvtree.without_gc(_quick, kvtree.packed(data, path), self._copied, _meta)
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
    groups = (1, *schema.groups)
    found: Dict[str, Optional[Made]] = {}
    for record in schema.records.finditer(body, head.end()):
        cached, *values = record.group(*groups)
        if cached is None:
            return None
        found[cached.decode("utf-8", "surrogateescape")] = make(values)
    # A path that comes twice is folded by the reader of trees.
    return found if len(found) == count else None


def _place(values: Sequence[Optional[bytes]]) -> Place:
    directory, name, ranks, complete, crc, size = values
    return Place(
        None if directory is None else _shared_text(directory),
        None if name is None else name.decode("utf-8", "surrogateescape"),
        None if ranks is None else _shared_integer(ranks),
        None if size is None else int(size),
        complete is not None and _shared_integer(complete) == 1,
        None if crc is None else int(crc, 16),
    )


def _meta(values: Sequence[Optional[bytes]]) -> FileMeta:
    directory, complete, crc, size, mode, uid, gid, atime, atime_part, mtime, mtime_part = values
    stat = (size, mode, uid, gid, atime, atime_part, None, None, mtime, mtime_part)
    return FileMeta(
        None if complete is None else _shared_integer(complete) == 1,
        None,
        None,
        None if directory is None else _shared_text(directory),
        None,
        _stat.of_plain(stat),
        None if crc is None else int(crc, 16),
    )


# Values that the files of a rank mostly have in common.
_shared_text = lru_cache(maxsize=64)(as_text)
_shared_integer = lru_cache(maxsize=64)(int)


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
