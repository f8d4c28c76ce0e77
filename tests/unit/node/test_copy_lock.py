# SPDX-License-Identifier: BSD-3-Clause
"""Two copies of a dataset on one node: the newer one goes on, and hurts no process that is none of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from copychild import check_journal, leftovers, run_copy
from copynode import Node
from scrjob._clock import SystemClock, wait_for
from scrjob.node._lock import BusyError, only_copy
from scrjob.testing.fakes import FakeClock

NAME = "the.lock"
HOLDER = """
import os, signal, sys
from scrjob._clock import SystemClock
from scrjob.node._lock import only_copy
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with only_copy(sys.argv[1], sys.argv[2], SystemClock()):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    yield from hold(tmp_path)


@pytest.fixture
def deaf_holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    yield from hold(tmp_path, "deaf")


def hold(directory: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLDER, str(directory), NAME, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_nobody_else(tmp_path: Path) -> None:
    with only_copy(str(tmp_path), NAME, FakeClock()):
        content = json.loads((tmp_path / NAME).read_text())
        assert content["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "old", [b"", b"garbage", b"[]", b'{"pid": 1, "start": 1, "namespace": "x"}']
)
def test_what_a_killed_one_left(tmp_path: Path, old: bytes) -> None:
    (tmp_path / NAME).write_bytes(old)
    with only_copy(str(tmp_path), NAME, FakeClock(), kill=lambda *_: pytest.fail("killed")):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_the_predecessor_is_ended(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with only_copy(str(tmp_path), NAME, SystemClock()):
        assert holder.wait(5) == -signal.SIGTERM
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


class Impatient(SystemClock):
    """Waits as everybody, but the time goes by faster."""

    def monotonic(self) -> float:
        return 20 * time.monotonic()


def test_one_that_does_not_listen_is_killed(
    tmp_path: Path, deaf_holder: subprocess.Popen[bytes]
) -> None:
    with only_copy(str(tmp_path), NAME, Impatient()):
        assert deaf_holder.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("field", ["pid", "start", "namespace"])
def test_only_the_process_that_was_noted_is_ended(
    tmp_path: Path, holder: subprocess.Popen[bytes], field: str
) -> None:
    """Its number may belong to another process by now, or mean another one here."""
    path = tmp_path / NAME
    content = json.loads(path.read_text())
    content[field] = {"pid": os.getppid(), "start": 1, "namespace": "pid:[1]"}[field]
    path.write_text(json.dumps(content))
    killed: list[object] = []
    with (
        pytest.raises(BusyError, match="does not end"),
        only_copy(str(tmp_path), NAME, FakeClock(), kill=lambda *what: killed.append(what)),
    ):
        pass
    assert killed == []
    assert holder.poll() is None
    assert path.exists()


def test_another_users_process_is_not_ended(
    tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with (
        pytest.raises(BusyError),
        only_copy(str(tmp_path), NAME, FakeClock(), kill=lambda *_: pytest.fail("killed")),
    ):
        pass
    assert holder.poll() is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / NAME).symlink_to("victim")
    with (
        pytest.raises(OSError, match="symbolic links"),
        only_copy(str(tmp_path), NAME, FakeClock()),
    ):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"


# --- the whole copy ---


@pytest.mark.unmeasured
def test_a_copy_takes_over_from_one_that_nobody_waits_for(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for number in range(40):
        node.add(f"f{number}", os.urandom(5000), flush=False)
    node.add("large", os.urandom(3 << 20))
    argv = [sys.executable, "-m", "scrjob.node", "copy", "--cntldir", str(node.cntl), "--id", "5"]
    argv += ["--prefix", str(node.prefix), "--resume", "--bw", "100k"]
    lock = node.cntl / f"scrjob.copy.5.{os.uname().nodename}.lock"
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as orphan:
        try:
            assert wait_for(lambda: leftovers(node.prefix), clock=SystemClock(), limit_s=30), (
                "it did not begin"
            )
            ended = run_copy(node, environ={})
            assert (ended.rc, ended.report["files"]) == (0, 41)
            assert orphan.wait(5) == -signal.SIGTERM
        finally:
            orphan.kill()
    assert check_journal(node) == 42
    assert leftovers(node.prefix) == []
    assert not lock.exists()


@pytest.mark.unmeasured
def test_a_copy_ends_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.add("large", os.urandom(3 << 20))
    argv = [sys.executable, "-m", "scrjob.node", "copy", "--cntldir", str(node.cntl), "--id", "5"]
    argv += ["--prefix", str(node.prefix), "--resume", "--bw", "100k", "--progress"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as orphan:
        try:
            assert wait_for(lambda: leftovers(node.prefix), clock=SystemClock(), limit_s=30)
            assert orphan.stdout is not None
            orphan.stdout.close()
            assert orphan.wait(20) == 1
            assert orphan.stderr is not None
            said = orphan.stderr.read().decode()
            assert said == ""
        finally:
            orphan.kill()
    assert leftovers(node.prefix) == []
    assert [path.name for path in node.prefix.glob(".scr/*/*")] == []
    assert [path.name for path in node.cntl.iterdir()] == ["cindex.scrinfo"]


def test_a_busy_node_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    node.add("f")

    def busy(*_: object) -> object:
        raise BusyError("another copy is at work and does not end")

    monkeypatch.setattr("scrjob.node.copy.only_copy", busy)
    result = node.copy(resume=True)
    assert (result.rc, result.files) == (1, 0)
    assert len(node.lines) == 2
    assert "another copy is at work" in node.lines[0]
    assert not node.target("f").exists()
    assert node.copy().rc == 0  # as the C tool, which knows of no lock


def test_no_place_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    node.add("f")

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scrjob.node.copy.only_copy", full)
    assert node.copy(resume=True).rc == 0
