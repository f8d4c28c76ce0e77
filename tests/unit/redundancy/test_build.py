# SPDX-License-Identifier: BSD-3-Clause
"""Build: damage of every kind, what it leaves behind, and that it can be done again."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import tracemalloc
import zlib
from pathlib import Path

import pytest

from groupmaker import make_dataset
from scrjob.errors import (
    FormatError,
    ScavengeError,
    ScrError,
    UnrecoverableError,
    UnsupportedVersionError,
)
from scrjob.formats import filemap, index, kvtree, redset_header, summary
from scrjob.formats.kvtree import KVTree
from scrjob.redundancy import isal, rebuild, schemes
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups, single_groups
from scrjob.redundancy.logical import LogicalReader, LogicalWriter, Part
from scrjob.redundancy.paths import PrefixGuard, Relocation, parse_relocation, relocate
from scrjob.redundancy.plan import plan_group
from scrjob.redundancy.rebuild import rebuild_files, rebuild_group
from scrjob.redundancy.shape import Shape

SIZES = [[1000, 7], [], [2500, 0, 3], [999]]


def build(made, **options):
    lines: list[str] = []
    done = build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=lines.append, **options)
    return done, lines


@pytest.fixture
def made(tmp_path):
    return make_dataset(tmp_path / "pre fix", SIZES, form_groups(range(4), 8))


def summary_of(made):
    return made.hidden / "summary.scr"


def test_nothing_lost(made):
    assert build(made) == (True, [])
    assert summary.parse(kvtree.read(str(summary_of(made)))).complete


def test_unreadable_filemap_is_taken_as_absent(made):
    before = made.state()
    path = made.hidden / "filemap_2"
    data = bytearray(path.read_bytes())
    data[30] ^= 0xFF
    path.write_bytes(data)  # same size: only its checksum tells
    done, lines = build(made)
    assert done
    assert "Error reading filemap" in lines[0]
    changed = {p for p, was in made.state().items() if was != before[p]}
    assert changed == set()


def test_an_empty_file_is_no_filemap_of_a_rank_without_files(made):
    """SCR's own copy leaves one when it is killed; the files of the rank are missing all the same."""
    before = made.state()
    made.lose(2)
    (made.hidden / "filemap_2").touch()
    done, lines = build(made)
    assert done
    assert "Error reading filemap" in lines[0]
    assert {path: was[2] for path, was in made.state().items()} == {
        path: was[2] for path, was in before.items()
    }
    summary_of(made).unlink()
    made.lose(0, 2)
    (made.hidden / "filemap_2").touch()
    assert not build(made)[0]


def test_members_that_were_there_get_their_recorded_attributes_as_well(made):
    """As by SCR's own tools; reading them for the rebuild has changed the time of the last access."""
    path = made.parts[2][0]
    listed = filemap.parse(kvtree.read(str(made.hidden / "filemap_2")))
    (recorded,) = (meta.stat for meta in listed.values() if meta.name == path.name)
    path.chmod(0o666)
    os.utime(path, ns=(7, 8))
    made.lose(0)
    assert build(made)[0]
    after = path.stat()
    assert (after.st_mode, after.st_atime_ns, after.st_mtime_ns) == (
        recorded.mode,
        recorded.atime_ns,
        recorded.mtime_ns,
    )


def test_existing_summary_suppresses_the_scan_unless_forced(made):
    assert build(made)[0]
    made.lose(2)
    assert build(made) == (True, [])
    assert not (made.hidden / "filemap_2").exists()
    assert build(made, force=True)[0]
    assert (made.hidden / "filemap_2").exists()


def test_summary_of_a_failed_build_does_not_forbid_another_try(made):
    """The C tool finds its own incomplete summary and fails for ever."""
    kvtree.write(str(summary_of(made)), summary.build(KVTree.of({"NAME": "it"}), complete=False))
    assert build(made)[0]


def test_failed_build_writes_nothing_and_can_be_repeated(made):
    kept = {p: p.read_bytes() for rank in (0, 2) for p in made.parts[rank]}
    made.lose(0, 2)
    assert not build(made)[0]
    assert not summary_of(made).exists()
    assert not (made.prefix / ".scr/index.scr").exists()
    for path in made.parts[0]:
        path.write_bytes(kept[path])
    assert build(made)[0]
    for path in made.parts[2]:
        assert path.read_bytes() == kept[path]


