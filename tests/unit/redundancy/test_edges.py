# SPDX-License-Identifier: BSD-3-Clause
"""The rarer answers: attributes that are refused, records with holes, headers that disagree."""

from __future__ import annotations

import os
import resource

import pytest

from groupmaker import make_dataset
from scrjob.errors import FormatError, NotSupportedError, UnrecoverableError
from scrjob.formats import filemap, kvtree, summary
from scrjob.formats.filemap import FileStat
from scrjob.formats.kvtree import KVTree
from scrjob.redundancy import schemes
from scrjob.redundancy.attributes import apply_attributes
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.logical import create_new
from scrjob.redundancy.paths import PrefixGuard, make_dirs
from scrjob.redundancy.plan import describe, plan_group
from scrjob.redundancy.rebuild import rebuild_files
from scrjob.redundancy.scan import scan_dataset
from scrjob.redundancy.shape import Shape

TOO_LARGE = 1 << 70


@pytest.fixture
def made(tmp_path):
    return make_dataset(tmp_path / "p", [[100], [200, 5], [50]], form_groups(range(3), 8))


def names_of(made, set_name="reddesc"):
    return sorted(p.name for p in made.hidden.glob(f"{set_name}.er.*.xor*"))


def edit(path, change):
    """Change the header of a redundancy file and keep its payload."""
    with path.open("rb") as file:
        tree, start = kvtree.read_image(file)
    payload = path.read_bytes()[start:]
    change(tree)
    path.write_bytes(kvtree.encode(tree) + payload)


class TestAttributes:
    def test_refusals_are_told_not_raised(self, tmp_path):
        fd = create_new(str(tmp_path / "f"))
        stat = FileStat(uid=TOO_LARGE, gid=0, mode=0o100644, mtime_ns=TOO_LARGE * 10**9)
        complaints = apply_attributes(fd, stat)
        os.close(fd)
        assert [text.split(":")[0].split(" to ")[0] for text in complaints] == [
            "chown",
            "setting times",
        ]
        assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o644

    def test_nothing_recorded_nothing_changed(self, tmp_path):
        fd = create_new(str(tmp_path / "f"), 0o604)
        before = os.fstat(fd)
        assert apply_attributes(fd, FileStat()) == ()
        after = os.fstat(fd)
        os.close(fd)
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)

    def test_access_time_alone_missing(self, tmp_path):
        fd = create_new(str(tmp_path / "f"))
        apply_attributes(fd, FileStat(mtime_ns=5))
        assert os.fstat(fd).st_atime_ns == 5
        os.close(fd)


class TestScan:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"directory": None}, "Reading path and name from meta data"),
            ({"name": None}, "Reading path and name from meta data"),
            ({"ranks": None}, "Reading number of ranks from meta data"),
            ({"stat": FileStat()}, "Reading filesize from meta data"),
            ({"complete": False}, "File is not complete: "),
            ({"stat": FileStat(size_bytes=3)}, "File is 100 bytes but expected to be 3 bytes: "),
            ({"name": "gone"}, "File does not exist: "),
            ({"name": "a/b"}, "is no file name"),
        ],
    )
    def test_each_fault_has_its_line(self, made, change, message):
        path = str(made.hidden / "filemap_0")
        tree = filemap.parse(kvtree.read(path))
        kvtree.write(path, filemap.build({n: m._replace(**change) for n, m in tree.items()}))
        lines: list[str] = []
        found = scan_dataset(str(made.hidden), PrefixGuard(str(made.prefix)), lines.append)
        assert len(lines) == 1
        assert message in lines[0]
        assert found.missing() == [0]

    def test_records_of_different_jobs(self, made):
        path = str(made.hidden / "filemap_1")
        tree = filemap.parse(kvtree.read(path))
        kvtree.write(path, filemap.build({n: m._replace(ranks=9) for n, m in tree.items()}))
        lines: list[str] = []
        scan_dataset(str(made.hidden), PrefixGuard(str(made.prefix)), lines.append)
        assert all(
            "File was created with 9 ranks, but expected 3 ranks: " in line for line in lines
        )
        assert len(lines) == 2

    def test_record_without_meta(self, made):
        tree = KVTree()
        tree.add("FILE", "/cache/x")
        kvtree.write(str(made.hidden / "filemap_0"), tree)
        lines: list[str] = []
        scan_dataset(str(made.hidden), PrefixGuard(str(made.prefix)), lines.append)
        assert "/cache/x" in lines[0]

    def test_rank_beyond_the_size_of_the_job(self, made):
        kvtree.write(str(made.hidden / "filemap_7"), KVTree())
        found = scan_dataset(str(made.hidden), PrefixGuard(str(made.prefix)), print)
        assert found.missing() is None


