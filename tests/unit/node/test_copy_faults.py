# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong below the copy: full disks, failing ones, other users, files that change. All is told,
nothing that was there is lost, and what is left over can be copied later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

import faults
from copychild import check_journal, leftovers, run_copy
from copynode import Node
from scrjob._clock import SystemClock, wait_for
from scrjob.node import _batch, _crew, _transfer
from scrjob.node._transfer import Transfer
from worlds import require

MIB = 1 << 20


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Forty small files, more than are synced by themselves, and one of two parts."""
    made = Node(tmp_path)
    for number in range(40):
        made.add(f"small{number}", b"%d" % number * 100, flush=False)
    made.add("large", os.urandom(17 * MIB))
    return made


def old(node: Node, name: str) -> Path:
    """Put an older file where a copy is to be."""
    target = node.target(name)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"old")
    return target


def go_on(node: Node) -> None:
    """Copy once more, now without fault: all is well then."""
    again = run_copy(node, environ={})
    assert again.rc == 0
    assert again.report["files"] == len(node.meta)
    for path in node.meta:
        name = os.path.basename(path)
        assert node.target(name).read_bytes() == (node.cache / name).read_bytes()
    assert check_journal(node) == len(node.meta) + 1
    assert leftovers(node.prefix) == []


ERRORS = {
    "EIO": "Input/output error",
    "ENOSPC": "No space left on device",
    "EDQUOT": "Disk quota exceeded",
    "ESTALE": "Stale file handle",
    "EACCES": "Permission denied",
}


def temporary(name: str) -> str:
    """Return the end of the temporary name of a file: they are numbered, the newest record comes first."""
    return f".{1 if name == 'large' else 41 - int(name[5:])}.tmp$"


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("rule", "name", "number"),
    [
        (f"write:{temporary('small2')}:1:ENOSPC", "small2", 1),
        (f"write:{temporary('large')}:3:ENOSPC", "large", 1),
        (f"write:{temporary('large')}:17:EDQUOT", "large", 1),
        ("write:/out/:1+:ENOSPC", "large", 41),
        ("read:/large$:2:EIO", "large", 1),
        ("read:/small7$:1:EIO", "small7", 1),
        (f"create:{temporary('small4')}:1:EACCES", "small4", 1),
        (f"create:{temporary('large')}:1:EACCES", "large", 1),
        ("rename:/out/small9$:1:ESTALE", "small9", 1),
        ("rename:/out/large$:1:EIO", "large", 1),
        (f"attributes:{temporary('small7')}:1:EIO", "small7", 1),
        ("open:/cache/scr.dataset.5/large$:1:EIO", "large", 1),
    ],
)
def test_one_call_fails(node: Node, rule: str, name: str, number: int) -> None:
    require("faults")
    before = old(node, name)
    ended = run_copy(node, environ=faults.environ(rule), batch=4096)
    assert ended.rc == 1
    assert len(ended.report["errors"]) == number
    assert name in ended.report["errors"][0]
    assert ERRORS[rule.rpartition(":")[2].rstrip("+")] in ended.report["errors"][0]
    assert len(ended.lines) == number + 1
    if not rule.startswith("attributes"):  # then the bytes are right, which is what counts
        assert before.read_bytes() == b"old"
        assert ended.report["files"] == len(node.meta) - number
    assert leftovers(node.prefix) == []
    check_journal(node)
    go_on(node)


@pytest.mark.unmeasured
def test_reading_ends_once_too_early(node: Node) -> None:
    """A file that was not whole in one go is read once more, from its beginning."""
    require("faults")
    ended = run_copy(node, environ=faults.environ("read:/small7$:1:SHORT"))
    assert ended.rc == 0
    assert node.target("small7").read_bytes() == b"7" * 100
    assert check_journal(node) == len(node.meta) + 1
    go_on(node)


@pytest.mark.unmeasured
def test_reading_ends_too_early(node: Node) -> None:
    require("faults")
    ended = run_copy(node, environ=faults.environ("read:/small7$:1+:SHORT"))
    assert len(ended.report["errors"]) == 1
    assert "bytes: expected 100, got 0" in ended.report["errors"][0]
    go_on(node)


@pytest.mark.unmeasured
@pytest.mark.parametrize("then", ["", f";sync:{temporary('small7')}:1:EIO"])
def test_sync_of_the_file_system_fails(node: Node, then: str) -> None:
    """It does not say for which file: then each is asked; only those that fail are lost."""
    require("faults")
    before = old(node, "small7")
    count = node.prefix / "count"
    rules = f"sync:/out$:1:EIO{then}"
    ended = run_copy(node, environ=faults.environ(rules, count=count), batch=4096)
    assert int(count.read_text()) == 2  # the file system, and the directory for the names
    if then:
        assert "small7" in ended.report["errors"][0]
        assert len(ended.report["errors"]) == 1
        assert before.read_bytes() == b"old"
    else:
        assert ended.rc == 0
    go_on(node)


@pytest.mark.unmeasured
def test_sync_of_a_large_file_fails(node: Node) -> None:
    require("faults")
    before = old(node, "large")
    ended = run_copy(node, environ=faults.environ(f"sync:{temporary('large')}:1:EIO"), batch=4096)
    assert len(ended.report["errors"]) == 1
    assert "large" in ended.report["errors"][0]
    assert before.read_bytes() == b"old"
    go_on(node)


@pytest.mark.unmeasured
def test_sync_of_a_directory_fails(node: Node) -> None:
    """The files have their names, but perhaps not after a power cut: told, and not noted as done."""
    require("faults")
    ended = run_copy(node, environ=faults.environ("sync:/out$:2:EIO"), batch=4096)
    assert ended.rc == 1
    assert len(ended.report["errors"]) == len(node.meta)
    assert check_journal(node) == 1  # the filemap, which is elsewhere
    go_on(node)


@pytest.mark.unmeasured
@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_really_full_disk(node: Node, tmp_path: Path) -> None:
    """The prefix has room for some of the files."""
    script = 'mount -t tmpfs -o size=8m none "$1" && shift && "$@"; code=$?; ls -A "$PREFIX/out"; exit $code'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", str(node.prefix), sys.executable]
    argv += ["-m", "scrjob.node", "copy", "--cntldir", str(node.cntl), "--id", "5"]
    done = subprocess.run(
        [*argv, "--prefix", str(node.prefix), "--resume"],
        env={**os.environ, "PREFIX": str(node.prefix)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said, _, listed = done.stdout.partition("Return code: 1\n")
    assert done.returncode == 1
    told = [line.partition(": No space")[0].rpartition("/")[2] for line in said.splitlines()[:-1]]
    assert said.count(": No space left on device\n") == len(told)
    source, target = node.cache / "large", node.target("large")
    assert f"Failed to copy file {source} to {target}: No space left on device\n" in said
    # While the large one fills the disk some small ones, and their filemap, may find no room either.
    assert told[0] == "large"
    names = sorted(os.path.basename(path) for path in node.meta)
    assert set(told) <= {*names, "filemap_0"}
    assert sorted([*listed.splitlines(), *(n for n in told if n != "filemap_0")]) == names


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a directory that others can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="scrjob-test-") as name:
        yield Path(name)


@pytest.mark.unmeasured
@pytest.mark.parametrize("where", ["source", "prefix"])
def test_another_users_files(open_path: Path, where: str) -> None:
    """The tests are root's in CI, whom nothing is forbidden: as somebody else."""
    require("unprivileged user")
    node = Node(open_path)
    node.add("good")
    denied = node.add("denied")
    if where == "prefix":
        node.target("x").parent.mkdir()
    if os.getuid() == 0:
        for path in [open_path, *open_path.rglob("*")]:
            os.chown(path, 65534, 65534)
    if where == "source":
        denied.chmod(0)
    else:
        node.target("x").parent.chmod(0o500)
    prefix = [] if os.getuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # The interpreter may lie where only root can go: give up being root when all is imported.
    code = "import os, sys\nfrom scrjob.node import copy_main\n"
    code += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if prefix else ""
    code += "sys.exit(copy_main.main(sys.argv[1:]))"
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "--cntldir", str(node.cntl), "--id", "5"),
            *("--prefix", str(node.prefix)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    if where == "source":
        assert "Do not have read access to file" in done.stdout
        assert node.target("good").exists()
    else:
        assert done.stdout.count("Permission denied") == 2
        assert (node.prefix / ".scr/scr.dataset.5/filemap_0").exists()


def change_during(node: Node, monkeypatch: pytest.MonkeyPatch, change: Any) -> Any:
    """Copy, and do something to the source when its first bytes are on their way."""
    original = Transfer.move
    done = []

    def move(self: Transfer, *arguments: Any) -> None:
        original(self, *arguments)
        if self.name == "victim" and not done:
            done.append(True)
            change()

    monkeypatch.setattr(Transfer, "move", move)
    return node.copy(resume=True)


@pytest.mark.parametrize("size", [100, 20 * MIB])
@pytest.mark.parametrize("how", ["grows", "shrinks", "rewritten"])
def test_a_source_that_changes_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, how: str
) -> None:
    node = Node(tmp_path)
    victim = node.add("victim", b"x" * size)
    node.add("other")
    before = old(node, "victim")

    def change() -> None:
        if how == "grows":
            victim.write_bytes(b"x" * (size + 1))
        elif how == "shrinks":
            os.truncate(victim, size // 2)
        else:
            victim.write_bytes(b"y" * size)
            os.utime(victim, ns=(1, 1))

    result = change_during(node, monkeypatch, change)
    assert result.rc == 1
    assert len(result.errors) == 1
    assert "victim" in result.errors[0]
    assert "changed while it was copied" in result.errors[0] or how == "shrinks"
    assert before.read_bytes() == b"old"
    assert node.target("other").exists()
    assert leftovers(node.prefix) == []


def test_a_source_that_vanishes_meanwhile_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is open, so its bytes are there still."""
    node = Node(tmp_path)
    victim = node.add("victim")
    assert change_during(node, monkeypatch, victim.unlink).rc == 0
    assert node.target("victim").read_bytes() == b"data"


def test_the_dataset_vanishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    for name in ("last", "later", "victim"):
        node.add(name)
    monkeypatch.setattr(_crew, "CHUNK_FILES", 1)
    result = change_during(node, monkeypatch, lambda: shutil.rmtree(node.cache))
    assert (result.rc, result.files) == (1, 1)
    assert [line for line in node.lines if "Do not have read access" in line]


LONG = "n" * 255


@pytest.mark.parametrize("name", [LONG, "\udcff" * 255, "ä" * 127, "\n" * 255, ".hidden", ".tmp"])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path)
    node.add(name, b"1")
    assert node.copy(resume=True).rc == 0
    assert node.target(name).read_bytes() == b"1"
    assert node.copy(resume=True).skipped == 2


@pytest.mark.parametrize("kind", ["device", "socket", "fifo", "link", "dangling", "directory"])
@pytest.mark.parametrize("place", ["file", "filemap", "redundancy"])
def test_special_files_are_told_and_never_waited_for(tmp_path: Path, kind: str, place: str) -> None:
    node = Node(tmp_path)
    node.add("good")
    hidden = node.cache / ".scr"
    if place == "file":
        path = node.add("bad")
        path.unlink()
    else:
        path = hidden / ("filemap_1" if place == "filemap" else "reddesc.er.0.redset")
    if kind == "device":
        if os.getuid() != 0:
            pytest.skip("making a device needs root")
        os.mknod(path, 0o20600, os.makedev(1, 5))  # /dev/zero, which never ends
    elif kind == "socket":
        os.mknod(path, 0o140600)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/etc/hostname" if kind == "link" else "/nowhere/at/all")
    result = node.copy()
    assert result.rc == 1
    assert node.target("good").exists()
    assert not node.target("bad").exists()
    names = sorted(path.name for path in (node.prefix / ".scr/scr.dataset.5").iterdir())
    assert names == ["filemap_0"]


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_has_the_destinations_name_is_replaced_not_followed(tmp_path: Path, kind: str) -> None:
    node = Node(tmp_path)
    node.add("f")
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    node.target("f").parent.mkdir()
    if kind == "link":
        node.target("f").symlink_to(outside)
    else:
        os.mkfifo(node.target("f"))
    assert node.copy().rc == 0
    assert node.target("f").read_bytes() == b"data"
    assert not node.target("f").is_symlink()
    assert outside.read_bytes() == b"precious"


def test_a_directory_has_the_destinations_name(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.add("f")
    (node.target("f") / "inside").mkdir(parents=True)
    assert node.copy().rc == 1
    assert "Is a directory" in node.lines[0]
    assert (node.target("f") / "inside").exists()
    assert leftovers(node.prefix) == []


@pytest.mark.parametrize("recorded", ["/", "..", "/cache/..", "/cache/."])
def test_a_cache_path_without_a_name(tmp_path: Path, recorded: str) -> None:
    node = Node(tmp_path)
    node.add("f")
    (meta,) = node.meta.values()
    size = os.stat(recorded if os.path.exists(recorded) else "/").st_size
    node.meta = {
        recorded: meta._replace(stat=meta.stat._replace(size_bytes=size)),
    }
    node.write()
    result = node.copy()
    assert result.rc == 1
    assert result.files == 0


def test_many_directories_do_not_use_up_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch, "BATCH_PLACES", 8)
    node = Node(tmp_path)
    for number in range(100):
        node.add(f"f{number}", directory=str(node.prefix / f"d{number}"), flush=False)
    node.write()
    before = len(os.listdir("/proc/self/fd"))
    most = []
    monkeypatch.setattr(
        _batch, "sync_dirs", lambda *_: most.append(len(os.listdir("/proc/self/fd")))
    )
    assert node.copy().rc == 0
    assert all((node.prefix / f"d{number}" / f"f{number}").exists() for number in range(100))
    assert 0 < max(most) <= before + 8 + 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_end_with_the_copy(node: Node) -> None:
    assert node.copy().rc == 0
    alive = wait_for(lambda: threading.active_count() == 1, clock=SystemClock(), limit_s=5.0)
    assert alive


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Count the calls of a function of ``os``."""
    calls: list[Any] = []
    original = getattr(os, name)

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(os, name, count)
    return calls


@pytest.mark.parametrize("tells", [True, False])
def test_small_files_are_synced_together_only_where_that_tells(
    node: Node, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    monkeypatch.setattr(_batch, "syncs_all_and_tells", lambda _: tells)
    together: list[int] = []
    monkeypatch.setattr(_batch, "sync_filesystem", together.append)
    alone = counted(monkeypatch, "fsync")
    later: list[str] = []
    original = Transfer.make_durable

    def make_durable(self: Transfer) -> None:
        later.append(self.name)
        original(self)

    monkeypatch.setattr(Transfer, "make_durable", make_durable)
    assert node.copy().rc == 0
    # Those that came before it was known that there are many; the others by the threads that copy them.
    assert len(later) == (0 if tells else _batch.SYNC_TOGETHER_FILES)
    # By themselves in any case: the large one and the directories from here to the prefix.
    assert bool(together) == tells
    assert len(alone) < 10 if tells else len(alone) >= 42


def test_few_files_are_synced_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    for number in range(20):
        node.add(f"f{number}", flush=False)
    node.write()
    monkeypatch.setattr(_batch, "sync_filesystem", lambda _: pytest.fail("all was synced"))
    alone = counted(monkeypatch, "fsync")
    assert node.copy().rc == 0
    assert len(alone) >= 21


def test_a_large_file_is_not_synced_in_one_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_crew, "PART_BYTES", MIB)
    monkeypatch.setattr("scrjob.node._transfer.SYNC_BYTES", 4 * MIB)
    waits = counted(monkeypatch, "fdatasync")
    starts = counted(monkeypatch, "posix_fadvise")
    assert node.copy().rc == 0
    assert (len(waits), len(starts)) == (4, 17)


def test_a_batch_ends_with_its_bytes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batch, "BATCH_BYTES", 1000)
    named: list[int] = []
    original = _batch.Batch.commit

    def commit(self: _batch.Batch) -> None:
        named.append(len(self._transfers))
        original(self)

    monkeypatch.setattr(_batch.Batch, "commit", commit)
    assert node.copy().rc == 0
    assert named[0] == 1  # the large one
    assert max(named) < 20
    assert sum(named) == 42


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        ({"mode": 0o100640}, 0o640),
        ({"mode": 0o104755}, 0o755),
        ({"mode": 0o100400}, 0o600),
        ({"mode": 0o100644, "uid": 4711, "gid": 4711}, 0o600),
        ({"mode": None}, 0o666),
    ],
)
def test_nobody_sees_more_of_a_file_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], mode: int
) -> None:
    node = Node(tmp_path)
    path = node.add("f")
    stat = node.meta[str(path)].stat._replace(uid=os.geteuid(), gid=os.getegid())
    node.meta[str(path)] = node.meta[str(path)]._replace(stat=stat._replace(**change))
    node.write()
    seen = []
    original = _transfer.create_new

    def create(name: str, mode: int, *, dir_fd: int) -> int:
        seen.append(mode)
        return original(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(_transfer, "create_new", create)
    node.copy()
    assert seen[0] == mode
    if os.getuid() == 0 and change["mode"] is not None:
        assert node.target("f").stat().st_mode == change["mode"]
