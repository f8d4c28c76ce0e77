# SPDX-License-Identifier: BSD-3-Clause
"""scr_copy as a function: golden trees, damage, hostile paths, resumption."""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

import pytest

import datapath
from copynode import Node
from scrjob._clock import SystemClock
from scrjob.formats import filemap, kvtree
from scrjob.node.copy import CopyOptions, copy_dataset
from scrjob.node.journal import known_crcs
from scrjob.redundancy.paths import Relocation


def copy_case(case, node, scratch, prefix, **options):
    root, cntldir = case.node(node, scratch)
    lines: list[str] = []
    result = copy_dataset(
        str(cntldir),
        case.dataset,
        str(prefix),
        host=node,
        clock=SystemClock(),
        emit=lines.append,
        options=CopyOptions(moves=case.moves(prefix, root), **options),
    )
    return result, lines


@pytest.mark.parametrize(("name", "lost"), datapath.GOOD_CASES)
def test_copied_tree_is_that_of_the_c_tool(name, lost, golden, tmp_path):
    case = datapath.load(golden(name))
    prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
    expected = case.unpack(f"prefix_1_copied_lost_{lost}", tmp_path / "expected")
    said = []
    for node in datapath.survivors(lost):
        result, lines = copy_case(case, node, tmp_path, prefix)
        assert result.rc == 0
        said += [*lines, f"[exit {result.rc}]"]
    assert datapath.tree(prefix) == datapath.tree(expected)
    assert datapath.times(prefix) == datapath.times(expected)
    recorded = (case.home / f"copy_lost_{lost}.log").read_text().splitlines()
    assert said == recorded


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


ODD_NAMES = ["a b", 'it\'s "quoted"', "new\nline", "=OLD=NEW", "\udcff\udc80", "ä" * 100, "-c"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_survives(node, name):
    node.add(name, b"x" * 10)
    result = node.copy()
    assert (result.rc, result.files, result.bytes) == (0, 1, 10)
    assert node.target(name).read_bytes() == b"x" * 10
    assert result.crcs[os.path.join("out", name)] == zlib.crc32(b"x" * 10)


def test_file_is_larger_than_the_buffer(node):
    data = bytes(range(256)) * 50
    node.add("big", data)
    assert node.copy(buffer_bytes=7).rc == 0
    assert node.target("big").read_bytes() == data


def test_nothing_cached_is_said_and_is_exit_code_1(node):
    (node.cntl / "cindex.scrinfo").unlink()
    assert node.copy().rc == 1
    assert node.lines == ["scr_copy: n1: Failed to find cache directory for dataset id 5"]
    assert not (node.prefix / ".scr").exists()


def test_damaged_cache_index_is_named(node):
    (node.cntl / "cindex.scrinfo").write_bytes(b"garbage that is long enough")
    assert node.copy().rc == 1
    assert "cindex.scrinfo" in node.lines[0]
    assert node.lines[1].endswith("Failed to find cache directory for dataset id 5")


def test_cache_directory_gone(node):
    for path in (node.cache / ".scr").iterdir():
        path.unlink()
    (node.cache / ".scr").rmdir()
    assert node.copy().rc == 1
    assert node.lines == [
        f"scr_copy: n1: Failed to open directory {node.cache}/.scr in dataset id 5",
        "scr_copy: n1: Return code: 1",
    ]


def test_damaged_filemap_is_told_and_left_behind(node):
    node.add("good")
    (node.cache / ".scr" / "filemap_1").write_bytes(b"\x95\x1f broken")
    result = node.copy()
    assert result.rc == 1
    assert any("filemap_1" in line for line in node.lines)
    assert sorted(p.name for p in (node.prefix / ".scr/scr.dataset.5").iterdir()) == ["filemap_0"]
    assert node.target("good").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complete": False}, "File is marked as incomplete"),
        ({"stat": filemap.FileStat(size_bytes=5)}, "Filesize is incorrect, currently 4 for"),
    ],
)
def test_a_bad_file_does_not_keep_the_good_one_back(node, change, message):
    node.add("bad", b"data", **change)
    node.add("good")
    result = node.copy()
    assert (result.rc, result.files) == (1, 1)
    assert message in node.lines[0]
    assert "File is unreadable or incomplete: CheckpointID 5, Rank 0, File:" in node.lines[1]
    assert not node.target("bad").exists()
    assert node.target("good").exists()
    assert (node.prefix / ".scr/scr.dataset.5/filemap_0").exists()


