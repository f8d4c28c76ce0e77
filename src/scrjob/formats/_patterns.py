# SPDX-License-Identifier: BSD-3-Clause
"""Records that are all alike, in packed trees: a pattern made from the first takes the others.

A record is a node of scalars; very many of them under one key have the same keys in the same order.
Whoever uses this reads what does not fit as a tree, so that the answer is always the same.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Pattern, Tuple

_SCALAR = re.compile(rb"([^\0]*)\0\0\0\0\x01[^\0]*\0\0\0\0\0")
ANY = rb"[^\0]*"
"""Pattern of any value."""

_MOST_KEYS = 64  # of a record; there are 15
_MOST_PATTERNS = 64


class Schema(NamedTuple):
    """The pattern of records, and the numbers of its groups in the order of the wanted keys.

    The groups of what comes before the record are the first ones. The number of a key that the records
    do not have is that of a group that never matches. What is no such record is matched to the end of
    the bytes without any group, so that ``finditer`` skips nothing.
    """

    records: Pattern[bytes]
    groups: Tuple[int, ...]


class Schemas:
    """Patterns of records by their keys, each made once.

    Args:
        head: pattern of what comes before the count of a record's keys.
        groups: how many groups it has.
        wanted: the keys whose values are asked for, and a pattern for each value.
    """

    def __init__(self, head: bytes, groups: int, wanted: Mapping[bytes, bytes]) -> None:
        self._head = head
        self._first = re.compile(head + rb"(.{4})", re.DOTALL)
        self._groups = groups
        self._wanted = wanted
        self._known: Dict[Tuple[bytes, ...], Schema] = {}
        self._last: Optional[Schema] = None

    def of(self, body: memoryview, at: int) -> Optional[Schema]:
        """Return the schema of the record that begins at ``at``, None if it is not as it should be."""
        if self._last is not None:  # very many files may have one record each, all alike
            record = self._last.records.match(body, at)
            if record is not None and record[1] is not None:
                return self._last
        record = self._first.match(body, at)
        if record is None:
            return None
        count = int.from_bytes(record[self._groups + 1], "big")
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
        known = self._known.get(tuple(keys))
        if known is None:
            if len(set(keys)) != count:
                return None
            if len(self._known) >= _MOST_PATTERNS:
                self._known.clear()
            known = self._known[tuple(keys)] = self._make(keys)
        self._last = known
        return known

    def _make(self, keys: List[bytes]) -> Schema:
        parts = [self._head, re.escape(len(keys).to_bytes(4, "big"))]
        numbers: Dict[bytes, int] = {}
        for key in keys:
            if key in self._wanted:
                numbers[key] = len(numbers) + self._groups + 1
            value = b"(" + self._wanted[key] + b")" if key in self._wanted else ANY
            parts.append(re.escape(key) + rb"\0\0\0\0\x01" + value + rb"\0\0\0\0\0")
        parts.append(rb"(?:|(never))|.+")
        never = len(numbers) + self._groups + 1
        groups = tuple(numbers.get(key, never) for key in self._wanted)
        return Schema(re.compile(b"".join(parts), re.DOTALL), groups)
