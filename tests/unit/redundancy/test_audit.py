# SPDX-License-Identifier: BSD-3-Clause
"""One changed byte, no change of size: found, located where that is possible, repaired."""

from __future__ import annotations

import contextlib
import zlib

import pytest

from groupmaker import make_dataset
from scrjob.errors import ScavengeError
from scrjob.formats import filemap, kvtree, redset_header
from scrjob.redundancy import audit as module
from scrjob.redundancy.audit import audit_files
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups, single_groups
from scrjob.redundancy.paths import PrefixGuard
from scrjob.redundancy.rebuild import rebuild_files
from scrjob.redundancy.redset_file import RedsetReader
from scrjob.redundancy.verify import verify_dataset

SIZES = [[1000], [2000, 5], [0, 300], [], [700, 1, 1]]
SCHEMES = [("xor", 0), ("rs", 1), ("rs", 2), ("rs", 4), ("partner", 1), ("partner", 2)]
LOCATES = [("rs", 2), ("rs", 4), ("partner", 2)]
SETS = ["reddescmap", "reddesc"]


def make(tmp_path, kind, copies, sizes=SIZES):
    groups = form_groups(range(len(sizes)), 8)
    return make_dataset(tmp_path / "p", sizes, groups, kind=kind, copies=copies)


def names(made, set_name):
    found = sorted(p.name for p in made.hidden.glob(f"{set_name}.er.*.redset"))
    return [name for name in found if redset_header.parse_name(name)]


def audit(made, set_name="reddesc", **options):
    guard = PrefixGuard(str(made.prefix))
    return audit_files(str(made.hidden), names(made, set_name), guard, **options)


def repair(made, finding, set_name="reddesc"):
    guard = PrefixGuard(str(made.prefix))
    rebuild_files(str(made.hidden), names(made, set_name), guard, distrusted=finding.paths)


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    status = path.stat()
    path.write_bytes(data)
    assert path.stat().st_size == status.st_size


def redset(made, rank, set_name="reddesc"):
    (path,) = (p for p in made.parts[rank] if p.name.startswith(f"{set_name}."))
    return path


def crcs(made):
    return {
        str(path): zlib.crc32(path.read_bytes())
        for paths in made.parts.values()
        for path in paths
        if not path.name.endswith(".redset")
    }


@pytest.mark.parametrize("set_name", SETS)
@pytest.mark.parametrize(("kind", "copies"), SCHEMES)
def test_nothing_is_found_where_nothing_is_wrong(kind, copies, set_name, tmp_path):
    assert audit(make(tmp_path, kind, copies), set_name) is None


@pytest.mark.parametrize(("kind", "copies"), LOCATES)
@pytest.mark.parametrize("what", ["file", "filemap", "redset"])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_damaged_member_is_located_and_repaired(what, rank, kind, copies, tmp_path):
    made = make(tmp_path, kind, copies)
    before = made.state()
    set_name = "reddescmap" if what == "filemap" else "reddesc"
    victim = {
        "file": made.parts[rank][0],
        "filemap": made.hidden / f"filemap_{rank}",
        "redset": redset(made, rank),
    }[what]
    flip(victim)
    finding = audit(made, set_name)
    assert finding.damaged == finding.suspects == (rank,)
    assert finding.paths == (str(redset(made, rank, set_name)),)
    assert finding.why.endswith(f"damaged without a change of size: member {rank + 1} of 5")
    repair(made, finding, set_name)
    assert made.state() == before
    assert audit(made, set_name) is None


def test_two_damaged_members_are_located_by_four_parity_blocks(tmp_path):
    made = make(tmp_path, "rs", 4)
    before = made.state()
    flip(made.parts[0][0], 0)
    flip(redset(made, 3))
    finding = audit(made)
    assert finding.damaged == (0, 3)
    repair(made, finding)
    assert made.state() == before


@pytest.mark.parametrize("what", ["file", "redset"])
@pytest.mark.parametrize(("kind", "copies"), [("xor", 0), ("rs", 1), ("partner", 1)])
def test_too_little_redundancy_tells_only_that_something_is_wrong(what, kind, copies, tmp_path):
    made = make(tmp_path, kind, copies)
    flip(made.parts[1][0] if what == "file" else redset(made, 1))
    finding = audit(made)
    assert finding.damaged == finding.paths == ()
    assert finding.suspects == (0, 1, 2, 3, 4)
    assert "nothing tells which" in finding.why


@pytest.mark.parametrize("what", ["file", "redset"])
@pytest.mark.parametrize(("kind", "copies"), SCHEMES)
def test_checksums_tell_which(what, kind, copies, tmp_path):
    made = make(tmp_path, kind, copies)
    before = made.state()
    known = crcs(made)
    flip(made.parts[1][0] if what == "file" else redset(made, 1))
    finding = audit(made, crcs=known)
    assert finding.damaged == (1,)
    repair(made, finding)
    assert made.state() == before


def test_checksums_of_the_filemaps_are_heeded(tmp_path):
    made = make(tmp_path, "xor", 0)
    known = crcs(made)
    for rank in range(5):
        path = made.hidden / f"filemap_{rank}"
        listed = filemap.parse(kvtree.read(str(path)))
        listed = {
            name: meta._replace(crc=known[f"{meta.directory}/{meta.name}"])
            for name, meta in listed.items()
        }
        kvtree.write(str(path), filemap.build(listed))
    flip(made.parts[4][2])
    assert audit(made).damaged == (4,)


