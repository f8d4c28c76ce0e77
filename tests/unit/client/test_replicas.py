# SPDX-License-Identifier: BSD-3-Clause
"""Copies of neighbours' data: against their definition, for any loss they cover; errors, no deadlock."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from scrjob.client import replicas
from scrjob.client.replicas import Ends
from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy.shape import Shape
from threadcomm import ThreadComm, run_all

SIZES = {
    2: (100, 7),
    3: (0, 64, 65),
    5: (1, 0, 130, 64, 3),
    6: (10, 20, 30, 40, 50, 60),
}
SHAPES = [(n, r) for n in SIZES for r in (1, 2, 3) if r < n]


def shape(sizes: tuple[int, ...], copies: int) -> Shape:
    n = len(sizes)
    return Shape(Descriptor("partner", 1, 0, n, 0, 0, n, replicas=copies), sizes, 0)


class Group:
    """What the members of a group have, and what comes of it."""

    def __init__(self, n: int, copies: int) -> None:
        rng = random.Random(n)
        self.n = n
        self.copies = copies
        self.shape = shape(SIZES[n], copies)
        self.data = [rng.randbytes(size) for size in SIZES[n]]
        self.payload = [
            b"".join(self.data[(i - t) % n] for t in range(1, copies + 1)) for i in range(n)
        ]

    def covered(self, lost: tuple[int, ...]) -> bool:
        """Tell whether no run of lost members is longer than the number of copies."""
        runs = range(1, self.copies + 1)
        return all(any((i + t) % self.n not in lost for t in runs) for i in lost)


@pytest.mark.parametrize(("n", "copies"), SHAPES)
@pytest.mark.parametrize("piece", [1 << 20, 64, 1])
def test_encode_gives_each_member_its_neighbours_data(n, copies, piece):
    group = Group(n, copies)

    def program(comm: ThreadComm) -> bytes:
        out = bytearray()
        read_bytes = 0

        def read(offset: int, view: memoryview) -> None:
            nonlocal read_bytes
            read_bytes += len(view)
            view[:] = group.data[comm.rank][offset : offset + len(view)]

        def write(offset: int, view: memoryview) -> None:
            if len(view):
                assert offset == len(out)
                assert len(view) <= piece
                out.extend(view)

        assert replicas.encode(comm, read, write, group.shape, piece) is None
        assert read_bytes == copies * len(group.data[comm.rank])
        return bytes(out)

    assert run_all(n, program) == group.payload


@pytest.mark.parametrize(("n", "copies"), SHAPES)
@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_restore_gives_lost_members_their_data_and_payload(n, copies, piece):
    group = Group(n, copies)
    every = [lost for count in range(1, n) for lost in combinations(range(n), count)]
    within = [lost for lost in every if group.covered(lost)]
    assert within
    for lost in within:

        def program(comm: ThreadComm, lost: tuple[int, ...] = lost) -> tuple[bytes, bytes]:
            data = bytearray()
            payload = bytearray(len(group.payload[comm.rank]))

            def from_data(offset: int, view: memoryview) -> None:
                view[:] = group.data[comm.rank][offset : offset + len(view)]

            def from_payload(offset: int, view: memoryview) -> None:
                view[:] = group.payload[comm.rank][offset : offset + len(view)]

            def to_data(offset: int, view: memoryview) -> None:
                assert offset == len(data)
                data.extend(view)

            def to_payload(offset: int, view: memoryview) -> None:
                payload[offset : offset + len(view)] = view

            read, write = Ends(from_data, from_payload), Ends(to_data, to_payload)
            given = (None, write) if comm.rank in lost else (read, None)
            assert replicas.restore(comm, lost, *given, group.shape, piece) is None
            return bytes(data), bytes(payload)

        found = run_all(n, program)
        assert [found[i] for i in lost] == [(group.data[i], group.payload[i]) for i in lost]


@pytest.mark.parametrize("what", ["read", "write"])
def test_an_error_of_one_member_is_its_own_and_nobody_waits_for_it(what):
    measures = shape((50, 20, 70, 0), 1)

    def program(comm: ThreadComm) -> object:
        def read(offset: int, view: memoryview) -> None:
            if what == "read" and comm.rank == 1:
                raise OSError("no medium")

        def write(offset: int, view: memoryview) -> None:
            if what == "write" and comm.rank == 1:
                raise OSError("no space")

        encoded = replicas.encode(comm, read, write, measures, 8)
        lost = (1, 3) if what == "write" else (2,)
        given = (None, Ends(write, write)) if comm.rank in lost else (Ends(read, read), None)
        restored = replicas.restore(comm, lost, *given, measures, 8)
        return [str(encoded), str(restored)]

    answers = run_all(4, program)
    word = "no medium" if what == "read" else "no space"
    assert answers == [["None", "None"], [word, word], ["None", "None"], ["None", "None"]]
