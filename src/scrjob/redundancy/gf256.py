# SPDX-License-Identifier: BSD-3-Clause
"""The field of 256 elements in which Reed-Solomon calculates: one byte is one element.

Addition is exclusive or; multiplication is that of polynomials modulo x^8+x^4+x^3+x^2+1. The members'
blocks of one stripe are the values of one polynomial of degree < n: member j's data is its value at
point j (zero for a member that holds parity in this stripe), parity block e its value at point n+e. So
whatever is unknown follows from any n known values by interpolation, and no system of equations is
ever solved.

NumPy is imported when bytes are combined, not before.

Source: docs/formats/redundancy.md, "Reed-Solomon".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ELEMENTS = 256
POLYNOMIAL = 0x11D
GENERATOR = 2
_ORDER = ELEMENTS - 1  # of the multiplicative group: exponents count modulo this


def _powers() -> tuple[int, ...]:
    found = [1]
    while len(found) < _ORDER:
        doubled = found[-1] << 1
        found.append(doubled ^ POLYNOMIAL if doubled >= ELEMENTS else doubled)
    return tuple(found)


_EXP = _powers()
_LOG = [0] * ELEMENTS  # of 0 there is none
for _exponent, _value in enumerate(_EXP):
    _LOG[_value] = _exponent


def mul(a: int, b: int) -> int:
    """Return the product of two elements."""
    if a == 0 or b == 0:
        return 0
    return _EXP[(_LOG[a] + _LOG[b]) % _ORDER]


def inverse(a: int) -> int:
    """Return the element whose product with ``a`` is 1.

    Raises:
        ZeroDivisionError: ``a`` is 0.
    """
    if a == 0:
        raise ZeroDivisionError("0 has no inverse")
    return _EXP[-_LOG[a] % _ORDER]


@lru_cache(maxsize=1024)
def interpolation(known: tuple[int, ...], wanted: int) -> tuple[int, ...]:
    """Return the coefficients with which known values of a polynomial give its value at another point.

    Args:
        known: n different points, for a polynomial of degree < n; 0 to 255.
        wanted: another point.

    Raises:
        ValueError: points are not different.

    Source: the formula of Lagrange; minus is exclusive or.
    """
    if len({*known, wanted}) != len(known) + 1:
        raise ValueError(f"expected different points, got {list(known)} and {wanted}")
    whole = sum(_LOG[wanted ^ other] for other in known)
    return tuple(
        _EXP[
            (
                whole
                - _LOG[wanted ^ point]
                - sum(_LOG[point ^ other] for other in known if other != point)
            )
            % _ORDER
        ]
        for point in known
    )


@lru_cache(maxsize=32)
def parity_matrix(n: int, k: int) -> tuple[tuple[int, ...], ...]:
    """Return the coefficients of the parity blocks: k rows, one element for each of n members.

    They are the last k rows of the (n+k) x n matrix row^column after column operations have made its
    first n rows the unit matrix. Those operations multiply it by the inverse of its first n rows, which
    is interpolation from the points 0 to n-1.

    Raises:
        ValueError: not 1 <= k, 1 <= n, n + k <= 256.
    """
    if n < 1 or k < 1 or n + k > ELEMENTS:
        raise ValueError(f"expected n >= 1, k >= 1 and n + k <= {ELEMENTS}, got n={n} and k={k}")
    return tuple(interpolation(tuple(range(n)), n + e) for e in range(k))


@lru_cache(maxsize=ELEMENTS)
def product_table(coefficient: int) -> bytes:
    """Return the products of ``coefficient`` with all elements, for ``bytes.translate``."""
    return bytes(mul(coefficient, value) for value in range(ELEMENTS))


def multiply_add(total: NDArray[np.uint8], coefficient: int, data: NDArray[np.uint8]) -> None:
    """Add ``coefficient`` times ``data`` to ``total``, in place.

    Args:
        total: bytes, changed.
        coefficient: 0 to 255.
        data: as many bytes, contiguous.
    """
    import numpy as np  # noqa: PLC0415 - 70 ms, only for those who combine bytes

    if coefficient == 0:
        return
    if coefficient != 1:
        product = data.tobytes().translate(product_table(coefficient))
        data = np.frombuffer(product, dtype=np.uint8)
    np.bitwise_xor(total, data, out=total)
