# SPDX-License-Identifier: BSD-3-Clause
"""What a build has rebuilt is known to those after it: audits, and builds after a kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import pytest

from groupmaker import Made, make_dataset
from scrjob.errors import ScavengeError, ScrError
from scrjob.formats import redset_header
from scrjob.redundancy.build import Built, build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.renewed import NAME, Renewed
from scrjob.redundancy.verify import Verified, verify_dataset

SIZES = [[1000], [2000, 5], [0, 300], [], [700, 1, 1]]
SETS = ["reddescmap", "reddesc"]


class KilledError(ScrError):
    """Stands for the end of a build between rebuilding and verifying."""


def make(tmp_path: Path, kind: str = "rs", copies: int = 2) -> Made:
    groups = form_groups(range(len(SIZES)), 8)
    return make_dataset(tmp_path / "p", SIZES, groups, kind=kind, copies=copies)


def build(made: Made, **options: Any) -> bool:
    return build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=print, **options)


def killed(_built: Built) -> None:
    raise KilledError("killed")


def rebuild_and_be_killed(made: Made) -> None:
    with pytest.raises(KilledError):
        build(made, force=True, verify=killed)


def verify(made: Made) -> Verified:
    found: List[Verified] = []

    def check(built: Built) -> None:
        found.append(verify_dataset(built, {}, parity=True))

    assert build(made, force=True, audit={}, verify=check)
    return found[0]


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def redset(made: Made, rank: int, set_name: str = "reddesc") -> Path:
    (path,) = (p for p in made.parts[rank] if p.name.startswith(f"{set_name}."))
    return path


def test_an_audit_after_a_kill_does_not_believe_what_was_rebuilt(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.lose(1)
    flip(made.parts[0][0])
    rebuild_and_be_killed(made)
    after = made.state()
    # One spare block is left: it tells that something is wrong. With the rebuilt member there are
    # two, which point to an innocent one.
    with pytest.raises(ScavengeError, match="nothing tells which is damaged"):
        verify(made)
    assert made.state() == after


def test_with_enough_spare_blocks_it_is_repaired(tmp_path: Path) -> None:
    made = make(tmp_path, copies=4)
    before = made.state()
    made.lose(1)
    flip(made.parts[0][0])
    rebuild_and_be_killed(made)
    assert made.state() != before
    done = verify(made)
    assert made.state() == before
    assert str(made.parts[1][0]) in done.repaired, "it was restored from the damaged one"
    assert not (made.hidden / NAME).exists()


def test_a_later_audit_knows_what_a_scavenge_has_rebuilt(tmp_path: Path) -> None:
    made = make(tmp_path, copies=4)
    before = made.state()
    made.lose(1)
    flip(made.parts[0][0])
    assert build(made, keep_record=True)
    verify(made)
    assert made.state() == before
    assert not (made.hidden / NAME).exists(), "all fits together now"


def test_a_plain_build_leaves_nothing_but_the_dataset(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.lose(1)
    rebuild_and_be_killed(made)
    assert (made.hidden / NAME).exists()
    assert build(made)
    assert not (made.hidden / NAME).exists()


@pytest.mark.parametrize(("copies", "lost"), [(2, (1,)), (2, (1, 4)), (3, (1, 4))])
def test_rebuilt_members_that_were_damaged_later_are_repaired(
    copies: int, lost: tuple[int, ...], tmp_path: Path
) -> None:
    made = make(tmp_path, copies=copies)
    before = made.state()
    made.lose(*lost)
    assert build(made, keep_record=True)
    assert made.state() == before
    for rank in lost[: 1 if copies == len(lost) else None]:
        flip(made.parts[rank][0])
    assert "damaged without a change of size" in "".join(verify(made).notes)
    assert made.state() == before


def test_more_was_rebuilt_than_the_scheme_tolerates(tmp_path: Path) -> None:
    """One after the other; all that can be said is whether it fits together now."""
    made = make(tmp_path, kind="xor")
    for rank in (1, 4):
        made.lose(rank)
        rebuild_and_be_killed(made)
    (told, *_) = verify(made).notes
    assert "nothing is left to check it by; members were lost or rebuilt: 2, 5 of 5" in told
    made.lose(1)
    rebuild_and_be_killed(made)
    flip(made.parts[0][0])
    with pytest.raises(ScavengeError, match="do not fit together"):
        verify(made)


def test_an_original_that_was_copied_after_all_is_a_witness(tmp_path: Path) -> None:
    made = make(tmp_path)
    originals = {path: path.read_bytes() for path in made.parts[1]}
    made.lose(1)
    rebuild_and_be_killed(made)
    path = str(redset(made, 1))
    assert path in Renewed(str(made.hidden)).paths
    for file, data in originals.items():
        file.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert path not in Renewed(str(made.hidden)).paths
    flip(made.parts[0][0])
    assert str(made.parts[0][0]) in verify(made).repaired, "two spare blocks"


@pytest.mark.parametrize("set_name", SETS)
def test_redundancy_that_a_killed_build_has_not_come_to_is_written(
    set_name: str, tmp_path: Path
) -> None:
    made = make(tmp_path, kind="xor")
    before = made.state()
    path = redset(made, 2, set_name)
    path.unlink()
    assert build(made)
    assert not path.exists(), "as with the C tool, it is not needed"
    Renewed(str(made.hidden)).note({str(path): 5})
    assert build(made, force=True)
    assert made.state() == before
    assert not (made.hidden / NAME).exists()


def test_what_cannot_be_finished_is_no_obstacle(tmp_path: Path) -> None:
    made = make(tmp_path, kind="xor")
    for rank in (1, 2):
        redset(made, rank).unlink()
    Renewed(str(made.hidden)).note({str(redset(made, 1)): 5})
    assert build(made)


@pytest.mark.parametrize("half", ["", "reddesc.er.1.rs.grp_1", "x 7\n\n\xff \u0661\n", "a b c"])
def test_half_a_line_of_one_that_was_killed(half: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(half.encode())
    name = redset_header.parse_name("reddesc.er.1.rs.grp_1_of_1.mem_2_of_5.redset")
    path = tmp_path / str(name)
    Renewed(str(tmp_path)).note({str(path): 7})
    found = Renewed(str(tmp_path))
    assert (found.paths, found.unwritten) == (set(), {name})
    path.touch()
    os.utime(path, ns=(7, 7))
    found = Renewed(str(tmp_path))
    assert (found.paths, found.unwritten) == ({str(path)}, set())


def test_what_is_no_file_is_no_record(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert Renewed(str(tmp_path)).paths == set()


@pytest.mark.parametrize("damage", ["no header", "another size", "gone"])
@pytest.mark.parametrize(("kind", "copies"), [("xor", 0), ("rs", 2), ("partner", 1)])
def test_redundancy_that_cannot_be_used_is_told_and_made_anew(
    kind: str, copies: int, damage: str, tmp_path: Path
) -> None:
    made = make(tmp_path, kind, copies)
    before = made.state()
    path = redset(made, 1)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * 50 if damage == "no header" else path.read_bytes() + b"x")
    files = made.parts[1][:2]
    inodes = [file.stat().st_ino for file in files]
    assert build(made, force=True)
    assert not path.exists() or path.read_bytes() != before[str(path)][2], "that was not asked for"
    notes = verify(made).notes
    (told,) = (note for note in notes if "made anew" in note)
    assert told.startswith(f"{path}: made anew: ")
    assert made.state() == before
    assert [file.stat().st_ino for file in files] == inodes, "its files were right as they were"
    assert verify(made).notes == []


def test_good_files_are_not_restored_from_what_nobody_can_check(tmp_path: Path) -> None:
    made = make(tmp_path, kind="xor")
    flip(made.parts[0][0])
    redset(made, 1).write_bytes(b"")
    before = [path.read_bytes() for path in made.parts[1][:2]]
    verify(made)
    assert [path.read_bytes() for path in made.parts[1][:2]] == before