def test_file_without_record_and_missing_file(node):
    node.add("good")
    node.add("gone").unlink()
    tree = filemap.build(node.meta)
    (node.cache / "bare").write_bytes(b"1")
    tree.add("FILE", str(node.cache / "bare"))
    kvtree.write(str(node.cache / ".scr" / "filemap_0"), tree)
    assert node.copy().rc == 1
    text = "\n".join(node.lines)
    assert "Failed to read meta data for file: " in text
    assert "Do not have read access to file: " in text
    assert node.target("good").exists()


def test_crc_of_the_record_is_honoured(node):
    node.add("good", b"data", crc=zlib.crc32(b"data"))
    node.add("bad", b"data", crc=1)
    node.target("bad").parent.mkdir()
    node.target("bad").write_bytes(b"old")
    assert node.copy().rc == 1
    assert "CRC32 mismatch detected when flushing file" in node.lines[0]
    assert node.target("good").read_bytes() == b"data"
    assert node.target("bad").read_bytes() == b"old"  # a bad copy replaces nothing


def test_no_temporary_file_is_left(node):
    node.add("bad", b"data", crc=1)
    node.copy()
    assert [p.name for p in node.target("bad").parent.iterdir()] == []


def test_mode_owner_and_times_are_restored(node):
    path = node.add("f")
    os.chmod(path, 0o640)
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    node.meta[str(path)] = node.meta[str(path)]._replace(stat=filemap.FileStat.from_os(path.stat()))
    node.write()
    assert node.copy().rc == 0
    status = node.target("f").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, 2_000_000_002)
    assert status.st_atime_ns == 1_000_000_001
    assert node.target("f").parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["index.scr", "scr.dataset.4/summary.scr"])
def test_files_of_scr_itself_are_not_written_on_the_word_of_a_filemap(node, name):
    theirs = node.prefix / ".scr" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    node.add(theirs.name, directory=str(theirs.parent))
    assert node.copy().rc == 1
    assert node.lines[0].endswith(f"{str(theirs.parent)!r} is for SCR's own files")
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("directory", ["/etc", "{prefix}/../x", "relative", "", "{prefix}x"])
def test_nothing_is_written_outside_of_the_prefix(node, directory):
    node.add("f", directory=directory.format(prefix=node.prefix))
    assert node.copy().rc == 1
    assert "Failed to create path for file" in node.lines[0]
    assert node.lines[1] == "scr_copy: n1: Return code: 1"
    assert not (node.prefix.parent / "x").exists()
    assert not (node.prefix / ".scr/scr.dataset.5/filemap_0").exists()


