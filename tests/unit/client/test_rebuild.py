# SPDX-License-Identifier: BSD-3-Clause
"""One redundancy set over four ranks with a directory each: encoded, damaged, made whole again."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from typing import Callable, Optional

import pytest

from scrjob.client import scheme
from scrjob.client.encode import Place, protect
from scrjob.client.rebuild import make_whole, read_header, refuse_others
from scrjob.client.team import Team
from scrjob.errors import FormatError, ScrError, UnrecoverableError
from scrjob.formats import er, kvtree, redset_header
from scrjob.redundancy.encode import header_of
from scrjob.redundancy.stripes import chunk_bytes
from threadcomm import ThreadComm, run, run_all

PIECE = 64
SIZES = ((700, 0, 13), (1,), (), (300, 301))  # of each rank's files


class World:
    """Four ranks, each on a node with a directory of its own."""

    def __init__(self, base, copy_type: str = "XOR") -> None:
        self.base = base
        self.copy_type = copy_type
        rng = random.Random(5)
        for rank, sizes in enumerate(SIZES):
            os.makedirs(self.place(rank).path(""))
            for number, size in enumerate(sizes):
                with open(self.file(rank, number), "wb") as file:
                    file.write(rng.randbytes(size))
                os.chmod(self.file(rank, number), 0o640)

    def place(self, rank: int) -> Place:
        return Place(f"{self.base}/node{rank}/scr.dataset.1", "reddesc")

    def file(self, rank: int, number: int) -> str:
        return f"{self.place(rank).dataset}/file.{number}"

    def typed(self, rank: int) -> str:
        (name,) = [n for n in os.listdir(self.place(rank).path("")) if ".mem_" in n]
        return self.place(rank).path(name)

    def together(
        self, body: Callable[[Team, int], object], *, any_end: bool = False
    ) -> list[object]:
        def program(comm: ThreadComm) -> object:
            return body(Team(comm, f"node{comm.rank}"), comm.rank)

        return (run if any_end else run_all)(len(SIZES), program)

    def encode(self) -> None:
        def body(team: Team, rank: int) -> None:
            files = [self.file(rank, number) for number in range(len(SIZES[rank]))]
            place = self.place(rank)
            protect(team, scheme.form(team, self.copy_type, 8), place, files, PIECE)

        self.together(body)

    def rebuild(self) -> list[object]:
        """Return what make_whole raised on each rank."""
        return self.together(
            lambda team, rank: make_whole(team, self.place(rank), PIECE), any_end=True
        )

    def snapshot(self) -> dict[str, tuple[str, int]]:
        found = {}
        for directory, _, names in os.walk(self.base):
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                found[path] = (digest, os.stat(path).st_mode)
        return found

    def wipe(self, rank: int) -> None:
        shutil.rmtree(self.place(rank).dataset)
        os.makedirs(self.place(rank).path(""))


@pytest.fixture
def world(tmp_path) -> World:
    made = World(tmp_path)
    made.encode()
    return made


def test_the_header_is_the_one_that_the_serial_encoder_makes(world: World):
    headers = [read_header(world.typed(rank)) for rank in range(4)]
    members = [header.members[rank] for rank, header in enumerate(headers)]
    chunk = chunk_bytes([member.size_bytes for member in members], 4)
    assert headers == [header_of(members, rank, chunk) for rank in range(4)]
    assert [len(member.files) for member in members] == [3, 1, 0, 2]


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_any_rank_can_lose_all(world: World, lost):
    before = world.snapshot()
    world.wipe(lost)
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


def test_nothing_lost_changes_nothing(world: World):
    before = world.snapshot()
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


def spoil_size(world: World) -> None:
    with open(world.file(0, 0), "ab") as file:
        file.write(b"x")


def spoil_file(world: World) -> None:
    os.unlink(world.file(0, 2))


def spoil_link(world: World) -> None:
    os.rename(world.file(0, 0), f"{world.base}/elsewhere")
    os.symlink(f"{world.base}/elsewhere", world.file(0, 0))


def spoil_length(world: World) -> None:
    with open(world.typed(0), "ab") as file:
        file.write(b"x")


def spoil_header(world: World) -> None:
    with open(world.typed(0), "r+b") as file:
        file.seek(30)
        file.write(b"\xff")


@pytest.mark.parametrize("spoil", [spoil_size, spoil_file, spoil_link, spoil_length, spoil_header])
def test_each_kind_of_loss(world: World, spoil):
    before = world.snapshot()
    spoil(world)
    assert world.rebuild() == [None] * 4
    assert {
        path: seen for path, seen in world.snapshot().items() if "elsewhere" not in path
    } == before


def test_two_losses_are_told_on_all_ranks_and_nothing_is_touched(world: World):
    world.wipe(1)
    world.wipe(3)
    before = world.snapshot()
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [UnrecoverableError] * 4
    assert str(answers[0]) == "the files of ranks 1 and 3, one set, are lost"
    assert world.snapshot() == before


def test_a_set_of_which_nobody_is_left(world: World):
    for rank in range(4):
        world.wipe(rank)
    assert [type(answer) for answer in world.rebuild()] == [UnrecoverableError] * 4


def test_single_tells_what_is_lost(tmp_path):
    world = World(tmp_path, "SINGLE")
    world.encode()
    before = world.snapshot()
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before
    world.wipe(0)
    assert [type(answer) for answer in world.rebuild()] == [UnrecoverableError] * 4


def test_a_place_that_cannot_be_written_is_an_error_that_may_pass(world: World):
    before = world.snapshot()
    os.unlink(world.file(3, 0))
    os.makedirs(f"{world.file(3, 0)}/in the way")
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[0]).startswith("rank 3 on node3: finishing rebuilt files: ")
    shutil.rmtree(world.file(3, 0))
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


def test_a_survivor_that_cannot_be_read_is_an_error_that_may_pass(world: World, monkeypatch):
    from scrjob.redundancy import logical

    before = world.snapshot()
    world.wipe(3)
    real = logical.open_regular

    def refuse(path: str) -> int:
        if path == world.file(0, 0):
            raise OSError(5, "Input/output error", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(logical, "open_regular", refuse)
        answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[2]).startswith("rank 0 on node0: rebuilding lost files: ")
    assert os.listdir(world.place(3).dataset) == [".scr"]  # nothing that could be taken for data
    assert os.listdir(world.place(3).path("")) == []
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


def test_what_is_left_of_a_lost_member_stays_until_all_of_it_is_restored(world: World, monkeypatch):
    from scrjob.redundancy import logical

    os.unlink(world.file(0, 2))
    before = world.snapshot()
    real = logical.open_regular

    def refuse(path: str) -> int:
        if path == world.file(3, 0):
            raise OSError(5, "Input/output error", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(logical, "open_regular", refuse)
        assert [type(answer) for answer in world.rebuild()] == [ScrError] * 4
    assert world.snapshot() == before


def test_a_directory_that_cannot_be_listed_is_an_error_on_all_ranks(world: World, monkeypatch):
    real = os.listdir

    def refuse(path: str) -> list[str]:
        if path == os.path.dirname(world.place(2).path("x")):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert world.rebuild() == [None] * 4


def test_a_file_of_another_rank_of_the_node_is_not_replaced(tmp_path):
    """Only base names differ in cache: a rank that comes to another's node may bring the same."""
    world = World(tmp_path)
    world.encode()
    before = world.snapshot()
    name = os.path.basename(world.typed(0))
    os.rename(
        world.typed(0), world.place(1).path(name)
    )  # rank 0's files are where rank 1's are lost

    def body(_team: Team, rank: int) -> None:
        if rank == 1:
            refuse_others(world.place(1), 1, [world.file(0, 0), world.file(1, 0)])

    answers = world.together(body, any_end=True)
    assert isinstance(answers[1], FormatError)
    assert "holds the file of rank 0" in str(answers[1])
    refuse_others(world.place(1), 0, [world.file(0, 0)])  # its own
    refuse_others(world.place(1), 1, [f"{world.file(0, 0)}.new"])
    os.rename(world.place(1).path(name), world.place(0).path(name))
    assert world.snapshot() == before


