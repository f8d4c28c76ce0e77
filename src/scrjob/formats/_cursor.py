# SPDX-License-Identifier: BSD-3-Clause
"""A reader over bytes that never reads past their end and names the place when it would.

Every length is compared with the bytes that remain *before* anything is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrjob.errors import TruncatedError

if TYPE_CHECKING:
    import struct


class Cursor:
    """Take fields one after another from ``data``.

    Args:
        data: all bytes there are.
        path: for messages; "" if the bytes came from memory.
        position: where to begin.
    """

    __slots__ = ("_data", "_path", "position")

    def __init__(self, data: bytes, path: str = "", position: int = 0) -> None:
        self._data = data
        self._path = path
        self.position = position

    def remaining(self) -> int:
        """Return how many bytes are left."""
        return len(self._data) - self.position

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        """Return the integers of a fixed layout and step over them.

        Raises:
            TruncatedError: fewer bytes remain than the layout has.
        """
        self.need(layout.size, what)
        fields = layout.unpack_from(self._data, self.position)
        self.position += layout.size
        return fields

    def need(self, size: int, what: str) -> None:
        """Refuse unless ``size`` bytes remain.

        Raises:
            TruncatedError: fewer remain.
        """
        left = self.remaining()
        if left < size:
            raise TruncatedError(
                f"truncated {what}: expected {size} bytes, got {left}",
                path=self._path,
                offset=self.position,
            )