def test_a_link_does_not_lead_out_of_the_prefix(node, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (node.prefix / "out").symlink_to(outside)
    node.add("f")
    assert node.copy().rc == 1
    assert "symbolic link" in node.lines[0]
    assert list(outside.iterdir()) == []


def test_prefix_reached_through_a_link(node, tmp_path):
    """The job knew the prefix by its real name, the call by a link to it."""
    node.add("f")
    link = tmp_path / "link"
    link.symlink_to(node.prefix)
    node.prefix = link
    result = node.copy()
    assert result.rc == 0
    assert node.target("f").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_regular_files_are_read(node, kind, tmp_path):
    path = node.add("f", b"data")
    path.unlink()
    if kind == "link":
        other = tmp_path / "secret"
        other.write_bytes(b"data")
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert node.copy().rc == 1
    assert not node.target("f").exists()


def test_relocated_prefix(node):
    node.add("f", directory="/old/place/out")
    moves = [Relocation("/old", "/nowhere"), Relocation("/old/place", str(node.prefix))]
    assert node.copy(moves=moves).rc == 0
    assert node.target("f").read_bytes() == b"data"


def test_unwritable_destination_is_one_line(node):
    node.add("f")
    node.prefix.joinpath("out").write_bytes(b"a file, not a directory")
    assert node.copy().rc == 1
    assert len(node.lines) == 3
    (path,) = node.meta
    assert node.lines[0] == (
        f"SCR v3.1.0 ERROR: n1: scr_copy: Failed to create path for file {path}: "
        f"{node.prefix}/out: File exists"
    )


def test_resume_copies_nothing_twice(node):
    node.add("a", b"1")
    node.add("b", b"2")
    first = node.copy(resume=True)
    inode = node.target("a").stat().st_ino
    second = node.copy(resume=True)
    assert (first.skipped, second.skipped) == (0, 3)
    assert second.crcs == first.crcs == {}  # the journal has them
    known = known_crcs(str(node.prefix / ".scr/scr.dataset.5"), str(node.prefix))
    assert known[str(node.target("a"))] == zlib.crc32(b"1")
    assert len(known) == 3
    assert (second.rc, second.files, second.bytes) == (0, 2, 2)
    assert node.target("a").stat().st_ino == inode


@pytest.mark.parametrize("what", ["changed", "gone", "source"])
def test_resume_copies_again_what_is_not_proved(node, what):
    path = node.add("a", b"1")
    node.copy(resume=True)
    if what == "changed":
        node.target("a").write_bytes(b"x")
    elif what == "gone":
        node.target("a").unlink()
    else:
        os.utime(path, ns=(5, 5))
    assert node.copy(resume=True).rc == 0
    assert node.target("a").read_bytes() == b"1"
    if what == "source":
        assert node.copy(resume=True).skipped == 2


def test_resume_after_a_journal_that_was_cut_off(node):
    node.add("a", b"1")
    node.copy(resume=True)
    journal = node.prefix / ".scr/scr.dataset.5/scrjob.copy.n1.jsonl"
    nested = b"[" * 100_000 + b"\n"
    journal.write_bytes(nested + b'[]\n{"path": 3}\n\xff\xfe\n' + journal.read_bytes()[:-20])
    assert node.copy(resume=True).skipped == 1
    assert node.copy(resume=True).skipped == 2


def test_a_fifo_in_the_place_of_a_journal_or_progress_file_keeps_nobody_waiting(node):
    node.add("a", b"1")
    hidden = node.prefix / ".scr/scr.dataset.5"
    hidden.mkdir(parents=True)
    for name in ("scrjob.copy.n1.jsonl", "scrjob.copy.n2.jsonl", "scrjob.progress.n1"):
        os.mkfifo(hidden / name)
    result = node.copy(resume=True, shared=True, progress=True)
    assert result.rc == 0
    assert len(result.crcs) == 2  # told, for they could not be noted
    assert known_crcs(str(hidden), str(node.prefix)) == {}


def test_without_checksums(node):
    node.add("a", b"1" * 100)
    result = node.copy(checksum=False)
    assert result.crcs == {}
    assert node.target("a").read_bytes() == b"1" * 100
    node.add("b", b"2", crc=7)
    assert node.copy(checksum=False).rc == 1  # a recorded checksum is always looked at


def test_a_predecessor_that_is_still_at_work_does_not_spoil_the_copy(node, monkeypatch):
    """Two copies of one node at once must not share a temporary name."""
    node.add("a", b"1")
    seen = []
    replace = os.replace

    def note(source, target, **places):
        seen.append(os.path.basename(source))
        replace(source, target, **places)

    monkeypatch.setattr(os, "replace", note)
    node.copy()
    node.copy()
    assert len(set(seen[:1] + seen[-1:])) == 2


def test_nodes_of_one_host_name_do_not_share_temporary_names(node, monkeypatch):
    """Their control directories have the same path: only what is behind it tells them apart."""
    node.add("a", b"1")
    seen = []
    replace = os.replace

    def note(source, target, **places):
        if not str(source).endswith(".progress.tmp"):
            seen.append(str(source))
        replace(source, target, **places)

    monkeypatch.setattr(os, "replace", note)
    for is_other_node in (False, False, True):
        for path in [*node.prefix.rglob("scrjob.copy.*"), *node.prefix.rglob("filemap_*")]:
            path.unlink()
        if is_other_node:
            shutil.copytree(node.cntl, f"{node.cntl}.other", symlinks=True)
            node.cntl.rename(f"{node.cntl}.first")
            Path(f"{node.cntl}.other").rename(node.cntl)
            seen.append("other node")
        assert node.copy(resume=True).rc == 0
    first, other = (
        set(seen[: seen.index("other node")]),
        set(seen[seen.index("other node") + 1 :]),
    )
    assert len(first) == 2  # a successor of the same node replaces what its predecessor left
    assert len(other) == 2
    assert not first & other


@pytest.mark.parametrize("created", [None, 7, 8])
def test_an_older_dataset_of_the_same_number_is_not_copied(node, created):
    """A node that was away while the number was used again must not replace the new one's filemaps."""
    node.add("file")
    index = kvtree.read(str(node.cntl / "cindex.scrinfo"))
    index.child("DSET", 5).add("DSETDESC").put("CREATED", 7)
    kvtree.write(str(node.cntl / "cindex.scrinfo"), index)
    result = node.copy(created_us=created)
    assert result.rc == int(created == 8)
    assert result.files == int(created != 8)
    assert (node.prefix / ".scr").exists() == (created != 8)
    if created == 8:
        assert "Another dataset of id 5" in result.errors[0]


def test_a_kernel_that_copies_too_little_is_found_out(node, monkeypatch):
    node.add("file")
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    result = node.copy(checksum=False)
    assert result.rc == 1
    assert not (node.prefix / ".scr/scr.dataset.5/filemap_0").exists()


def test_hidden_directory_cannot_be_made(node):
    node.add("f")
    (node.prefix / ".scr").write_bytes(b"a file")
    assert node.copy().rc == 1
    assert "Failed to create directory" in node.lines[0]
    assert node.lines[-1] == "scr_copy: n1: Return code: 1"
    assert not node.target("f").exists()


def test_hidden_directory_behind_a_link_that_leads_out(node, tmp_path):
    node.add("f")
    outside = tmp_path / "outside"
    outside.mkdir()
    (node.prefix / ".scr").symlink_to(outside)
    assert node.copy().rc == 1
    assert list(outside.iterdir()) == []


def test_redundancy_file_that_cannot_be_copied(node):
    node.add("f")
    (node.cache / ".scr" / "reddesc.er.0.redset").symlink_to("/etc/hostname")
    result = node.copy()
    assert result.rc == 1
    name = ".scr/reddesc.er.0.redset"
    assert node.lines[0] == (
        f"SCR v3.1.0 ERROR: n1: scr_copy: Failed to copy {node.cache}/{name} to "
        f"{node.prefix}/.scr/scr.dataset.5/reddesc.er.0.redset: Too many levels of symbolic links"
    )
    assert node.target("f").exists()


def test_record_without_a_directory(node):
    node.add("f", directory=None)
    assert node.copy().rc == 1
    assert "Failed to read directory from meta data for file" in node.lines[0]
    assert not (node.prefix / ".scr/scr.dataset.5/filemap_0").exists()


def test_attributes_that_are_refused_are_told(node):
    path = node.add("f")
    stat = filemap.FileStat.from_os(path.stat())._replace(uid=1 << 63)
    node.meta[str(path)] = node.meta[str(path)]._replace(stat=stat)
    node.write()
    result = node.copy()
    assert result.rc == 1
    assert "Failed to set attributes of" in node.lines[0]
    assert node.target("f").read_bytes() == b"data"


def test_other_files_stay_behind(node):
    node.add("f")
    hidden = node.cache / ".scr"
    for name in (
        "reddesc.er.er",
        "reddesc.er.shuffile",
        "xfilemap_0",
        "filemap_0.bak",
        "reddesc.er.x.redset",
    ):
        (hidden / name).write_bytes(b"x")
    (hidden / "reddescmap.er.0.redset").write_bytes(b"copied")
    assert node.copy().rc == 0
    names = sorted(p.name for p in (node.prefix / ".scr/scr.dataset.5").iterdir())
    assert names == ["filemap_0", "reddescmap.er.0.redset"]


def test_journal_that_cannot_be_written_does_not_stop_the_copy(node):
    node.add("a", b"1")
    hidden = node.prefix / ".scr/scr.dataset.5"
    hidden.mkdir(parents=True)
    (hidden / "scrjob.copy.n1.jsonl").mkdir()
    result = node.copy(resume=True)
    assert result.rc == 0
    assert node.target("a").exists()
    assert result.crcs[os.path.join("out", "a")] == zlib.crc32(b"1")  # somebody must know it


def test_resume_without_checksums(node):
    node.add("a", b"1")
    node.add("recorded", b"2", crc=zlib.crc32(b"2"))
    assert node.copy(resume=True, checksum=False).skipped == 0
    assert node.copy(resume=True, checksum=False).skipped == 3
    assert known_crcs(str(node.prefix / ".scr/scr.dataset.5"), str(node.prefix)) == {
        str(node.target("recorded")): zlib.crc32(b"2")
    }
    # Who wants checksums now gets them: what has none is copied again.
    assert node.copy(resume=True).skipped == 1
    assert node.copy(resume=True).skipped == 3


def test_large_files_in_parts(node):
    """More than two parts, a last one that is short, and more files than threads."""
    sizes = [(16 << 20) * 2 + 1, 16 << 20, (16 << 20) - 1, 1 << 20, (1 << 20) - 1, 5 << 20]
    for number, size in enumerate(sizes):
        node.add(f"f{number}", os.urandom(1000) * (size // 1000) + b"x" * (size % 1000))
    for options in ({}, {"checksum": False}, {"buffer_bytes": 77_777}):
        result = node.copy(**options)
        assert (result.rc, result.files, result.bytes) == (0, len(sizes), sum(sizes))
        for number in range(len(sizes)):
            data = node.target(f"f{number}").read_bytes()
            assert data == (node.cache / f"f{number}").read_bytes()
            if options.get("checksum", True):
                assert result.crcs[os.path.join("out", f"f{number}")] == zlib.crc32(data)


def test_batches(node, monkeypatch):
    """More files than a batch has: order of what is said, numbers, nothing forgotten."""
    monkeypatch.setattr("scrjob.node._batch.BATCH_FILES", 7)
    for number in range(100):
        node.add(f"f{number}", b"%d" % number, flush=False, crc=1 if number % 10 == 0 else None)
    node.write()
    result = node.copy()
    assert (result.rc, result.files, len(result.crcs)) == (1, 90, 91)
    told = [line.rsplit("/", 1)[1] for line in node.lines[:-1]]
    assert told == [f"f{number}" for number in range(90, -1, -10)]


def test_the_kernel_copies_by_itself_only_without_a_checksum(node, monkeypatch):
    node.add("f", b"x" * 3000)
    calls = []
    original = os.copy_file_range
    monkeypatch.setattr(
        os, "copy_file_range", lambda *words: calls.append(words) or original(*words)
    )
    node.copy()
    assert calls == []
    assert node.copy(checksum=False).rc == 0
    assert len(calls) == 2
    assert node.target("f").read_bytes() == b"x" * 3000


def test_a_kernel_that_does_not_copy_by_itself(node, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    node.add("f", b"x" * 3000)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert node.copy(checksum=False).rc == 0
    assert node.target("f").read_bytes() == b"x" * 3000


def test_two_caches_of_one_host_have_names_of_their_own(node, tmp_path, monkeypatch):
    """Two control directories on one host: neither lock keeps the other's copy away."""
    seen = set()
    original = os.replace

    def note(source, target, **places):
        if places:  # not of this test's own files
            seen.add(source)
        original(source, target, **places)

    monkeypatch.setattr(os, "replace", note)
    node.add("a")
    node.copy(resume=True)
    assert len(seen) == 2
    other = tmp_path / "cntl2"
    node.cntl.rename(other)
    node.cntl = other
    (node.prefix / ".scr/scr.dataset.5/scrjob.copy.n1.jsonl").unlink()
    node.copy(resume=True)
    assert len(seen) == 4
