# SPDX-License-Identifier: BSD-3-Clause
"""The stripe geometry that XOR and Reed-Solomon share: arithmetic only.

Symbols: ``n`` members in a group, member ``i`` (0 <= i < n), ``k`` parity blocks per member (1 for
XOR), stripe ``c`` (0 <= c < n). A member's logical file is cut into n-k data chunks; in each of the n
stripes a member either contributes one data chunk or holds one parity block.

Source: docs/formats/redundancy.md, "stripes".
"""

from __future__ import annotations

from typing import NamedTuple, Sequence


class Role(NamedTuple):
    """What a member has in one stripe: parity block ``block``, or data chunk ``block``."""

    is_parity: bool
    block: int


class Layout(NamedTuple):
    """The measures of a group: members, bytes in a chunk, parity blocks per member."""

    n: int
    chunk: int
    k: int = 1


def chunk_bytes(sizes: Sequence[int], n: int, k: int = 1) -> int:
    """Return the chunk size of a group in bytes: the largest logical file over n-k chunks, at least 1.

    Args:
        sizes: bytes in the members' logical files; those of all members, or only the largest.
        n: members in the group.
        k: parity blocks per member, < n.
    """
    return max(1, -(-max(sizes, default=0) // (n - k)))


def role(stripe: int, i: int, n: int, k: int = 1) -> Role:
    """Return what member ``i`` has in ``stripe``."""
    block = (stripe - i) % n
    if block < k:
        return Role(is_parity=True, block=block)
    # Data chunks fill the member's other stripes in ascending order.
    parity_before = sum((i + e) % n < stripe for e in range(k))
    return Role(is_parity=False, block=stripe - parity_before)


def data_chunk_for(stripe: int, i: int, n: int, k: int = 1) -> int:
    """Return the index of the data chunk that member ``i`` contributes to ``stripe``, -1 for none."""
    mine = role(stripe, i, n, k)
    return -1 if mine.is_parity else mine.block


def parity_stripe(i: int, block: int, n: int) -> int:
    """Return the stripe whose parity block number ``block`` member ``i`` holds."""
    return (i + block) % n