class TestPlan:
    def test_headers_that_disagree_about_the_chunk(self, made):
        names = names_of(made)
        edit(made.hidden / names[0], lambda tree: tree.put("CHUNK", 7))
        with pytest.raises(FormatError, match="expected chunks of"):
            rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))

    def test_header_that_describes_a_member_elsewhere(self, made):
        names = names_of(made)
        made.parts[1][-1].unlink()
        edit(
            made.hidden / names[2],
            lambda tree: tree.child("DESC", 1, "DESC").put("RANK", 0),
        )
        with pytest.raises(FormatError, match="describes member 1 as 0 of 3"):
            rebuild_files(str(made.hidden), [names[0], names[2]], PrefixGuard(str(made.prefix)))

    def test_no_header_describes_the_lost_member(self, made):
        names = names_of(made)
        edit(made.hidden / names[2], lambda tree: tree.child("DESC").unset(1))
        with pytest.raises(UnrecoverableError, match=r"describes members \[1\]"):
            rebuild_files(str(made.hidden), [names[0], names[2]], PrefixGuard(str(made.prefix)))

    def test_filemap_that_does_not_know_a_file(self, made):
        kvtree.write(str(made.hidden / "filemap_0"), KVTree())
        with pytest.raises(FormatError, match="does not tell where"):
            rebuild_files(str(made.hidden), names_of(made), PrefixGuard(str(made.prefix)))

    def test_nothing_at_all(self, made):
        with pytest.raises(UnrecoverableError, match="no redundancy file is left"):
            plan_group(str(made.hidden), [], lambda _member: [])

    def test_many_lost_members_are_not_all_listed(self):
        assert describe(dict.fromkeys(range(12), "x")).endswith("member 9 (x) and 3 more")

    def test_single_encodes_nothing(self):
        single = schemes.SCHEMES["single"]
        assert list(single.encode(Shape(None, [3], 0), {}, 0, None)) == []


