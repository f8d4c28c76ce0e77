# SPDX-License-Identifier: BSD-3-Clause
"""The ring: parity and restored blocks against their definition, errors without a deadlock."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from scrjob.client import exchange, ring
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy import gf256
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Shape
from scrjob.redundancy.striped import Striped
from scrjob.redundancy.stripes import chunk_bytes, role
from threadcomm import ThreadComm, run_all

SHAPES = [(2, 0), (3, 0), (7, 0), (3, 1), (3, 2), (5, 2), (6, 3), (5, 4)]  # members, k; 0 is XOR


def group(n: int, k: int, chunk: int = 1) -> tuple[Striped, Shape]:
    """Return scheme and measures of a group; k is 0 for XOR."""
    kind = "rs" if k else "xor"
    place = Descriptor(kind, 1, 0, n, 0, 0, n, parity=k or None)
    scheme = scheme_for(kind)
    assert isinstance(scheme, Striped)
    return scheme, Shape(place, [0] * n, chunk)


def rows_of(n: int, k: int) -> tuple[tuple[int, ...], ...]:
    return gf256.parity_matrix(n, k) if k else ((1,) * n,)


def weighted(row: tuple[int, ...], blocks: dict[int, bytes]) -> bytes:
    """Return the sum of blocks, each times its coefficient, byte for byte."""
    total = bytearray(len(next(iter(blocks.values()))))
    for i, block in blocks.items():
        for at, byte in enumerate(block):
            total[at] ^= gf256.mul(row[i], byte)
    return bytes(total)


def blocks_by_definition(logical: list[bytes], k: int) -> tuple[int, list[list[bytes]]]:
    """Return the chunk size, and for each member its block of each stripe."""
    n, parity = len(logical), k or 1
    chunk = chunk_bytes([len(one) for one in logical], n, parity)
    padded = [one.ljust(chunk * (n - parity), b"\0") for one in logical]
    table = [[b""] * n for _ in range(n)]
    for stripe in range(n):
        holders = [(stripe - e) % n for e in range(parity)]
        data = {}
        for i in set(range(n)) - set(holders):
            d = sum(1 for c in range(stripe) if (c - i) % n >= parity)
            data[i] = table[i][stripe] = padded[i][d * chunk : (d + 1) * chunk]
        for e, holder in enumerate(holders):
            table[holder][stripe] = weighted(rows_of(n, k)[e], data)
    return chunk, table


def members(n: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice((0, 1, 17, 100 + i))) for i in range(n - 1)] + [
        rng.randbytes(140)
    ]


@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("piece", [1 << 20, 64, 7, 1])
def test_encode_gives_each_member_its_parity_blocks(n, k, piece):
    chunk, table = blocks_by_definition(members(n), k)
    parity = k or 1

    def program(comm: ThreadComm) -> list[bytes]:
        out = [bytearray() for _ in range(parity)]
        seen = []

        def read(stripe: int, offset: int, view: memoryview) -> None:
            assert not role(stripe, comm.rank, n, parity).is_parity
            seen.append((stripe, offset))
            view[:] = table[comm.rank][stripe][offset : offset + len(view)]

        def write(block: int, offset: int, view: memoryview) -> None:
            assert offset == len(out[block])
            assert len(view) * parity <= max(piece, parity)
            out[block].extend(view)

        rows = exchange.parity_rows(*group(n, k))
        assert ring.encode(comm, read, write, rows, chunk, piece) is None
        assert len(seen) == len(set(seen))  # each byte is read once
        return [bytes(one) for one in out]

    expected = [[table[i][(i + e) % n] for e in range(parity)] for i in range(n)]
    assert run_all(n, program) == expected


@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("piece", [1 << 20, 64, 5])
def test_restore_gives_any_missing_members_all_their_blocks(n, k, piece):
    chunk, table = blocks_by_definition(members(n, seed=n), k)
    parity = k or 1
    for lost in [*combinations(range(n), parity), *combinations(range(n), 1)]:
        used: list[set[tuple[int, int]]] = [set() for _ in range(n)]

        def program(
            comm: ThreadComm, lost: tuple[int, ...] = lost, used: list[set[tuple[int, int]]] = used
        ) -> list[bytes]:
            rows = exchange.rebuild_rows(*group(n, k), lost)
            out = [bytearray() for _ in range(n)]

            def read(stripe: int, offset: int, view: memoryview) -> None:
                assert comm.rank not in lost
                used[comm.rank].add((comm.rank, stripe))
                view[:] = table[comm.rank][stripe][offset : offset + len(view)]

            def write(stripe: int, offset: int, view: memoryview) -> None:
                assert comm.rank in lost
                assert offset == len(out[stripe])
                out[stripe].extend(view)

            given = (None, write) if comm.rank in lost else (read, None)
            assert ring.restore(comm, lost, *given, rows, chunk, piece) is None
            return [bytes(one) for one in out]

        found = run_all(n, program)
        assert [found[i] for i in lost] == [table[i] for i in lost]
        # Blocks that are not needed are not read.
        assert sum(map(len, used)) == n * (n - parity)


@pytest.mark.parametrize("what", ["read", "write"])
def test_an_error_of_one_member_is_its_own_and_nobody_waits_for_it(what):
    rows = gf256.parity_matrix(4, 2)

    def program(comm: ThreadComm) -> object:
        def read(stripe: int, offset: int, view: memoryview) -> None:
            if what == "read" and comm.rank == 1:
                raise OSError("no medium")
            view[:] = b"x" * len(view)

        def write(stripe: int, offset: int, view: memoryview) -> None:
            if what == "write" and comm.rank == 1:
                raise OSError("no space")

        encoded = ring.encode(comm, read, write, rows, 100, 8)
        lost = (1, 2) if what == "write" else (2, 3)
        given = (None, write) if comm.rank in lost else (read, None)
        restored = ring.restore(comm, lost, *given, lambda _: ((1,) * 4, (3,) * 4), 100, 8)
        return [str(encoded), str(restored)]

    answers = run_all(4, program)
    word = "no medium" if what == "read" else "no space"
    assert answers == [["None", "None"], [word, word], ["None", "None"], ["None", "None"]]
