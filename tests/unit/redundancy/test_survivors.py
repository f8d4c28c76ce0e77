# SPDX-License-Identifier: BSD-3-Clause
"""A loss beside wrong bytes of the right size: nothing is restored from what cannot be believed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import pytest

from groupmaker import Made, make_dataset
from scrjob.commands import scr_index
from scrjob.errors import ScavengeError
from scrjob.redundancy import build as build_module
from scrjob.redundancy.build import Built, build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.renewed import NAME
from scrjob.redundancy.survivors import DamagedFilesError
from scrjob.redundancy.verify import Verified, verify_dataset

SIZES = [[1000], [2000, 5], [0, 300], [], [700, 1, 1]]


def make(tmp_path: Path, kind: str, copies: int, *, record_crcs: bool = False) -> Made:
    groups = form_groups(range(len(SIZES)), 8)
    return make_dataset(
        tmp_path / "p", SIZES, groups, kind=kind, copies=copies, record_crcs=record_crcs
    )


def build(made: Made, crcs: Mapping[str, int]) -> Tuple[bool, List[str], List[Verified]]:
    lines: List[str] = []
    verified: List[Verified] = []

    def check(built: Built) -> None:
        verified.append(verify_dataset(built, crcs, parity=True))

    done = build_dataset(
        str(made.prefix), 1, now=0.0, host="h", on_message=lines.append, verify=check, audit=crcs
    )
    return done, lines, verified


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def crcs_of_copies(made: Made) -> Dict[str, int]:
    """Return what a scavenge knows: the checksum of each application file as it was in the cache."""
    return {str(p): zlib.crc32(p.read_bytes()) for p in (made.prefix / "out").iterdir()}


def contents(made: Made) -> Dict[str, bytes]:
    """Return all there is of the dataset, temporary files too."""
    directories = (made.hidden, made.prefix / "out")
    return {str(path): path.read_bytes() for top in directories for path in top.iterdir()}


def of_ranks(made: Made) -> Dict[str, bytes]:
    return {path: was[2] for path, was in made.state().items()}


@pytest.mark.parametrize(
    ("kind", "copies", "record_crcs"),
    [("rs", 3, False), ("rs", 4, False), ("partner", 3, False), ("rs", 2, True)],
)
def test_enough_redundancy_tells_and_restores_both(
    tmp_path: Path, kind: str, copies: int, record_crcs: bool
) -> None:
    """Or a recorded checksum does, which makes a survivor one more lost member."""
    made = make(tmp_path, kind, copies, record_crcs=record_crcs)
    before = of_ranks(made)
    made.lose(1)
    flip(made.parts[4][0])
    done, _, verified = build(made, {})
    assert done
    assert of_ranks(made) == before
    assert str(made.parts[4][0]) in verified[0].repaired
    assert str(made.parts[1][0]) not in verified[0].repaired, "it was lost, not damaged"
    assert [note for note in verified[0].notes if "member 5 of 5: repaired" in note]


@pytest.mark.parametrize(("kind", "copies"), [("rs", 3), ("partner", 3)])
def test_checksums_of_the_copy_do_not_prove_that_the_cache_was_right(
    tmp_path: Path, kind: str, copies: int
) -> None:
    """A scavenge knows a checksum of every file that it copied: that of the bytes in the cache."""
    made = make(tmp_path, kind, copies)
    before = of_ranks(made)
    made.lose(1)
    victim = made.parts[4][0]
    flip(victim)
    done, _, verified = build(made, crcs_of_copies(made))
    assert done
    assert of_ranks(made) == before
    assert str(victim) in verified[0].repaired
    assert [note for note in verified[0].notes if "member 5 of 5: repaired" in note]


@pytest.mark.parametrize(("kind", "copies"), [("rs", 2), ("partner", 1)])
def test_nor_do_they_accuse_the_redundancy(tmp_path: Path, kind: str, copies: int) -> None:
    made = make(tmp_path, kind, copies)
    made.lose(1)
    flip(made.parts[4][0])
    with pytest.raises(ScavengeError, match="nothing tells which is damaged"):
        build(made, crcs_of_copies(made))


def test_wrong_bytes_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored first and repaired afterwards, they would be there after a KILL in between."""
    made = make(tmp_path, "rs", 3)
    before = of_ranks(made)
    made.lose(1)
    flip(made.parts[4][0])
    seen: List[Dict[str, bytes]] = []
    rebuild_files = build_module.rebuild.rebuild_files

    def watched(directory: str, names: Sequence[str], *args: object, **options: object) -> object:
        written = rebuild_files(directory, names, *args, **options)  # type: ignore[arg-type]
        seen.append({path: Path(path).read_bytes() for path in written})
        return written

    monkeypatch.setattr(build_module.rebuild, "rebuild_files", watched)
    assert build(made, {})[0]
    assert len(seen) == 2
    for restored in seen:
        assert restored.items() <= before.items()