def test_checksums_of_some_files_may_not_be_enough(tmp_path):
    made = make(tmp_path, "xor", 0)
    known = crcs(made)
    del known[str(made.parts[0][0])]
    flip(redset(made, 1))
    assert audit(made, crcs=known).damaged == ()


def test_two_replicas_of_three_are_a_majority(tmp_path):
    made = make(tmp_path, "partner", 2)
    flip(redset(made, 1), -1)
    flip(redset(made, 2), -1)
    # Members 1 and 2 keep their neighbours' data behind each other: the last bytes are those of the
    # neighbours at distance two, of member 4 and of member 0. Each has another good copy.
    assert audit(made).damaged == (1, 2)
    flip(made.parts[0][0], 0)  # member 0 now differs from both copies, and they from each other
    assert audit(made).damaged == ()


def test_what_is_left_is_checked_as_far_as_it_goes(tmp_path):
    made = make(tmp_path, "rs", 4)
    redset(made, 2).unlink()
    assert audit(made) is None
    flip(made.parts[0][0], 0)
    assert audit(made).damaged == (0,)


def test_without_spare_redundancy_nothing_can_be_said(tmp_path):
    made = make(tmp_path, "xor", 0)
    redset(made, 2).unlink()
    flip(made.parts[0][0], 0)
    assert audit(made) is None


def test_copies_that_are_lost_are_no_witnesses(tmp_path):
    made = make(tmp_path, "partner", 2)
    redset(made, 2).unlink()
    assert audit(made) is None
    flip(made.parts[0][0], 0)  # its copies are with members 1 and 2: one against one
    assert audit(made).damaged == ()


def test_not_every_set_of_members_is_tried(tmp_path, monkeypatch):
    made = make(tmp_path, "rs", 4)
    flip(made.parts[0][0], 0)
    flip(redset(made, 3))
    monkeypatch.setattr(module, "MOST_GUESSES", 9)  # there are 10 pairs
    assert audit(made).damaged == ()


def test_single_has_nothing_to_check(tmp_path):
    made = make_dataset(tmp_path / "p", [[5], [6]], single_groups(2), kind="single")
    name = next(p.name for p in made.hidden.glob("reddesc.er.0.single*"))
    assert audit_files(str(made.hidden), [name], PrefixGuard(str(made.prefix))) is None


@pytest.mark.parametrize(("kind", "copies"), SCHEMES)
def test_every_byte_of_a_small_group_is_watched(kind, copies, tmp_path):
    made = make(tmp_path, kind, copies, sizes=[[5], [1, 2], [0], [], [4]])
    for path in (path for paths in made.parts.values() for path in paths):
        size = path.stat().st_size
        if path.name.startswith(("reddescmap", "filemap")):
            continue
        if path.name.endswith(".redset"):
            with contextlib.closing(RedsetReader(str(path))) as reader:
                size = reader.payload_bytes
        for at in range(1, size + 1):
            flip(path, -at)
            assert audit(made) is not None, (path.name, -at)
            flip(path, -at)
    assert audit(made) is None


def build_and_verify(made):
    """Build a dataset of which ranks were lost, then check its redundancy; returns what was noted."""
    found = []
    done = build_dataset(
        str(made.prefix),
        1,
        now=0.0,
        host="h",
        on_message=lambda _line: None,
        verify=lambda built: found.append(verify_dataset(built, {}, parity=True)),
    )
    assert done
    return found[0]


def test_members_that_were_rebuilt_from_a_damaged_one_are_no_majority(tmp_path):
    """They repeat its wrong bytes, against the one member that is right."""
    made = make(tmp_path, "rs", 3, [[400], [300], [200], [100]])
    before = made.state()
    made.lose(1, 2)
    flip(made.parts[3][0])
    with pytest.raises(ScavengeError, match="nothing tells which"):
        build_and_verify(made)
    mine = [str(path) for path in made.parts[0]]
    assert [made.state()[path] for path in mine] == [before[path] for path in mine]
    assert not (made.hidden / "summary.scr").exists()


def test_a_replica_that_was_restored_from_a_damaged_one_is_no_majority(tmp_path):
    made = make(tmp_path, "partner", 2, [[400], [300], [200], [100]])
    other = redset(made, 3).read_bytes()
    made.lose(1)
    flip(redset(made, 2), -500)  # of the 700 bytes there the first 300 are those of rank 1
    assert redset(made, 2).read_bytes() != other
    with pytest.raises(ScavengeError, match="nothing tells which"):
        build_and_verify(made)
    assert redset(made, 3).read_bytes() == other


def test_who_was_rebuilt_from_a_damaged_member_is_rebuilt_again(tmp_path):
    made = make(tmp_path, "rs", 3, [[400], [300], [200], [100], [1]])
    before = {path: was[2] for path, was in made.state().items()}
    made.lose(1)
    flip(made.parts[3][0])
    done = build_and_verify(made)
    assert str(made.parts[3][0]) in done.repaired
    assert {path: was[2] for path, was in made.state().items()} == before


@pytest.mark.parametrize(
    ("kind", "copies", "is_told"),
    [("xor", 0, True), ("rs", 2, False), ("partner", 1, True), ("partner", 2, False)],
)
def test_what_nothing_is_left_to_check_by_is_told(tmp_path, kind, copies, is_told):
    made = make(tmp_path, kind, copies)
    assert build_and_verify(made).notes == []
    (made.hidden / "summary.scr").unlink()
    made.lose(2)
    notes = build_and_verify(made).notes
    assert len(notes) == is_told
    if is_told:
        assert "lost or rebuilt: 3 of 5; the same for 1 more groups" in notes[0]