class TestPaths:
    def test_directory_in_the_way(self, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(FileExistsError):
            make_dirs(str(tmp_path / "f"), 0o700)

    def test_modes_of_new_directories(self, tmp_path):
        make_dirs(str(tmp_path / "a/b"), 0o710)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o710
        make_dirs(str(tmp_path / "a/b"), 0o700)  # exists: left alone
        assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o710

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0"])
    def test_no_file_names(self, tmp_path, name):
        with pytest.raises(FormatError, match="is no file name"):
            PrefixGuard(str(tmp_path)).destination(str(tmp_path), name)

    def test_double_slash_at_the_root(self, tmp_path):
        guard = PrefixGuard(str(tmp_path))
        assert guard.destination(f"/{tmp_path}", "f") == str(tmp_path / "f")
        assert guard.relative(str(tmp_path / "a/f")) == "a/f"


def test_summary_without_a_name_lists_nothing(made):
    kvtree.write(
        str(made.hidden / "summary.scr"), summary.build(KVTree.of({"ID": 1}), complete=True)
    )
    lines: list[str] = []
    assert not build_dataset(str(made.prefix), 1, now=0, host="h", on_message=lines.append)
    assert "has no name" in lines[0]


def test_size_of_the_job_cannot_be_known(tmp_path):
    hidden = tmp_path / ".scr/scr.dataset.1"
    hidden.mkdir(parents=True)
    lines: list[str] = []
    assert not build_dataset(str(tmp_path), 1, now=0, host="h", on_message=lines.append)
    assert "more than one value for the number of ranks" in lines[0]


def test_a_job_of_an_impossible_size_costs_no_memory(tmp_path):
    hidden = tmp_path / ".scr/scr.dataset.1"
    hidden.mkdir(parents=True)
    (tmp_path / "f").touch()
    stat = filemap.FileStat.from_os((tmp_path / "f").stat())
    meta = filemap.FileMeta(True, 2_000_000_000, "f", str(tmp_path), "f", stat)
    kvtree.write(str(hidden / "filemap_0"), filemap.build({"/cache/f": meta}))
    lines: list[str] = []
    assert not build_dataset(str(tmp_path), 1, now=0, host="h", on_message=lines.append)
    assert "more than one value for the number of ranks" in lines[0]


def test_directories_are_durable_before_the_summary_says_complete(made, monkeypatch):
    synced = []
    real = os.fsync

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    assert build_dataset(str(made.prefix), 1, now=0, host="h", on_message=print)
    before = synced[: next(i for i, path in enumerate(synced) if "summary" in path)]
    parents = {str(path.parent) for path in made.prefix.rglob("*") if path.is_file()}
    parents -= {str(path) for path in made.prefix.rglob(".scr")}
    assert parents | {str(made.prefix)} <= set(before)


def test_closed_reader_reads_nothing(made):
    """A descriptor that is closed is not read again by accident."""
    from scrjob.redundancy.redset_file import RedsetReader

    reader = RedsetReader(str(made.hidden / names_of(made)[0]))
    reader.close()
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.readinto(0, memoryview(bytearray(1)))


def test_partner_that_was_rebuilt_in_place(tmp_path):
    """SCR 3.1 leaves two values under RANK then; the C tool believes the first. The name is right."""
    made = make_dataset(
        tmp_path / "p", [[100], [200, 5], [50], [7]], form_groups(range(4), 8), kind="partner"
    )
    before = made.state()
    for path in made.hidden.glob("redd*.er.3.partner.*"):
        edit(path, lambda tree: tree.child("RANK").set("0"))
        with path.open("rb") as file:
            assert sorted(kvtree.read_image(file)[0].child("RANK")) == [b"0", b"3"]
    made.lose(0)
    done = build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=print)
    assert done
    untouched = {path: state for path, state in before.items() if ".er.3.partner." not in path}
    assert {path: made.state()[path] for path in untouched} == untouched


@pytest.mark.parametrize(("kind", "key"), [("partner", "REPLICAS"), ("rs", "CKSUM")])
@pytest.mark.parametrize("value", ["0", "3", "1000000000"])
def test_impossible_redundancy_is_refused(kind, key, value, tmp_path):
    made = make_dataset(tmp_path / "p", [[9], [8], [7]], form_groups(range(3), 8), kind=kind)

    def spoil(tree):
        for number in tree.child("DESC"):
            place = tree.child("DESC", number, "DESC")
            place.unset(key)
            place.put(key, value)

    names = sorted(p.name for p in made.hidden.glob(f"reddesc.er.*.{kind}.*"))
    for name in names:
        edit(made.hidden / name, spoil)
    made.parts[0][0].unlink()
    with pytest.raises(FormatError, match="there is no such group"):
        rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))


def test_members_of_different_groups_are_refused(tmp_path):
    made = make_dataset(tmp_path / "p", [[9], [8], [7]], form_groups(range(3), 8), kind="rs")
    names = sorted(p.name for p in made.hidden.glob("reddesc.er.*.rs.*"))
    edit(made.hidden / names[1], lambda tree: tree.child("DESC", "1", "DESC").put("CKSUM", 1))
    made.parts[0][0].unlink()
    with pytest.raises(FormatError, match="members 0 and 1 are not of one group"):
        rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))


def test_schemes_that_nobody_knows():
    with pytest.raises(NotSupportedError, match=r"RAID is not supported .*PARTNER, XOR, RS"):
        schemes.scheme_for("raid")


def test_a_group_of_more_members_than_a_process_may_have_files_open(tmp_path):
    ranks = 300
    groups = form_groups(range(ranks), ranks)
    made = make_dataset(tmp_path / "p", [[5]] * ranks, groups, kind="partner")
    before = made.state()
    made.lose(7)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 150, limit[1]))
    try:
        done = build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=print)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert done
    assert made.state() == before
