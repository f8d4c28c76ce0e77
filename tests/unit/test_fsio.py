# SPDX-License-Identifier: BSD-3-Clause
"""Files that are replaced whole, locked in place, read within bounds, and private directories."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tracemalloc
from pathlib import Path

import pytest

from scrjob import _fsio
from scrjob.errors import FormatError, UnsafePathError

UID = os.getuid()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=["plain", "two words", "it's", 'a"b', "line\nbreak", "ä\udcff"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path / request.param
    directory.mkdir()
    return directory


def test_atomic_write_creates_and_replaces(place: Path) -> None:
    target = place / "halt.scr"
    _fsio.atomic_write(target, b"one")
    _fsio.atomic_write(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(place) == ["halt.scr"]


def test_atomic_write_gives_the_mode_less_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        _fsio.atomic_write(tmp_path / "f", b"", mode=0o666)
    finally:
        os.umask(old)
    assert mode_of(tmp_path / "f") == 0o640


def test_atomic_write_replaces_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    _fsio.atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "index.scr"
    target.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        _fsio.atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["index.scr"]


def test_a_file_system_without_directory_sync_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    _fsio.fsync_dir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: os.read(-1, 1))
    with pytest.raises(OSError, match="Bad file"):
        _fsio.fsync_dir(tmp_path)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert _fsio.read_bounded(path, limit=5) == b"12345"
    with pytest.raises(FormatError, match="larger than the 4 bytes"):
        _fsio.read_bounded(path, limit=4)


def test_reading_takes_memory_for_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    tracemalloc.start()
    _fsio.read_bounded(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert b"\0" in _fsio.read_bounded("/proc/self/cmdline")  # its size is told as 0
    # Of some of them the kernel takes memory for all that is asked for.
    assert len(_fsio.read_bounded("/proc/sys/kernel/random/boot_id")) > 1


def test_what_comes_in_pieces_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    whole = os.read
    monkeypatch.setattr(os, "read", lambda fd, wanted: whole(fd, min(wanted, 2)))
    assert _fsio.read_bounded(path) == b"12345"
    assert _fsio.read_bounded(path, limit=5) == b"12345"
    with pytest.raises(FormatError, match="larger than the 4 bytes"):
        _fsio.read_bounded(path, limit=4)


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="not a regular file"):
        _fsio.read_bounded(tmp_path / "pipe")


def test_an_absent_file_is_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fsio.read_bounded(tmp_path / "none")
    with pytest.raises(FileNotFoundError), _fsio.locked(tmp_path / "none", exclusive=True):
        pass


def is_locked(path: Path, how: int) -> bool:
    with path.open("rb") as other:
        try:
            fcntl.flock(other, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_an_exclusive_lock_keeps_readers_out_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "halt.scr"
    with _fsio.locked(path, exclusive=True, create=True):
        assert is_locked(path, fcntl.LOCK_SH)
    assert not is_locked(path, fcntl.LOCK_EX)


def test_a_shared_lock_lets_readers_in_and_writers_wait(tmp_path: Path) -> None:
    path = tmp_path / "halt.scr"
    path.write_bytes(b"x")
    with _fsio.locked(path, exclusive=False):
        assert not is_locked(path, fcntl.LOCK_SH)
        assert is_locked(path, fcntl.LOCK_EX)


def test_the_lock_ends_with_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "halt.scr"
    with pytest.raises(ValueError, match="boom"), _fsio.locked(path, exclusive=True, create=True):
        raise ValueError("boom")
    assert not is_locked(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("data", [b"", b"short", b"longer than before"])
def test_overwrite_keeps_the_inode_and_leaves_no_tail(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "halt.scr"
    path.write_bytes(b"old content")
    inode = path.stat().st_ino
    with _fsio.locked(path, exclusive=True) as file:
        _fsio.overwrite(file, data)
    assert path.read_bytes() == data
    assert path.stat().st_ino == inode


def test_private_directories_are_made_for_us_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = _fsio.make_private_dirs(tmp_path, "alice", "scr.1", uid=UID)
    finally:
        os.umask(old)
    assert made == str(tmp_path / "alice" / "scr.1")
    assert mode_of(tmp_path / "alice") == mode_of(Path(made)) == 0o700
    assert _fsio.make_private_dirs(tmp_path, "alice", "scr.1", uid=UID) == made


def test_what_the_library_made_is_accepted_when_it_is_ours(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir(mode=0o755)
    _fsio.make_private_dirs(tmp_path, "alice", uid=UID)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "alice").symlink_to("elsewhere")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        _fsio.make_private_dirs(tmp_path, "alice", "scr.1", uid=UID)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    with pytest.raises(UnsafePathError, match=f"belongs to user {UID}, expected {UID + 1}"):
        _fsio.make_private_dirs(tmp_path, "alice", uid=UID + 1)


def test_a_directory_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice").chmod(0o777)
    with pytest.raises(UnsafePathError, match="anybody may write it"):
        _fsio.make_private_dirs(tmp_path, "alice", uid=UID)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alice").write_bytes(b"")
    with pytest.raises(UnsafePathError, match="not a directory"):
        _fsio.make_private_dirs(tmp_path, "alice", uid=UID)


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b"])
def test_names_that_are_no_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError, match="no name for a directory"):
        _fsio.make_private_dirs(tmp_path, name, uid=UID)


def test_an_absent_base_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _fsio.make_private_dirs(tmp_path / "none", "alice", uid=UID)
    assert not (tmp_path / "none").exists()


class TestSyncOfAFileSystem:
    def test_known_good_ones_only(self) -> None:
        memory = os.open("/dev/shm", os.O_RDONLY)
        proc = os.open("/proc", os.O_RDONLY)
        try:
            assert _fsio.syncs_all_and_tells(memory)
            _fsio.sync_filesystem(memory)
            assert not _fsio.syncs_all_and_tells(proc)
        finally:
            os.close(memory)
            os.close(proc)
        with pytest.raises(OSError, match="Bad file descriptor"):
            _fsio.sync_filesystem(proc)

    @pytest.mark.parametrize(
        ("release", "tells"),
        [("5.8.0-1-amd64", True), ("5.7.19", False), ("4.18.0-553.el8", False)],
    )
    def test_old_kernels_do_not_tell_of_failed_writes(
        self, monkeypatch: pytest.MonkeyPatch, release: str, tells: bool
    ) -> None:
        real = os.uname()
        monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:2], release, *real[3:])))
        fd = os.open("/dev/shm", os.O_RDONLY)
        try:
            assert _fsio.syncs_all_and_tells(fd) == tells
        finally:
            os.close(fd)