def test_a_header_that_points_elsewhere_is_not_followed(world: World):
    """The lost rank's files are known from its neighbour's header only."""
    precious = f"{world.base}/precious"
    with open(precious, "wb") as file:
        file.write(b"gold")
    path = world.typed(2)  # describes rank 1
    header = read_header(path)
    member = header.members[1]
    forged = member._replace(files=(member.files[0]._replace(path=precious),))
    with open(path, "rb") as file:
        _, start = kvtree.read_image(file)
        payload = file.read()
        file.seek(start)
        payload = file.read()
    image = redset_header.encode(header._replace(members={**header.members, 1: forged}))
    with open(path, "wb") as file:
        file.write(kvtree.encode(image) + payload)
    world.wipe(1)
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert "is no place in" in str(answers[0])
    with open(precious, "rb") as file:
        assert file.read() == b"gold"


def test_encoding_that_cannot_be_written_is_an_error_everywhere_and_stays_marked(tmp_path):
    world = World(tmp_path)
    os.makedirs(f"{world.place(1).path('')}reddesc.er.1.xor.grp_1_of_1.mem_2_of_4.redset.part/x")

    def body(team: Team, rank: int) -> None:
        files = [world.file(rank, number) for number in range(len(SIZES[rank]))]
        protect(team, scheme.form(team, "XOR", 8), world.place(rank), files, PIECE)

    answers = world.together(body, any_end=True)
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[0]).startswith("rank 1 on node1: writing redundancy data: ")
    for rank in range(4):
        assert not er.is_encoded(kvtree.read(world.place(rank).path("reddesc.er.er")))


def test_a_file_that_vanished_before_encoding(tmp_path):
    world = World(tmp_path)
    os.unlink(world.file(3, 1))
    missing: Optional[object] = None

    def body(team: Team, rank: int) -> None:
        files = [world.file(rank, number) for number in range(len(SIZES[rank]))]
        protect(team, scheme.form(team, "XOR", 8), world.place(rank), files, PIECE)

    missing = world.together(body, any_end=True)[0]
    assert "rank 3 on node3: reading the files to be protected" in str(missing)


def test_other_names_are_no_redundancy_files(tmp_path):
    path = tmp_path / "reddesc.er.1.redset"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="no name of a redundancy file"):
        read_header(str(path))
