# SPDX-License-Identifier: BSD-3-Clause
"""Redundancy headers of very many files, from and to bytes at the speed of ``re`` and of formatting.

A header names each file of a member and of its left neighbours, with ten fields. These records are all
alike, so they are read by a pattern, and only the rest as a tree; what does not fit is read as a tree
altogether. So the answer is always that of ``redset_header``.

Source: docs/formats/redundancy-header.md.
"""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

from scrjob.errors import FormatError
from scrjob.formats import _stat, kvtree, redset_header
from scrjob.formats._patterns import Schemas
from scrjob.formats.kvtree import as_key, as_text
from scrjob.formats.redset_header import Header, ProtectedFile

LEAST_BYTES = 1 << 14
"""Images of fewer bytes are read as trees: there can be very many, of one file each."""

_PAIR = re.compile(rb"([^\0]*)\0(.{4})", re.DOTALL)
_NONE = b"\0\0\0\0"
_ONE = b"\0\0\0\x01"
_NO_FILES = b"FILE\0" + _NONE + b"FILES\0"
_RECORD = rb"([0-9]{1,10})\0\0\0\0\x01([^\0]*)\0"

Files = Dict[int, Tuple[ProtectedFile, ...]]


class _OddError(Exception):
    """The bytes are not as a header's usually are."""


def decode(data: bytes, path: str = "", *, least_bytes: int = LEAST_BYTES) -> Header:
    """Return what ``redset_header.decode`` says of the tree in an image.

    Args:
        data: the image.
        path: for messages.
        least_bytes: smaller images are read as trees.

    Raises:
        FormatError and children: as ``kvtree.decode`` and ``redset_header.decode``.
    """
    if len(data) >= least_bytes:
        body = kvtree.packed(data, path)
        try:
            rest, files = _Walk(body).run()
            return redset_header.decode(kvtree.decode(kvtree.wrap(rest), path), path, files=files)
        except (_OddError, FormatError):
            pass  # the thorough reader knows what to say
    return redset_header.decode(kvtree.decode(data, path), path)


class _Walk:
    """Steps through a packed tree and takes out the files of its members.

    Args:
        body: the packed tree.
    """

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._schemas = Schemas(_RECORD, 2, _stat.PLAIN)
        self._at = len(_NONE)
        self._kept: List[bytes] = []
        self._done = 0  # of the body, in bytes, that is kept or taken
        self._files: Files = {}

    def run(self) -> Tuple[bytes, Files]:
        """Return the packed tree without files, and the files by group rank.

        Raises:
            _OddError: it is not a usual header.
        """
        for _ in range(int.from_bytes(self._body[: self._at], "big")):
            key, count = self._pair()
            if key == b"DESC":
                for _ in range(count):
                    self._member()
            else:
                self._skip(count)
        if self._at != len(self._body):
            raise _OddError
        self._kept.append(bytes(self._body[self._done :]))
        return b"".join(self._kept), self._files

    def _pair(self) -> Tuple[bytes, int]:
        """Return a key and the number of those below it, and step over it."""
        pair = _PAIR.match(self._body, self._at)
        if pair is None:
            raise _OddError
        self._at = pair.end()
        return pair[1], int.from_bytes(pair[2], "big")

    def _skip(self, count: int) -> None:
        while count:
            count += self._pair()[1] - 1

    def _member(self) -> None:
        number, count = self._pair()
        for _ in range(count):
            key, below = self._pair()
            if key == b"FILE" and below:
                self._kept += bytes(self._body[self._done : self._at - len(_NONE)]), _NONE
                files = self._take(below)
                self._done = self._at
                if not number.isdigit() or int(number) in self._files:
                    raise _OddError
                self._files[int(number)] = files
            else:
                self._skip(below)

    def _take(self, count: int) -> Tuple[ProtectedFile, ...]:
        """Return the files of a member, which all have records that are alike."""
        schema = self._schemas.of(self._body, self._at)
        if schema is None:
            raise _OddError
        body, at = self._body, self._at
        take, groups = schema.records.match, (1, 2, *schema.groups)
        found: Dict[int, ProtectedFile] = {}
        for _ in range(count):
            record = take(body, at)
            if record is None or record[1] is None:
                raise _OddError
            at = record.end()
            number, path, *values = record.group(*groups)
            stat = _stat.of_plain(values)
            if not redset_header.is_possible_size(stat.size_bytes):
                raise _OddError
            found[int(number)] = ProtectedFile(as_text(path), stat)
        self._at = at
        try:
            return tuple([found[number] for number in range(count)])
        except KeyError:
            raise _OddError from None


def encode(header: Header) -> bytes:
    """Return the image of a header, as ``kvtree.encode`` makes it of ``redset_header.encode``.

    Raises:
        FormatError: a path contains NUL.
    """
    # No word or number of the tree has the mark in it: it stands where the files of a member belong.
    rest = bytes(kvtree.packed(kvtree.encode(redset_header.encode(header, files=False))))
    first, *others = rest.split(_NO_FILES)
    members = sorted(header.members.items(), key=lambda item: as_key(item[0]))
    parts = [first]
    for (_, member), other in zip(members, others):
        parts += [b"FILE\0", _packed(member.files), b"FILES\0", other]
    return kvtree.wrap(b"".join(parts))


def _packed(files: Tuple[ProtectedFile, ...]) -> bytes:
    """Return the packed node of the files of a member."""
    parts = [len(files).to_bytes(4, "big")]
    known: Dict[Tuple[str, ...], Tuple[List[str], bytes]] = {}
    for number in sorted(range(len(files)), key=as_key):
        file = files[number]
        path = as_key(file.path)
        if b"\0" in path:
            raise FormatError(f"a path may not contain NUL: {file.path!r}")
        fields = {"SIZE": file.size_bytes, **_stat.fields(file.stat)}
        keys = tuple(fields)
        if keys not in known:
            known[keys] = _form(keys)
        order, form = known[keys]
        parts.append(form % (number, path, *[fields[key] for key in order]))
    return b"".join(parts)


def _form(keys: Tuple[str, ...]) -> Tuple[List[str], bytes]:
    """Return the order of a record's keys, and what its number, path and values are put into."""
    order = sorted(keys)
    below = [as_key(key) + b"\0" + _ONE + b"%d\0" + _NONE for key in order]
    return order, b"".join([b"%d\0" + _ONE + b"%b\0" + len(keys).to_bytes(4, "big"), *below])
