# SPDX-License-Identifier: BSD-3-Clause
"""Sums of products: the same by every multiplier, for every block size and number of threads."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from scrjob.redundancy import combine, gf256, isal, kernels
from scrjob.redundancy.combine import Span, Target, Task

needs_isal = pytest.mark.skipif(isal.load() is None, reason="libisal.so.2 is not installed")
MULTIPLIERS = [
    pytest.param(kernels.NumpyMultiplier, id="numpy"),
    pytest.param(kernels.fastest_multiplier(), id="isal", marks=needs_isal),
]


class Bytes:
    """A source and a sink in memory that remembers who used it, and by how much at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.threads: set[int] = set()
        self.largest = 0

    def readinto(self, offset, view):
        self.threads.add(threading.get_ident())
        self.largest = max(self.largest, len(view))
        view[:] = self.data[offset : offset + len(view)]

    def write(self, offset, view):
        self.data[offset : offset + len(view)] = view


def some_task(rng: random.Random, length: int, sources: int, targets: int) -> tuple[Task, list]:
    """Return a task and the bytes that each target must get."""
    spans = [Span(Bytes(rng.randbytes(length + 9)), rng.randrange(9)) for _ in range(sources)]
    wanted = []
    goals = []
    for _ in range(targets):
        factors = [rng.choice([0, 1, 2, rng.randrange(256)]) for _ in range(sources)]
        total = bytearray(length)
        for (source, start), factor in zip(spans, factors):
            table = gf256.product_table(factor)
            product = bytes(source.data[start : start + length]).translate(table)
            total = bytearray(a ^ b for a, b in zip(total, product))
        wanted.append(bytes(total))
        goals.append(Target(Bytes(bytes(length + 5)), 5, factors))
    return Task(length, spans, goals), wanted


def results(task: Task) -> list[bytes]:
    return [bytes(target.sink.data[5:]) for target in task.targets]


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize(("block", "span", "workers"), [(512, 4096, 1), (7, 50, 1), (64, 200, 3)])
def test_sums_are_right(multiplier, block, span, workers, monkeypatch):
    monkeypatch.setattr(combine, "RANGE_BYTES", span)
    rng = random.Random(block)
    made = [
        some_task(
            rng, rng.choice([1, 31, 32, 33, 700, 1500]), rng.randint(1, 9), rng.randint(1, 11)
        )
        for _ in range(25)
    ]
    combine.run(
        [task for task, _ in made], workers=workers, block_bytes=block, multiplier=multiplier
    )
    for task, wanted in made:
        assert results(task) == wanted
        assert all(span.source.largest <= block for span in task.sources)


@needs_isal
@pytest.mark.parametrize("length", [*range(1, 100), 4095, 4096, 4097, 100_003])
def test_isal_and_numpy_agree(length):
    """ISA-L has its own ways with the ends of blocks."""
    rng = np.random.default_rng(length)
    random_bytes = rng.integers(0, 256, (6, length), dtype=np.uint8)
    sources = [Span(Bytes(row.tobytes()), 0) for row in random_bytes]
    factors = rng.integers(0, 256, (3, 6)).tolist()
    made = []
    for make in (kernels.NumpyMultiplier, kernels.fastest_multiplier()):
        multiplier = make(4, max(length, 64))
        multiplier.prepare(factors)
        first = [bytes(view) for view in multiplier.combine(sources, 0, length)]
        assert [bytes(view) for view in multiplier.combine(sources, 0, length)] == first
        made.append(first)
    assert made[0] == made[1]


