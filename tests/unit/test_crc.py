# SPDX-License-Identifier: BSD-3-Clause
"""CRC32 with ISA-L and without it, and of pieces put together."""

from __future__ import annotations

import importlib
import random
import sys
import zlib

import pytest

from scrjob import _crc


@pytest.fixture(params=["as installed", "without isal"])
def crc(request, monkeypatch):
    """Give the module as it is, and as it would be where isal cannot be imported."""
    if request.param == "as installed":
        yield _crc
        return
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    yield importlib.reload(_crc)
    monkeypatch.undo()
    importlib.reload(_crc)


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1000, 100_003])
def test_numbers_are_those_of_zlib(crc, size):
    data = random.Random(size).randbytes(size)
    half = size // 2
    assert crc.crc32(data) == zlib.crc32(data)
    assert crc.crc32(memoryview(data)[half:], crc.crc32(bytearray(data[:half]))) == zlib.crc32(data)


@pytest.mark.parametrize("first", [0, 1, 5, 1000])
@pytest.mark.parametrize("second", [0, 1, 2, 255, 4096, 99_991])
def test_pieces_put_together(first, second):
    data = random.Random(first).randbytes(first + second)
    parts = zlib.crc32(data[:first]), zlib.crc32(data[first:])
    assert _crc.combine(*parts, second) == zlib.crc32(data)


def test_pieces_larger_than_any_memory():
    """Of zeros: doubling a piece combines it with itself, which is another way to the same number."""
    total = zlib.crc32(bytes(1 << 20))
    for power in range(20, 45):
        total = _crc.combine(total, total, 1 << power)
    tail = zlib.crc32(b"end")
    whole = _crc.combine(total, tail, 3)
    # In the other order of brackets: ((a a) e) against (a (a e)).
    half = zlib.crc32(bytes(1 << 20))
    for power in range(20, 44):
        half = _crc.combine(half, half, 1 << power)
    assert whole == _crc.combine(half, _crc.combine(half, tail, 3), (1 << 44) + 3)


@pytest.mark.parametrize("size", [0, 1, 5 << 20])
def test_the_rest_of_a_file(crc, size, tmp_path):
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    with open(tmp_path / "f", "rb", buffering=0) as file:
        assert crc.rest_of(file.fileno()) == zlib.crc32(data)
        assert crc.rest_of(file.fileno()) == 0
        file.seek(size // 2)
        assert crc.rest_of(file.fileno()) == zlib.crc32(data[size // 2 :])