def test_no_flush_file_means_no_descriptor(made):
    (made.prefix / ".scr/flush.scr").unlink()
    done, lines = build(made)
    assert not done
    assert "No descriptor of dataset 1" in lines[0]
    assert not summary_of(made).exists()
    assert build(made, descriptor=KVTree.of({"ID": 1, "NAME": "x"}))[0]


def test_damaged_flush_file_is_named(made):
    (made.prefix / ".scr/flush.scr").write_bytes(b"x" * 40)
    done, lines = build(made)
    assert not done
    assert "flush.scr" in lines[0]


def test_no_directory(tmp_path):
    with pytest.raises(ScavengeError, match="nothing was copied"):
        build_dataset(str(tmp_path), 4, now=0, host="h", on_message=print)


def test_damaged_index_is_set_aside_not_overwritten(made, caplog):
    path = made.prefix / ".scr/index.scr"
    path.write_bytes(b"precious")
    assert build(made)[0]
    assert (made.prefix / ".scr/index.scr.damaged").read_bytes() == b"precious"
    assert "index.scr.damaged" in caplog.text
    assert index.Index.read(str(path)).id_of("it") == 1


def test_index_of_a_newer_version_is_not_touched(made):
    path = made.prefix / ".scr/index.scr"
    kvtree.write(str(path), KVTree.of({"VERSION": 3}))
    before = path.read_bytes()
    with pytest.raises(UnsupportedVersionError):
        build(made)
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [False, True])
def test_current_of_the_same_dataset(made, keep):
    path = str(made.prefix / ".scr/index.scr")
    build(made)
    found = index.Index.read(path)
    found.set_current("it")
    found.write(path)
    build(made, keep_current=keep)
    assert index.Index.read(path).current() == ("it" if keep else None)


def test_verification_comes_before_anything_is_called_complete(made):
    def refuse(built):
        assert built.scan.files()
        raise ScavengeError("no")

    with pytest.raises(ScavengeError, match="no"):
        build(made, verify=refuse)
    assert not summary_of(made).exists()
    assert not (made.prefix / ".scr/index.scr").exists()


def test_leftovers_of_killed_copies_and_builds_go(made):
    mine = [
        made.prefix / "out" / ".scrjob-copy.1.n1.tmp",
        made.prefix / "out" / ".scrjob-rebuild.scr.dataset.1.2.0.tmp",
        made.hidden / ".scrjob-rebuild.reddesc.2.tmp",
    ]
    other = made.prefix / "out" / ".scrjob-copy.11.n1.tmp"
    for path in [*mine, other]:
        path.touch()
    assert build(made)[0]
    assert [p for p in mine if p.exists()] == []
    assert other.exists()


def test_half_written_metadata_of_killed_processes_goes(made):
    """In ``.scr`` only what is old: another dataset's scavenge may be writing the index now."""
    scr = made.prefix / ".scr"
    gone = [
        made.hidden / ".scrjob.scavenge.json.abcd1234",
        made.hidden / ".scavenge.o17.abcd_234",
        made.hidden / ".rank2file.0.0.abcd1234",
        scr / ".index.scr.abcd1234",
    ]
    stay = [
        scr / ".flush.scr.abcd1234",
        scr / ".index.scr.mine",
        made.prefix / "out" / ".scavenge.o17.abcd1234",
    ]
    for path in [*gone, *stay]:
        path.touch()
        os.utime(path, (-4000, -4000))
    os.utime(stay[0], (-3000, -3000))
    assert build(made)[0]
    assert [path for path in gone if path.exists()] == []
    assert all(path.exists() for path in stay)


def test_recorded_checksum_convicts_a_damaged_survivor(made):
    """A survivor of the right size with wrong bytes must not be restored from."""
    path = made.hidden / "filemap_0"
    tree = filemap.parse(kvtree.read(str(path)))
    with_crc = {
        name: meta._replace(crc=zlib.crc32((made.prefix / "out" / meta.name).read_bytes()))
        for name, meta in tree.items()
    }
    kvtree.write(str(path), filemap.build(with_crc))
    # Protect the filemaps anew: their bytes changed.
    remake_map_set(made)
    before = made.state()
    victim = made.parts[0][0]
    survivor = made.parts[2][0]
    survivor.write_bytes(b"\0" * 2500)
    victim.unlink()
    done, lines = build(made)
    assert not done
    assert any("another file of its group is damaged" in line for line in lines)
    assert not victim.exists()
    assert not list(made.prefix.rglob("*.tmp"))
    survivor.write_bytes(before[str(survivor)][2])
    assert build(made)[0]
    assert victim.read_bytes() == before[str(victim)][2]


