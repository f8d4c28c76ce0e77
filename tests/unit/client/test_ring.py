# SPDX-License-Identifier: BSD-3-Clause
"""The ring: parity and restored blocks against their definition, errors without a deadlock."""

from __future__ import annotations

import random
from functools import reduce

import pytest

from scrjob.client import ring
from scrjob.redundancy.stripes import chunk_bytes, role
from threadcomm import ThreadComm, run_all


def xor(*blocks: bytes) -> bytes:
    return reduce(lambda a, b: bytes(x ^ y for x, y in zip(a, b)), blocks)


def blocks_by_definition(logical: list[bytes]) -> tuple[int, list[list[bytes]]]:
    """Return the chunk size, and for each member its block of each stripe."""
    n = len(logical)
    chunk = chunk_bytes([len(one) for one in logical], n)
    padded = [one.ljust(chunk * (n - 1), b"\0") for one in logical]
    table = [[b""] * n for _ in range(n)]
    for stripe in range(n):
        for i in range(n):
            if i != stripe:
                d = stripe if stripe < i else stripe - 1
                table[i][stripe] = padded[i][d * chunk : (d + 1) * chunk]
        table[stripe][stripe] = xor(*(table[i][stripe] for i in range(n) if i != stripe))
    return chunk, table


def members(n: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice((0, 1, 17, 500 + i))) for i in range(n - 1)] + [
        rng.randbytes(700)
    ]


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("piece", [1 << 20, 64, 7])
def test_encode_gives_each_member_its_parity_block(n, piece):
    chunk, table = blocks_by_definition(members(n))

    def program(comm: ThreadComm) -> bytes:
        out = bytearray()

        def read(stripe: int, offset: int, view: memoryview) -> None:
            assert not role(stripe, comm.rank, n).is_parity
            view[:] = table[comm.rank][stripe][offset : offset + len(view)]

        def write(stripe: int, offset: int, view: memoryview) -> None:
            assert (stripe, offset) == (comm.rank, len(out))
            assert len(view) <= piece
            out.extend(view)

        assert ring.encode(comm, read, write, chunk, piece) is None
        return bytes(out)

    assert run_all(n, program) == [table[i][i] for i in range(n)]


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("piece", [1 << 20, 64])
def test_restore_gives_any_missing_member_all_its_blocks(n, piece):
    chunk, table = blocks_by_definition(members(n, seed=n))
    for missing in range(n):

        def program(comm: ThreadComm, missing: int = missing) -> list[bytes]:
            out = [bytearray() for _ in range(n)]

            def read(stripe: int, offset: int, view: memoryview) -> None:
                assert comm.rank != missing
                view[:] = table[comm.rank][stripe][offset : offset + len(view)]

            def write(stripe: int, offset: int, view: memoryview) -> None:
                assert comm.rank == missing
                assert offset == len(out[stripe])
                out[stripe].extend(view)

            is_lost = comm.rank == missing
            given = (None, write) if is_lost else (read, None)
            assert ring.restore(comm, missing, *given, chunk, piece) is None
            return [bytes(one) for one in out]

        assert run_all(n, program)[missing] == table[missing]


@pytest.mark.parametrize("what", ["read", "write"])
def test_an_error_of_one_member_is_its_own_and_nobody_waits_for_it(what):
    def program(comm: ThreadComm) -> object:
        def read(stripe: int, offset: int, view: memoryview) -> None:
            if what == "read" and comm.rank == 1:
                raise OSError("no medium")
            view[:] = b"x" * len(view)

        def write(stripe: int, offset: int, view: memoryview) -> None:
            if what == "write" and comm.rank == 1:
                raise OSError("no space")

        encoded = ring.encode(comm, read, write, 100, 8)
        lost = 1 if what == "write" else 2
        given = (None, write) if comm.rank == lost else (read, None)
        restored = ring.restore(comm, lost, *given, 100, 8)
        return [str(encoded), str(restored)]

    answers = run_all(3, program)
    word = "no medium" if what == "read" else "no space"
    assert answers == [["None", "None"], [word, word], ["None", "None"]]