def test_what_nothing_tells_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """One spare block of parity tells that something is wrong, but not what."""
    made = make(tmp_path, "rs", 2)
    made.lose(1)
    filemap, redundancy = (p for p in made.parts[1] if p.parent == made.hidden and "map" in p.name)
    flip(made.parts[4][0])
    before = contents(made)
    with pytest.raises(ScavengeError, match="nothing tells which is damaged"):
        build(made, {})
    after = contents(made)
    # The filemaps are a set of their own, in which nothing is wrong.
    assert after.keys() - before.keys() <= {str(filemap), str(redundancy), str(made.hidden / NAME)}
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(("kind", "copies"), [("xor", 0), ("rs", 1), ("partner", 1)])
def test_one_more_than_the_scheme_tolerates_is_refused(
    tmp_path: Path, kind: str, copies: int
) -> None:
    made = make(tmp_path, kind, copies, record_crcs=True)
    made.lose(3)  # who has no files: no checksum of anything restored could tell
    flip(made.parts[4][0])
    done, lines, verified = build(made, {})
    assert not done
    assert not verified
    assert any("cannot rebuild group 1 of 1 (reddesc)" in line for line in lines)
    assert not list(made.hidden.glob("reddesc.er.3.*"))


def test_what_can_be_copied_again_is_told_before_anything_is_restored(tmp_path: Path) -> None:
    made = make(tmp_path, "xor", 0)
    victim = made.parts[4][0]
    crcs = {str(victim): zlib.crc32(victim.read_bytes())}
    made.lose(1)
    flip(victim)
    with pytest.raises(DamagedFilesError) as caught:
        build(made, crcs)
    assert caught.value.damaged == (str(victim),)
    assert not made.parts[1][0].exists()


def test_a_lost_file_must_come_back_as_it_had_been_copied(tmp_path: Path) -> None:
    """The node that copied it noted its checksum; the file was lost later."""
    made = make(tmp_path, "xor", 0)
    victim = made.parts[1][0]
    crcs = {str(victim): zlib.crc32(victim.read_bytes())}
    victim.unlink()
    flip(made.parts[4][0], 0)  # in the stripe of the victim's first byte
    done, lines, _ = build(made, crcs)
    assert not done
    assert any("another file of its group is damaged" in line for line in lines)
    assert not victim.exists()


def test_without_spare_redundancy_and_checksums_it_is_told_that_nobody_can_know(
    tmp_path: Path,
) -> None:
    """The limit of what can be done: docs/formats/redundancy.md."""
    made = make(tmp_path, "xor", 0)
    made.lose(1)
    flip(made.parts[4][0])
    done, _, verified = build(made, {})
    assert done
    assert any("nothing is left to check it by" in note for note in verified[0].notes)


def test_nothing_is_repaired_while_another_group_is_undecided(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "p", [[500]] * 8, form_groups(range(8), 4), kind="rs", copies=2)
    for rank in (1, 5, 6):  # one of the first group, two of the second
        flip(made.parts[rank][0])
    before = contents(made)
    with pytest.raises(ScavengeError, match=r"group 2 .*nothing tells which is damaged"):
        build(made, {})
    assert contents(made) == before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path, "rs", 3)
    before = of_ranks(made)
    made.lose(1)
    flip(made.parts[4][0])
    assert scr_index.main(["--prefix", str(made.prefix), "--build", "1", "--verify"]) == 0
    out = capsys.readouterr().out
    assert "scr_index: group 1 (reddesc)" in out
    assert f"scr_index: repaired {made.parts[4][1]}".encode("unicode_escape").decode()[:60] in out
    assert of_ranks(made) == before