def remake_map_set(made):
    from scrjob.formats.redset_header import FileStat, Member, ProtectedFile
    from scrjob.redundancy.encode import encode_group
    from scrjob.redundancy.redset_file import RedsetReader

    members = []
    for i in range(4):
        (path,) = made.hidden.glob(f"reddescmap.er.{i}.xor*")
        reader = RedsetReader(str(path))
        reader.close()
        stat = FileStat.from_os((made.hidden / f"filemap_{i}").stat())
        file = ProtectedFile(f"/cache/.scr/filemap_{i}", stat)
        members.append(Member(reader.header.members[i].descriptor, (file,)))
    encode_group(
        members,
        redset_header.MAP_SET,
        locate=lambda p: str(made.hidden / os.path.basename(p)),
        directory=lambda _i: str(made.hidden),
    )


def test_group_rank_comes_from_the_file_name(made):
    """After a rebuild in place a header may record two values for RANK."""
    (path,) = made.hidden.glob("reddesc.er.3.xor*")
    with path.open("rb") as file:
        tree, start = kvtree.read_image(file)
    tree.add("RANK", 0)
    payload = path.read_bytes()[start:]
    path.write_bytes(kvtree.encode(tree) + payload)
    before = made.parts[1]
    kept = {p: p.read_bytes() for p in before}
    made.lose(1)
    assert build(made)[0]
    assert {p: p.read_bytes() for p in before} == kept


@pytest.mark.parametrize("damage", ["header", "short", "long", "foreign", "fifo"])
def test_damaged_redundancy_file_counts_as_lost(made, damage):
    names = sorted(p.name for p in made.hidden.glob("reddesc.er.*.xor*"))
    victim = made.hidden / names[2]
    good = victim.read_bytes()
    data = {
        "header": good[:40] + b"\xff" + good[41:],
        "short": good[:-1],
        "long": good + b"x",
        "foreign": (made.hidden / names[1]).read_bytes(),
        "fifo": b"",
    }[damage]
    victim.unlink()
    if damage == "fifo":
        os.mkfifo(victim)
    else:
        victim.write_bytes(data)
    guard = PrefixGuard(str(made.prefix))
    written = rebuild_files(str(made.hidden), names, guard)
    assert written
    assert victim.read_bytes() == good
    assert rebuild_files(str(made.hidden), names, guard) == {}
    victim.write_bytes(data)
    made.parts[0][0].unlink()
    with pytest.raises(UnrecoverableError, match=r"member 1 (.|\n)*member 3"):
        rebuild_files(str(made.hidden), names, guard)


HOSTILE = ["/etc/passwd", "{prefix}/../../x", "{prefix}/a/../../x", "relative/x", "/"]


@pytest.mark.parametrize("directory", HOSTILE)
def test_rebuild_writes_nothing_outside_of_the_prefix(made, directory):
    where = directory.format(prefix=made.prefix)
    tree = filemap.parse(kvtree.read(str(made.hidden / "filemap_0")))
    bad = {name: meta._replace(directory=where) for name, meta in tree.items()}
    kvtree.write(str(made.hidden / "filemap_0"), filemap.build(bad))
    for path in made.hidden.glob("reddescmap.*"):
        path.unlink()  # or the true filemap would come back from redundancy
    done, lines = build(made)
    assert not done
    assert any("outside of the prefix" in line or "no absolute path" in line for line in lines)


@pytest.mark.parametrize("name", ["../../out/x", "a/b", "..", "", "summary.scr"])
def test_map_set_may_only_restore_filemaps(made, name):
    """A hostile header must not replace other files of the hidden directory."""
    names = sorted(p.name for p in made.hidden.glob("reddescmap.er.*.xor*"))
    for file in names:
        path = made.hidden / file
        with path.open("rb") as handle:
            tree, start = kvtree.read_image(handle)
        payload = path.read_bytes()[start:]
        for number in tree.child("DESC"):
            files = tree.child("DESC", number, "FILE")
            for entry in map(files.child, files):
                (key,) = list(entry)
                below = entry.child(key)
                entry.unset(key)
                entry.set(f"/cache/.scr/{name}", below)
        path.write_bytes(kvtree.encode(tree) + payload)
    (made.hidden / "filemap_1").unlink()
    with pytest.raises(FormatError, match="expected filemap_"):
        rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))


def test_link_inside_the_prefix_does_not_lead_out(made, tmp_path):
    outside = tmp_path / "outside"
    (made.prefix / "out").rename(outside)
    (made.prefix / "out").symlink_to(outside)
    done, lines = build(made)
    assert not done
    assert any("symbolic link" in line for line in lines)


