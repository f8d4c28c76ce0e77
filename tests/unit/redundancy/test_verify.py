# SPDX-License-Identifier: BSD-3-Clause
"""Verification: wrong bytes of the right size are found, repaired where that is possible, else told."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import pytest

from groupmaker import Made, make_dataset
from scrjob.commands import scr_index
from scrjob.errors import ScavengeError
from scrjob.redundancy.build import Built, build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.survivors import DamagedFilesError
from scrjob.redundancy.verify import Verified, verify_dataset

SIZES = [[1000], [2000, 5], [0, 300], [], [700, 1, 1]]
LOCATES = [("rs", 2), ("rs", 4), ("partner", 2)]


def make(tmp_path: Path, kind: str = "rs", copies: int = 2) -> Made:
    groups = form_groups(range(len(SIZES)), 8)
    return make_dataset(tmp_path / "p", SIZES, groups, kind=kind, copies=copies)


def verify(made: Made, crcs: Dict[str, int], **options: bool) -> Verified:
    found: List[Verified] = []

    def check(built: Built) -> None:
        found.append(verify_dataset(built, crcs, **options))

    assert build_dataset(
        str(made.prefix), 1, now=0.0, host="h", on_message=print, force=True, verify=check
    )
    return found[0]


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def known(made: Made, *which: Tuple[int, int]) -> Dict[str, int]:
    paths = [made.parts[rank][number] for rank, number in which]
    return {str(path): zlib.crc32(path.read_bytes()) for path in paths}


def test_nothing_wrong(tmp_path: Path) -> None:
    assert verify(make(tmp_path), {}, parity=True) == Verified({}, [])


@pytest.mark.parametrize(("kind", "copies"), LOCATES)
@pytest.mark.parametrize("which", [(0, 0), (1, 1), (4, 0)])
def test_a_file_without_a_checksum_is_repaired(
    tmp_path: Path, kind: str, copies: int, which: Tuple[int, int]
) -> None:
    made = make(tmp_path, kind, copies)
    before = made.state()
    victim = made.parts[which[0]][which[1]]
    flip(victim)
    assert verify(made, {}).repaired == {}, "without the redundancy nobody can see it"
    done = verify(made, {}, parity=True)
    assert str(victim) in done.repaired
    assert "damaged without a change of size" in done.notes[0]
    assert done.notes[0].endswith(": repaired")
    assert made.state() == before


@pytest.mark.parametrize("set_name", ["reddesc", "reddescmap"])
def test_damaged_redundancy_is_repaired(tmp_path: Path, set_name: str) -> None:
    made = make(tmp_path)
    before = made.state()
    flip(next(path for path in made.parts[2] if path.name.startswith(f"{set_name}.")))
    assert len(verify(made, {}, parity=True).notes) == 1
    assert made.state() == before


def test_what_nobody_can_tell_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    made = make(tmp_path, "xor", 0)
    flip(made.parts[1][0])
    before = made.state()
    with pytest.raises(ScavengeError, match="nothing tells which is damaged"):
        verify(made, {}, parity=True)
    assert made.state() == before
    assert not (made.hidden / "summary.scr").exists()


def test_a_recorded_checksum_tells_and_redundancy_repairs(tmp_path: Path) -> None:
    """As scr_index does it: nobody can copy the file again."""
    made = make(tmp_path, "xor", 0)
    before = made.state()
    crcs = known(made, (1, 0))
    flip(made.parts[1][0])

    def check(built: Built) -> None:
        built.scan.crcs.update(crcs)
        assert str(made.parts[1][0]) in verify_dataset(built, {}, parity=True).repaired

    assert build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=print, verify=check)
    assert made.state() == before


def test_what_was_copied_wrongly_is_left_to_be_copied_again(tmp_path: Path) -> None:
    made = make(tmp_path)
    crcs = known(made, (1, 0))
    flip(made.parts[1][0])
    before = made.state()
    with pytest.raises(DamagedFilesError) as caught:
        verify(made, crcs, parity=True)
    assert caught.value.damaged == (str(made.parts[1][0]),)
    assert made.state() == before


def test_two_damaged_files_that_the_checksums_know_are_too_many_for_xor(tmp_path: Path) -> None:
    made = make(tmp_path, "xor", 0)
    crcs = known(made, (0, 0), (1, 0))
    for rank in (0, 1):
        flip(made.parts[rank][0])
    before = made.state()

    def check(built: Built) -> None:
        built.scan.crcs.update(crcs)
        verify_dataset(built, {}, parity=True)

    with pytest.raises(ScavengeError, match="it cannot be repaired"):
        build_dataset(str(made.prefix), 1, now=0.0, host="h", on_message=print, verify=check)
    assert made.state() == before


def test_a_group_without_redundancy_is_told_not_refused(tmp_path: Path) -> None:
    made = make(tmp_path, "xor", 0)
    for rank in range(3):
        for path in made.parts[rank]:
            if path.name.endswith(".redset"):
                path.unlink()
    notes = verify(made, {}, parity=True).notes
    assert len(notes) == 2
    assert all("cannot be checked" in note for note in notes)


def index(made: Made, *words: str) -> int:
    argv: Sequence[str] = ["--prefix", str(made.prefix), "--build", "1", *words]
    return scr_index.main(argv)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path)
    before = made.state()
    assert index(made) == 0
    flip(made.parts[4][0])
    assert index(made) == 0
    assert capsys.readouterr().out == ""
    assert index(made, "--verify") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "member 5 of 5: repaired" in lines[0]
    assert sum(line.startswith("scr_index: repaired /") for line in lines) == 3
    assert made.state() == before


@pytest.mark.parametrize("where", ["environment", "configuration"])
def test_the_command_verifies_where_that_is_set(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path)
    assert index(made) == 0
    before = made.state()
    flip(made.parts[4][0])
    if where == "environment":
        monkeypatch.setenv("SCR_SCAVENGE_VERIFY", "1")
    else:
        (made.prefix / ".scrconf").write_text("SCR_SCAVENGE_VERIFY=1\n")
    assert index(made) == 0
    assert "member 5 of 5: repaired" in capsys.readouterr().out
    assert made.state() == before


def test_the_command_tells_what_it_cannot_repair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path, "xor", 0)
    flip(made.parts[4][0])
    assert index(made, "--verify") == 1
    assert "nothing tells which is damaged" in capsys.readouterr().out
    assert not (made.prefix / ".scr" / "index.scr").exists()
