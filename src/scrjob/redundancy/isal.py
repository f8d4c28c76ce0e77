# SPDX-License-Identifier: BSD-3-Clause
"""ISA-L's erasure codes through ctypes: the same field and the same products, an order faster.

The library is Intel's ``libisal.so.2`` (Debian: libisal2), for x86 and ARM. It is looked for when it is
first needed, and nothing depends on its being there.

Source: ISA-L's erasure_code.h: ec_init_tables, ec_encode_data, ec_encode_data_update.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Callable, Optional, Sequence

if TYPE_CHECKING:
    import ctypes

NAME = "libisal.so.2"
TABLE_BYTES = 32  # for one factor

Update = Callable[[int, int], None]
"""Takes the number of a source, and of bytes."""


class Library:
    """The functions that are used."""

    def __init__(self, library: ctypes.CDLL) -> None:
        import ctypes  # noqa: PLC0415 - 10 ms, only for those who multiply

        self._init = library.ec_init_tables
        self._init.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
        self._init.restype = None
        self._encode = library.ec_encode_data
        self._encode.argtypes = [ctypes.c_int] * 3 + [ctypes.c_void_p] * 3
        self._encode.restype = None
        self._update = library.ec_encode_data_update
        self._update.argtypes = [ctypes.c_int] * 4 + [ctypes.c_void_p] * 3
        self._update.restype = None

    def update(
        self,
        factors: Sequence[Sequence[int]],
        source: int,
        sums: Sequence[int],
        *,
        begins: bool = False,
    ) -> Update:
        """Return a function that adds the products of one source to all sums.

        Args:
            factors: a row for each sum, in it one for each source.
            source: address of the bytes of the source at hand.
            sums: addresses of the sums.
            begins: the products of source 0 become the sums, whatever these were.
        """
        import ctypes  # noqa: PLC0415 - as above

        rows, columns = len(factors), len(factors[0])
        tables = self._tables(factors)
        first = self._tables([row[:1] for row in factors])
        pointers = (ctypes.c_void_p * rows)(*sums)
        data = (ctypes.c_void_p * 1)(source)

        def update(number: int, length: int) -> None:
            if number or not begins:
                self._update(length, columns, rows, number, tables, source, pointers)
            else:
                self._encode(length, 1, rows, first, data, pointers)

        return update

    def _tables(self, factors: Sequence[Sequence[int]]) -> ctypes.Array[ctypes.c_char]:
        import ctypes  # noqa: PLC0415 - as above

        rows, columns = len(factors), len(factors[0])
        tables = ctypes.create_string_buffer(TABLE_BYTES * rows * columns)
        self._init(columns, rows, bytes(factor for row in factors for factor in row), tables)
        return tables


@functools.cache
def load(name: str = NAME) -> Optional[Library]:
    """Return the library, None if it is not there or has not what is needed."""
    import ctypes  # noqa: PLC0415 - 10 ms, only for those who multiply

    try:
        return Library(ctypes.CDLL(name))
    except (OSError, AttributeError):
        return None