def test_headers_with_random_damage_raise_only_our_errors(made):
    rng = random.Random(7)
    names = sorted(p.name for p in made.hidden.glob("reddesc.er.*.xor*"))
    guard = PrefixGuard(str(made.prefix))
    outside = made.prefix.parent
    made.parts[1] and made.parts[3][0].unlink()
    good = {name: (made.hidden / name).read_bytes() for name in names}
    for _ in range(300):
        for name in names[:3]:
            data = bytearray(good[name])
            with (made.hidden / name).open("wb") as file:
                tree = kvtree.decode(bytes(data))
                mutate(tree, rng)
                image = kvtree.encode(tree)
                file.write(image + data[-1 * (len(data) // 3) :])
        with contextlib.suppress(ScrError):
            rebuild_files(str(made.hidden), names, guard)
    assert [p.name for p in outside.iterdir()] == ["pre fix"]
    assert not list(made.prefix.rglob("*.tmp"))


def mutate(tree: KVTree, rng: random.Random) -> None:
    """Change, drop or add a key somewhere."""
    node = tree
    while len(node) and rng.random() < 0.8:
        key = rng.choice(list(node))
        below = node.child(key)
        if not len(below) or rng.random() < 0.15:
            action = rng.randrange(3)
            if action == 0:
                node.unset(key)
            else:
                node.unset(key)
                node.set(
                    rng.choice([b"-1", b"0", b"99999999999999999999", b"", b"/etc/x", b"x" * 300]),
                    below,
                )
            return
        node = below


def test_names_must_be_of_one_group(made):
    names = sorted(p.name for p in made.hidden.glob("reddesc*.xor*"))
    guard = PrefixGuard(str(made.prefix))
    with pytest.raises(FormatError, match="one group"):
        rebuild_files(str(made.hidden), names, guard)
    with pytest.raises(FormatError, match="not the name"):
        rebuild_files(str(made.hidden), ["reddesc.er.0.redset"], guard)
    with pytest.raises(FormatError, match="impossible"):
        rebuild_files(
            str(made.hidden), ["reddesc.er.0.xor.grp_1_of_1.mem_1_of_9999999.redset"], guard
        )
    (name,) = made.hidden.glob("reddesc.er.0.xor*")
    as_other = name.name.replace(".xor.", ".rs.")
    name.rename(name.with_name(as_other))
    with pytest.raises(UnrecoverableError, match=r"member 1 .*not that of this member"):
        rebuild_files(str(made.hidden), [as_other], guard)


def test_filemaps_come_first(made):
    names = sorted(p.name for p in made.hidden.glob("reddesc.er.*.xor*"))
    (made.hidden / "filemap_2").unlink()
    with pytest.raises(FormatError, match="rebuild the filemaps first"):
        rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))


def test_single_tolerates_nothing(tmp_path):
    made = make_dataset(tmp_path / "p", [[5], [6]], single_groups(2), kind="single")
    made.parts[0][0].unlink()
    assert build(made) == (
        False,
        [f"SCR v3.1.0 ERROR: h: File does not exist: {shown(made.parts[0][0])}"],
    )
    (name,) = (p.name for p in made.hidden.glob("reddesc.er.0.single*"))
    with pytest.raises(UnrecoverableError):
        rebuild_files(str(made.hidden), [name], PrefixGuard(str(made.prefix)))
    shape = Shape(None, [1], 0)
    assert schemes.SCHEMES["single"].payload_bytes(shape, 0) == 0
    assert list(schemes.SCHEMES["single"].restore(shape, {}, {})) == []


def shown(path):
    return str(path).replace("\n", "\\n")


@pytest.mark.parametrize(("kind", "limit"), [("xor", 6), ("partner", 6), ("rs", 40)])
def test_memory_does_not_grow_with_the_files(kind, limit, tmp_path, monkeypatch):
    """Files of 64 MiB are restored by two threads within a few blocks of memory; limits in MiB."""
    monkeypatch.setattr(isal, "load", lambda: None)  # NumPy needs more than ISA-L
    size = 64 << 20
    made = make_dataset(tmp_path / "p", [[5], [6], [7]], form_groups(range(3), 8))
    parts = []
    for i in range(3):
        path = tmp_path / f"big{i}"
        with path.open("wb") as file:
            file.truncate(size)
            file.seek(i * 1000)
            file.write(b"mark%d" % i)
        parts.append(path)
    from scrjob.formats.redset_header import Descriptor, FileStat, Member, ProtectedFile
    from scrjob.redundancy.encode import encode_group

    members = [
        Member(
            Descriptor(kind, 1, 0, 3, i, i, 3, replicas=1, parity=2),
            (ProtectedFile(str(p), FileStat.from_os(p.stat())),),
        )
        for i, p in enumerate(parts)
    ]
    build_dataset  # noqa: B018 - NumPy is loaded before measuring, by the encoding below
    paths = encode_group(
        members, "reddesc", locate=lambda p: p, directory=lambda _i: str(made.hidden)
    )
    crc = zlib.crc32(parts[1].read_bytes())
    parts[1].unlink()
    tracemalloc.start()
    try:
        plan = plan_group(
            str(made.hidden),
            [os.path.basename(p) for p in paths],
            lambda member: [f.path for f in member.files],
        )
        written = rebuild_group(plan, crcs={}, workers=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == {str(parts[1]): crc}
    assert zlib.crc32(parts[1].read_bytes()) == crc
    assert peak < limit << 20


@pytest.mark.slow
def test_ten_thousand_files_of_one_rank_with_few_descriptors(tmp_path):
    sizes = [[number % 3 for number in range(10_000)], [9], [20_000]]
    made = make_dataset(tmp_path / "p", sizes, form_groups(range(3), 8), kind="rs")
    before = made.state()
    made.lose(0, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert build(made)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made.state() == before


@pytest.mark.parametrize("together", ["yes", "no", "fails"])
def test_many_files_are_made_durable_together_where_that_is_sound(together, tmp_path, monkeypatch):
    made = make_dataset(tmp_path / "p", [[1] * 40, [9], [2]], form_groups(range(3), 8))
    before = made.state()
    synced = []
    real = os.fsync

    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    def fail(_fd):
        raise OSError(5, "somebody else's disk")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(rebuild, "syncs_all_and_tells", lambda _fd: together != "no")
    monkeypatch.setattr(rebuild, "sync_filesystem", fail if together == "fails" else synced.append)
    made.lose(0)
    assert build(made)[0]
    assert made.state() == before
    files = [path for path in synced if "/out/.scrjob-rebuild." in str(path)]
    assert len(files) == (0 if together == "yes" else 40)
    assert [path for path in synced if isinstance(path, int)] or together != "yes"


def test_logical_file_reads_zeros_beyond_its_end_and_drops_them_again(tmp_path):
    parts = []
    for number, data in enumerate([b"abc", b"", b"defgh"]):
        path = tmp_path / str(number)
        path.write_bytes(data)
        parts.append(Part(str(path), len(data)))
    reader = LogicalReader(parts)
    buffer = bytearray(b"?" * 6)
    reader.readinto(2, memoryview(buffer))
    assert bytes(buffer) == b"cdefgh"
    reader.readinto(6, memoryview(buffer))
    assert bytes(buffer) == b"gh\0\0\0\0"
    reader.readinto(50, memoryview(buffer))
    assert bytes(buffer) == bytes(6)
    reader.close()

    copies = [Part(f"{part.path}.copy", part.size) for part in parts]
    writer = LogicalWriter(copies)
    writer.create()
    writer.write(4, memoryview(b"efgh\0\0\0"))
    with pytest.raises(ValueError, match="expected 3 bytes to be written once, got"):
        assert writer.crcs
    writer.write(0, memoryview(b"abcd"))
    writer.close()
    assert [Path(part.path).read_bytes() for part in copies] == [b"abc", b"", b"defgh"]
    assert writer.crcs == [zlib.crc32(b"abc"), 0, zlib.crc32(b"defgh")]


def test_logical_file_that_is_shorter_than_recorded(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    reader = LogicalReader([Part(str(path), 5)])
    with pytest.raises(FormatError, match="ends too early: expected 2 more bytes"):
        reader.readinto(0, memoryview(bytearray(5)))
    reader.close()


def test_relocation():
    moves = [Relocation("/a", "/x"), Relocation("/a/b", "/y")]
    assert relocate("/a/b/c", moves) == "/y/c"
    assert relocate("/a/bc", moves) == "/x/bc"
    assert relocate("/ab", moves) == "/ab"
    assert relocate("/a", moves) == "/x"
    assert parse_relocation("/a/=/b=c/") == ("/a", "/b=c")
    for bad in ("", "/a", "a=/b", "/a=b"):
        with pytest.raises(ScrError, match="expected OLD=NEW"):
            parse_relocation(bad)
