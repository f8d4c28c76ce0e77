# SPDX-License-Identifier: BSD-3-Clause
"""Moving files between nodes: the ways in which it fails, and that nothing is lost then.

Here both ranks see one file system, so only failures can be looked at; tests/local moves for real.
"""

from __future__ import annotations

import os

import pytest

from scrjob.client import move
from scrjob.client.encode import protected_file
from scrjob.formats.redset_header import FileStat, ProtectedFile
from threadcomm import ThreadComm, run_all


def exchange(files, dataset: str, piece: int = 7) -> tuple[bool, tuple[bool, object]]:
    def program(comm: ThreadComm) -> object:
        if comm.rank == 0:
            return move.send(comm, 1, files, piece)
        return move.receive(comm, 0, dataset, piece)

    sent, received = run_all(2, program)
    return sent, (received.arrived, received.error)


@pytest.fixture
def files(tmp_path) -> list[ProtectedFile]:
    made = []
    for number, size in enumerate((100, 0, 7)):
        path = tmp_path / f"file{number}"
        path.write_bytes(os.urandom(size))
        made.append(protected_file(str(path)))
    return made


def kept(files) -> bool:
    return all(os.path.getsize(file.path) == file.size_bytes for file in files)


def parts(tmp_path) -> list[str]:
    return os.listdir(tmp_path / ".scr") if (tmp_path / ".scr").exists() else []


def test_a_file_that_does_not_belong_there_is_not_taken(tmp_path, files):
    sent, (arrived, error) = exchange(files, str(tmp_path / "other"))
    assert (sent, arrived) == (False, False)
    assert "is no place in" in str(error)
    assert kept(files)
    assert parts(tmp_path) == []


def test_a_path_with_dots_is_not_taken(tmp_path, files):
    bad = ProtectedFile(f"{tmp_path}/x/../../escape", files[0].stat)
    sent, (arrived, _) = exchange([*files[:1], bad], str(tmp_path))
    assert (sent, arrived) == (False, False)
    assert kept(files)


def test_a_file_that_the_sender_cannot_read_is_not_the_receivers_error(tmp_path, files):
    gone = ProtectedFile(f"{tmp_path}/gone", FileStat(size_bytes=30))
    sent, (arrived, error) = exchange([files[0], gone, files[2]], str(tmp_path))
    assert (sent, arrived, error) == (False, False, None)
    assert kept(files)
    assert parts(tmp_path) == []


def test_a_file_that_got_shorter_is_not_taken(tmp_path, files):
    os.truncate(files[0].path, 50)
    sent, (arrived, error) = exchange(files, str(tmp_path))
    assert (sent, arrived, error) == (False, False, None)


def test_a_receiver_that_cannot_write_says_so_and_the_files_stay(tmp_path, files):
    (tmp_path / ".scr" / "move.1.1").mkdir(parents=True)
    sent, (arrived, error) = exchange(files, str(tmp_path))
    assert (sent, arrived) == (False, False)
    assert isinstance(error, OSError)
    assert kept(files)


def test_nothing_to_send_is_fine(tmp_path):
    assert exchange([], str(tmp_path)) == (True, (True, None))
