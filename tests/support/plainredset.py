# SPDX-License-Identifier: BSD-3-Clause
"""Redundancy computed a second time, slowly, byte by byte, from docs/formats/redundancy.md alone.

Nothing of ``scrjob.redundancy`` is used: two programs that agree are better than one.
"""

from __future__ import annotations

from typing import List, Sequence

POLYNOMIAL = 0x11D


def times(a: int, b: int) -> int:
    """Multiply as one does by hand: shift, add, reduce."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= POLYNOMIAL
        b >>= 1
    return product


def power(base: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = times(result, base)
    return result


def inverse(a: int) -> int:
    return power(a, 254)


def coefficients(n: int, k: int) -> List[List[int]]:
    """Return the parity rows: Vandermonde, the upper square made the identity by column operations."""
    rows = [[power(row, column) for column in range(n)] for row in range(n + k)]
    for row in range(n):
        if rows[row][row] == 0:
            other = next(c for c in range(row + 1, n) if rows[row][c])
            for line in rows:
                line[row], line[other] = line[other], line[row]
        scale = inverse(rows[row][row])
        for line in rows:
            line[row] = times(line[row], scale)
        for column in range(n):
            factor = rows[row][column]
            if column != row and factor:
                for line in rows:
                    line[column] ^= times(factor, line[row])
    return rows[n:]


def partner_payloads(data: Sequence[bytes], replicas: int) -> List[bytes]:
    n = len(data)
    return [b"".join(data[(i - t) % n] for t in range(1, replicas + 1)) for i in range(n)]


def parity_payloads(data: Sequence[bytes], k: int, *, is_xor: bool = False) -> List[bytes]:
    """Return what follows the header of each member's redundancy file; XOR has k = 1 and no factors."""
    n = len(data)
    chunk = max(1, -(-max(map(len, data)) // (n - k)))
    padded = [member.ljust((n - k) * chunk, b"\0") for member in data]
    rows = [[1] * n] if is_xor else coefficients(n, k)
    payloads = [bytearray(k * chunk) for _ in range(n)]
    used = [0] * n  # data chunks of each member so far: they fill its stripes in ascending order
    for stripe in range(n):
        total = [bytearray(chunk) for _ in range(k)]
        for j in range(n):
            if (stripe - j) % n < k:
                continue  # holds parity here
            piece = padded[j][used[j] * chunk : (used[j] + 1) * chunk]
            used[j] += 1
            for e in range(k):
                for at, byte in enumerate(piece):
                    total[e][at] ^= times(rows[e][j], byte)
        for e in range(k):
            payloads[(stripe - e) % n][e * chunk : (e + 1) * chunk] = total[e]
    assert used == [n - k] * n
    return [bytes(payload) for payload in payloads]
