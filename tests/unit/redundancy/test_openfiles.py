# SPDX-License-Identifier: BSD-3-Clause
"""Few descriptors for many files, and logical files that several threads read and write."""

from __future__ import annotations

import os
import random
import threading
import zlib
from pathlib import Path

import pytest

from scrjob.redundancy import logical
from scrjob.redundancy.logical import LogicalReader, LogicalWriter, Part, open_regular
from scrjob.redundancy.openfiles import OpenFiles


class Opener:
    """Opens files and counts."""

    def __init__(self) -> None:
        self.opened: list[int] = []

    def __call__(self, path):
        fd = open_regular(path)
        self.opened.append(fd)
        return fd

    def open_now(self) -> int:
        return sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in set(self.opened))


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / str(number) for number in range(6)]
    for path in found:
        path.write_bytes(b"x")
    return [str(path) for path in found]


def test_the_ones_used_last_stay_open(paths):
    opener, files = Opener(), OpenFiles(2)
    for path in (*paths[:3], paths[2], paths[1], paths[3], paths[1]):
        files.take(path, opener)
        files.give(path)
    assert len(opener.opened) == 4
    assert opener.open_now() == 2
    files.close()
    assert opener.open_now() == 0


def test_what_is_in_use_is_not_closed(paths):
    opener, files = Opener(), OpenFiles(1)
    fds = [files.take(path, opener) for path in paths]
    assert opener.open_now() == len(set(fds)) == 6
    for path in paths:
        files.give(path)
    files.take(paths[0], opener)
    files.give(paths[0])
    assert len(opener.opened) == 6  # it was still there
    extra = files.take(__file__, opener)
    assert opener.open_now() == 1
    assert os.path.exists(f"/proc/self/fd/{extra}")
    files.give(__file__)
    files.close()


def test_a_file_that_two_threads_open_is_kept_once(paths):
    meeting = threading.Barrier(2)
    opened = []

    def opener(path):
        meeting.wait(30)  # both found it absent
        opened.append(open_regular(path))
        return opened[-1]

    files = OpenFiles()
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(files.take(paths[0], opener))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1]
    assert len(opened) == 2
    assert sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in opened) == 1
    files.give(paths[0])
    files.give(paths[0])
    files.close()


def test_what_cannot_be_opened_is_not_kept(tmp_path):
    files = OpenFiles()
    with pytest.raises(FileNotFoundError):
        files.take(str(tmp_path / "none"), open_regular)
    files.close()


def test_threads_write_a_logical_file_in_any_order(tmp_path):
    rng = random.Random(3)
    sizes = [0, 5, 40_000, 0, 1, 1, 7000, 3000]
    parts = [Part(str(tmp_path / str(number)), size) for number, size in enumerate(sizes)]
    data = rng.randbytes(sum(sizes))
    files = OpenFiles(2)
    writer = LogicalWriter(parts, files)
    writer.create()
    ranges = [(at, min(at + 900, len(data))) for at in range(0, len(data), 900)]
    rng.shuffle(ranges)

    def work():
        while ranges:
            start, stop = ranges.pop()
            for at in range(start, stop, 100):
                writer.write(at, memoryview(data[at : min(at + 100, stop)]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.write(len(data), memoryview(b"beyond"))
    at = 0
    for part, crc in zip(parts, writer.crcs):
        wanted = data[at : at + part.size]
        assert Path(part.path).read_bytes() == wanted
        assert crc == zlib.crc32(wanted)
        at += part.size
    # What is kept for the checksums does not grow with the number of pieces.
    assert all(len(one._by_start) <= 1 for one in writer._checksums)

    files.close()
    reader = LogicalReader(parts, files)
    buffer = bytearray(len(data) + 3)
    reader.readinto(0, memoryview(buffer))
    assert buffer == data + bytes(3)
    reader.close()  # leaves the files of others alone
    reader.readinto(0, memoryview(buffer))
    files.close()


def test_a_run_that_ends_where_another_is_just_growing_is_joined_too(monkeypatch, tmp_path):
    data = bytes(range(12))
    writer = LogicalWriter([Part(str(tmp_path / "f"), 12)])
    writer.create()
    writer.write(4, memoryview(data[4:8]))
    real = logical.crc32

    def interrupted(piece, crc):
        if bytes(piece) == data[8:]:
            writer.write(0, memoryview(data[:4]))
        return real(piece, crc)

    monkeypatch.setattr(logical, "crc32", interrupted)
    writer.write(8, memoryview(data[8:]))
    assert writer.crcs == [zlib.crc32(data)]
    writer.close()


@pytest.mark.parametrize("pieces", [[(0, 3)], [(0, 3), (3, 4), (3, 3)], [(1, 6)], [(0, 3), (4, 3)]])
def test_bytes_that_were_not_written_once_have_no_checksum(pieces, tmp_path):
    writer = LogicalWriter([Part(str(tmp_path / "f"), 7)])
    writer.create()
    for start, length in pieces:
        writer.write(start, memoryview(bytes(length)))
    with pytest.raises(ValueError, match="expected 7 bytes to be written once"):
        assert writer.crcs
    writer.close()
