# SPDX-License-Identifier: BSD-3-Clause
"""The parts of localrm that need no node: names, directories, placement, messages, records."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from scrjob.errors import ConfigError, NotInAllocationError, UsageError
from scrjob.launchers.local import LocalLauncher, parse
from scrjob.localrm import _proc, boot, directory, front, steps
from scrjob.localrm._wire import Request, decode_request, encode_request, receive_request


def test_default_names_are_never_the_machines() -> None:
    assert front.node_names(2, "laptop") == ["node1", "node2"]
    assert front.node_names(2, "node2.site.org") == ["vnode1", "vnode2"]


@pytest.mark.parametrize("count", [-1, 0, 257])
def test_counts_out_of_range(count: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to 256"):
        front.node_names(count, "laptop")


@pytest.mark.parametrize(
    "names",
    [
        ["localhost"],
        ["laptop"],
        ["laptop.site.org"],
        ["a b"],
        ["a:b"],
        ["a,b"],
        [""],
        ["-x"],
        ["n\n"],
        ["a", "a"],
        [],
    ],
)
def test_names_that_no_node_may_have(names: list[str]) -> None:
    with pytest.raises(UsageError):
        front.check_names(names, "laptop.site.org")


@pytest.mark.parametrize("name", ["n08", "r1n2", "a-b.c", "x1000c0s0b0n0"])
def test_names_that_nodes_may_have(name: str) -> None:
    """Lesson A5."""
    front.check_names([name], "laptop")


@pytest.mark.parametrize(
    ("ranks", "nodes", "expected"),
    [
        (8, "abcd", [("a", 2), ("b", 2), ("c", 2), ("d", 2)]),
        (5, "ab", [("a", 3), ("b", 2)]),
        (1, "ab", [("a", 1)]),
    ],
)
def test_ranks_are_placed_in_even_blocks(
    ranks: int, nodes: str, expected: list[tuple[str, int]]
) -> None:
    assert steps.place(ranks, list(nodes)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prog", "-n", "3"], (None, None, "auto", ["prog", "-n", "3"])),
        (["-N", "4", "-n", "8", "prog"], (4, 8, "auto", ["prog"])),
        (["-N4", "-n8", "--mpi=none", "prog"], (4, 8, "none", ["prog"])),
        (
            ["--nodes=4", "--ranks", "8", "--mpi", "mpich", "--", "-prog"],
            (4, 8, "mpich", ["-prog"]),
        ),
    ],
)
def test_the_launchers_arguments(words: list[str], expected: tuple[object, ...]) -> None:
    assert tuple(parse(words)) == expected
    assert LocalLauncher().nodes_wanted(words) == expected[0]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-N"],
        ["-N", "0", "x"],
        ["-n", "x", "x"],
        ["-q", "x"],
        ["--mpi=ompi", "x"],
        ["-N", "2"],
        ["-N", "²", "x"],
    ],
)
def test_arguments_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


def test_outermost_and_below() -> None:
    assert boot.is_below("/a/b", "/a")
    assert boot.is_below("/a", "/")
    assert not boot.is_below("/ab", "/a")
    assert not boot.is_below("/a", "/a")
    assert boot.outermost(["/a/b", "/a", "/ab", "/a", "/a/c/d"]) == ["/a", "/ab"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me", None),
        ("/tmp", "/tmp"),
        ("/tmp/x", "/tmp"),
        ("/tmp/job", None),
        ("/tmp/job/x", None),
        ("/tmp/job2", "/tmp"),
        ("/tmpx", None),
        ("/tmp/job/cache/x", "/tmp/job/cache"),
    ],
)
def test_what_storage_hides(path: str, expected: str | None) -> None:
    storage = ["/tmp", "/dev/shm", "/tmp/job/cache"]
    assert directory.hidden_by(path, storage, ["/tmp/job", "/home"]) == expected


def test_requests_keep_every_byte() -> None:
    request = Request([b"prog", b"", b"a b\n\xff"], {b"A": b"x=y\n", b"B": b""}, b"/d\xff", 0o27)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [encode_request(request)], [0, 1, 2])
        received, fds = receive_request(theirs)
        for fd in fds:
            os.close(fd)
    assert received == request
    assert len(fds) == 3
    assert decode_request(encode_request(request)[8:]) == request


@pytest.mark.parametrize(
    "data", [b"", b"SCRL", b"XXXX\0\0\0\0", b"SCRL\xff\xff\xff\xff", b"SCRL\0\0\0\x20abc"]
)
def test_what_is_no_request_is_dropped(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            if data:
                socket.send_fds(ours, [data], [0, 1, 2])
        with pytest.raises(EOFError):
            receive_request(theirs)


@pytest.mark.parametrize("words", [[], [b"a\0b"]])
def test_a_word_with_nul_is_refused(words: list[bytes]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode_request(Request(words, {}, b"/", 0))


def test_records_of_ranks(tmp_path: Path) -> None:
    step = str(tmp_path)
    assert steps.ranks(str(tmp_path / "gone")) == []
    for rank in (10, 2):
        steps.record_start(step, rank, f"node{rank}", 100 + rank)
    steps.record_end(step, 2, 7 << 8, 5.25)
    assert steps.ranks(step) == [
        steps.Rank(2, "node2", 102, 7 << 8, 5.25),
        steps.Rank(10, "node10", 110, None, 0.0),
    ]
    assert steps.starter(step) is None
    steps.record_starter(step)
    assert steps.starter(step) == os.getpid()
    steps.record_keeper(step, "node2", 0)
    assert steps.keepers(step) == []


def test_process_table_knows_us() -> None:
    own = _proc.process_table()[os.getpid()]
    assert own.alive
    assert own.ppid == os.getppid()
    assert _proc.is_alive(own.pid, own.start)
    assert not _proc.is_alive(own.pid, own.start + 1)
    assert own.pid in [p.pid for p in _proc.descendants(own.ppid)]
    assert _proc.read_process(1 << 30) is None
    assert _proc.pid_inside(1 << 30) is None


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (7 << 8, 7, "ended with exit code 7"),
        (9, 137, "was killed by signal 9 (SIGKILL)"),
        (34, 162, "was killed by signal 34"),
    ],
)
def test_wait_statuses(status: int, code: int, text: str) -> None:
    assert _proc.exit_code(status) == code
    assert _proc.describe_status(status).startswith(text)


def test_storage_directories(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/usr")
    found = front.storage_directories([str(link)], {"SCR_CACHE_BASE": "/tmp/not/there"})
    assert found[-2:] == ["/tmp/not/there", "/usr"]
    assert "/tmp" in found
    with pytest.raises(ConfigError, match="SCR_CNTL_BASE=rel"):
        front.storage_directories([], {"SCR_CNTL_BASE": "rel"})


def test_base_directory_is_private(tmp_path: Path) -> None:
    base = directory.base_directory({"SCR_LOCAL_BASE": str(tmp_path)}, os.getuid())
    assert base == str(tmp_path / "local")
    assert os.stat(base).st_mode & 0o777 == 0o700
    os.rmdir(base)
    os.symlink("/usr", base)
    with pytest.raises(ConfigError, match="symbolic link"):
        directory.base_directory({"SCR_LOCAL_BASE": str(tmp_path)}, os.getuid())


def test_directories_of_the_dead_are_cleared(tmp_path: Path) -> None:
    base = str(tmp_path)
    first, lock = directory.create(base, 17.0)
    second, other = directory.create(base, 17.0)
    assert (os.path.basename(first), os.path.basename(second)) == ("17000", "17001")
    assert directory.is_alive(first)
    os.close(lock)
    assert not directory.is_alive(first)
    third, last = directory.create(base, 18.0)
    assert directory.known(base, os.getuid()) == [second, third]
    os.close(other)
    os.close(last)
    with pytest.raises(NotInAllocationError, match="it has ended"):
        directory.read_info(first)


def test_steps_of_other_allocations_are_not_found(tmp_path: Path) -> None:
    from types import SimpleNamespace

    here = SimpleNamespace(path="/a/17", info=SimpleNamespace(job_id="17"))
    assert steps.find(here, "17.3") == "/a/17/steps/3"  # type: ignore[arg-type]
    assert steps.name("/a/17/steps/3") == "17.3"
    for record in ("18.3", "17.", "17.x", "17", ""):
        with pytest.raises(NotInAllocationError):
            steps.find(here, record)  # type: ignore[arg-type]