@pytest.mark.parametrize("with_isal", [pytest.param(True, marks=needs_isal), False])
@pytest.mark.parametrize("factors", [(1,), (0, 1), (2, 0, 255), (7,), (1, 29, 3, 200)])
@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1000])
def test_a_block_is_added_to_several_sums(with_isal, factors, length, monkeypatch):
    if not with_isal:
        monkeypatch.setattr(isal, "load", lambda: None)
    rng = np.random.default_rng(length)
    room = rng.integers(0, 256, length * len(factors), dtype=np.uint8)
    data = rng.integers(0, 256, length, dtype=np.uint8)
    before, kept = room.copy(), data.copy()
    sums = [room[i * length :][:length] for i in range(len(factors))]
    kernels.accumulate(sums, factors, data)
    for i, factor in enumerate(factors):
        was = before[i * length :][:length].tolist()
        expected = [w ^ gf256.mul(factor, d) for w, d in zip(was, data.tolist())]
        assert sums[i].tolist() == expected
    assert (data == kept).all()


def test_isal_is_used_where_it_is_and_only_there(monkeypatch):
    isal.load.cache_clear()
    assert isal.load("libno-such-library.so.2") is None
    assert isal.load("libc.so.6") is None  # a library, but not this one
    monkeypatch.setattr(isal, "load", lambda: None)
    assert kernels.fastest_multiplier() is kernels.NumpyMultiplier


@pytest.mark.parametrize("looked_up", [0, 1])
def test_products_by_every_factor(looked_up, monkeypatch):
    monkeypatch.setattr(kernels, "LOOKED_UP", looked_up)
    data = np.arange(256, dtype=np.uint8)
    multiplier = kernels.NumpyMultiplier(1, 256)
    for factor in range(256):
        multiplier.prepare([[factor]])
        (view,) = multiplier.combine([Span(Bytes(data.tobytes()), 0)], 0, 256)
        assert bytes(view) == gf256.product_table(factor)


def test_nothing_to_add_up_is_zero():
    sink = Bytes(b"x" * 9)
    combine.run([Task(9, [], [Target(sink, 0, ())])])
    assert sink.data == bytes(9)


def test_many_threads_share_the_work(monkeypatch):
    monkeypatch.setattr(combine, "RANGE_BYTES", 10)
    meeting = threading.Barrier(3)

    class Meeting(Bytes):
        def readinto(self, offset, view):
            meeting.wait(30)  # nobody gets on unless three threads are here
            super().readinto(offset, view)

    source, sink = Meeting(random.Random(4).randbytes(90)), Bytes(bytes(90))
    combine.run([Task(90, [Span(source, 0)], [Target(sink, 0, (1,))])], workers=3)
    assert len(source.threads) == 3
    assert sink.data == source.data


def test_no_more_threads_than_there_is_work_for(monkeypatch):
    started = []
    real = threading.Thread
    monkeypatch.setattr(threading, "Thread", lambda **given: started.append(1) or real(**given))
    source, sink = Bytes(b"abc"), Bytes(bytes(3))
    combine.run([Task(3, [Span(source, 0)], [Target(sink, 0, (1,))])], workers=5)
    assert not started
    assert sink.data == b"abc"


@pytest.mark.parametrize("in_helper", [True, False])
def test_the_first_error_ends_all_threads(in_helper, monkeypatch):
    monkeypatch.setattr(combine, "RANGE_BYTES", 1)
    me = threading.get_ident()

    class Broken(Bytes):
        reads = 0

        def readinto(self, offset, view):
            self.reads += 1
            if in_helper == (threading.get_ident() != me):
                raise OSError(5, "no such luck")

    source, sink = Broken(b""), Bytes(bytes(500_000))
    task = Task(500_000, [Span(source, 0)], [Target(sink, 0, (1,))])
    before = threading.active_count()
    with pytest.raises(OSError, match="no such luck"):
        combine.run([task], workers=2)
    assert threading.active_count() == before
    assert source.reads < 400_000


def test_processors_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(combine.os, "sched_getaffinity", lambda _pid: {1, 5, 6})
    assert combine.usable_cpus() == 3
    monkeypatch.setattr(combine.os, "sched_getaffinity", lambda _pid: set(range(500)))
    assert combine.usable_cpus() == combine.MAX_WORKERS
