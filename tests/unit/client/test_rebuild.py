# SPDX-License-Identifier: BSD-3-Clause
"""One redundancy set over some ranks with a directory each: encoded, damaged, made whole again."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from itertools import chain, combinations
from typing import Callable, Iterable, Optional, Sequence

import pytest

from scrjob.client import scheme
from scrjob.client.encode import Place, protect
from scrjob.client.held import read_header, refuse_others
from scrjob.client.rebuild import make_whole
from scrjob.client.scheme import Wish
from scrjob.client.team import Team
from scrjob.errors import FormatError, ScrError, UnrecoverableError
from scrjob.formats import er, kvtree, redset_header
from scrjob.formats.redset_header import Header
from scrjob.redundancy.encode import encode_group
from threadcomm import ThreadComm, run, run_all

PIECE = 64
SIZES = ((700, 0, 13), (1,), (), (300, 301))  # of each rank's files
LARGE = ((64, 640), (), (63, 1, 1), (900,), (0,), (128,))
XOR = Wish("XOR", 8)
PARTNER = Wish("PARTNER", 8)
RS2 = Wish("RS", 8, 2)
RS3 = Wish("RS", 8, 3)


class World:
    """Ranks, each on a node with a directory of its own."""

    def __init__(
        self,
        base,
        wish: Wish = XOR,
        sizes: Sequence[Sequence[int]] = SIZES,
        piece: int = PIECE,
        hosts: Optional[Sequence[str]] = None,
    ) -> None:
        self.base = base
        self.wish = wish
        self.sizes = sizes
        self.piece = piece
        self.hosts = hosts or [f"node{rank}" for rank in range(len(sizes))]
        rng = random.Random(5)
        for rank, own in enumerate(sizes):
            os.makedirs(self.place(rank).path(""))
            for number, size in enumerate(own):
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
            return body(Team(comm, self.hosts[comm.rank]), comm.rank)

        return (run if any_end else run_all)(len(self.sizes), program)

    def encode(self, *, any_end: bool = False) -> list[object]:
        def body(team: Team, rank: int) -> None:
            files = [self.file(rank, number) for number in range(len(self.sizes[rank]))]
            protect(team, scheme.form(team, self.wish), self.place(rank), files, self.piece)

        return self.together(body, any_end=any_end)

    def rebuild(self) -> list[object]:
        """Return what make_whole raised on each rank."""
        return self.together(
            lambda team, rank: make_whole(team, self.place(rank), self.piece), any_end=True
        )

    def headers(self) -> list[Header]:
        return [read_header(self.typed(rank)) for rank in range(len(self.sizes))]

    def rewrite(self, rank: int, header: Header) -> None:
        """Put another header in front of a rank's payload."""
        path = self.typed(rank)
        with open(path, "rb") as file:
            _, start = kvtree.read_image(file)
            file.seek(start)
            payload = file.read()
        with open(path, "wb") as file:
            file.write(kvtree.encode(redset_header.encode(header)) + payload)

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


@pytest.mark.parametrize("wish", [XOR, PARTNER, RS2, RS3], ids=str)
@pytest.mark.parametrize("sizes", [SIZES, LARGE, ((), (), (), ()), ((), (5,), (), ())])
@pytest.mark.parametrize("piece", [1 << 20, PIECE, 7])
def test_redundancy_files_are_those_of_the_serial_encoder(tmp_path, wish, sizes, piece):
    world = World(tmp_path, wish, sizes, piece)
    world.encode()
    members = [header.members[rank] for rank, header in enumerate(world.headers())]
    assert [len(member.files) for member in members] == [len(own) for own in sizes]
    serial = tmp_path / "serial"
    serial.mkdir()
    paths = encode_group(members, "reddesc", locate=str, directory=lambda _: str(serial))
    for rank, path in enumerate(paths):
        with open(path, "rb") as expected, open(world.typed(rank), "rb") as found:
            assert os.path.basename(path) == os.path.basename(world.typed(rank))
            assert found.read() == expected.read()


def test_several_groups_and_ranks_on_a_node(tmp_path):
    hosts = [f"node{rank // 2}" for rank in range(8)]
    world = World(tmp_path, RS2, [*SIZES, *LARGE[:4]], hosts=hosts)
    world.encode()
    before = world.snapshot()
    assert {
        read_header(world.typed(rank)).members[rank // 2].descriptor.groups for rank in range(8)
    } == {2}
    for lost in [(0, 1, 6, 7), (2,)]:  # both ranks of two nodes; one of one
        for rank in lost:
            world.wipe(rank)
        assert world.rebuild() == [None] * 8
        assert world.snapshot() == before


def within(wish: Wish, n: int) -> Iterable[tuple[int, ...]]:
    """Return all losses that a group of n members survives, by the text of the format."""
    for lost in chain.from_iterable(combinations(range(n), count) for count in range(1, n)):
        if wish.copy_type == "PARTNER":
            covered = not any((i + 1) % n in lost for i in lost)
        else:
            covered = len(lost) <= (wish.set_failures if wish.copy_type == "RS" else 1)
        if covered:
            yield lost


def all_of(n: int) -> list[tuple[int, ...]]:
    return [lost for count in range(1, n + 1) for lost in combinations(range(n), count)]


@pytest.mark.parametrize("wish", [XOR, PARTNER, RS2, RS3], ids=str)
def test_what_is_within_bounds_comes_back_and_what_is_not_is_told(tmp_path, wish):
    """Every combination of lost ranks; nothing is touched by one that is too many."""
    n = 5
    world = World(tmp_path / "world", wish, LARGE[:n])
    world.encode()
    before = world.snapshot()
    covered = set(within(wish, n))
    aside = tmp_path / "aside"
    for lost in all_of(n):
        shutil.copytree(world.base, aside)
        for rank in lost:
            world.wipe(rank)
        left = world.snapshot()
        answers = world.rebuild()
        if lost in covered:
            assert answers == [None] * n, lost
            assert world.snapshot() == before, lost
        else:
            assert [type(answer) for answer in answers] == [UnrecoverableError] * n, lost
            assert len({str(answer) for answer in answers}) == 1
            assert world.snapshot() == left, lost
            shutil.rmtree(world.base)
            os.rename(aside, world.base)
        shutil.rmtree(aside, ignore_errors=True)
    assert covered


@pytest.mark.parametrize("seed", range(12))
def test_any_group_comes_back_from_any_loss_within_bounds(tmp_path, seed):
    rng = random.Random(seed)
    n = rng.randint(2, 9)
    wish = rng.choice([XOR, PARTNER, RS2, RS3, Wish("RS", 8, rng.randint(2, 8))])
    if wish.copy_type == "RS":
        n = max(n, wish.set_failures + 1)
    sizes = [
        [rng.choice((0, 1, 63, 64, rng.randrange(5000))) for _ in range(rng.randrange(4))]
        for _ in range(n)
    ]
    world = World(tmp_path, wish, sizes, piece=rng.choice((1, 100, 4096, 1 << 20)) * 3)
    world.encode()
    before = world.snapshot()
    lost = rng.choice(list(within(wish, n)))
    for rank in lost:
        world.wipe(rank)
    assert world.rebuild() == [None] * n
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


@pytest.mark.parametrize("wish", [XOR, PARTNER, RS2], ids=str)
@pytest.mark.parametrize("spoil", [spoil_size, spoil_file, spoil_link, spoil_length, spoil_header])
def test_each_kind_of_loss(tmp_path, wish, spoil):
    world = World(tmp_path, wish)
    world.encode()
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
    world = World(tmp_path, Wish("SINGLE", 8))
    world.encode()
    before = world.snapshot()
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before
    world.wipe(0)
    assert [type(answer) for answer in world.rebuild()] == [UnrecoverableError] * 4


EACH = pytest.mark.parametrize("wish", [XOR, PARTNER, RS2], ids=str)


@EACH
def test_a_place_that_cannot_be_written_is_an_error_that_may_pass(tmp_path, wish):
    world = World(tmp_path, wish)
    world.encode()
    before = world.snapshot()
    os.unlink(world.file(3, 0))
    os.makedirs(f"{world.file(3, 0)}/in the way")
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[0]).startswith("rank 3 on node3: finishing rebuilt files: ")
    shutil.rmtree(world.file(3, 0))
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


@pytest.mark.parametrize(("wish", "lost"), [(XOR, (3,)), (PARTNER, (1,)), (RS2, (1, 3))], ids=str)
def test_a_survivor_that_cannot_be_read_is_an_error_that_may_pass(
    tmp_path, monkeypatch, wish, lost
):
    from scrjob.redundancy import logical

    world = World(tmp_path, wish)
    world.encode()
    before = world.snapshot()
    for rank in lost:
        world.wipe(rank)
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
    for rank in lost:
        assert os.listdir(world.place(rank).dataset) == [".scr"]  # nothing to be taken for data
        assert os.listdir(world.place(rank).path("")) == []
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
    header = read_header(world.typed(2))  # describes rank 1
    member = header.members[1]
    forged = member._replace(files=(member.files[0]._replace(path=precious),))
    world.rewrite(2, header._replace(members={**header.members, 1: forged}))
    world.wipe(1)
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert "is no place in" in str(answers[0])
    with open(precious, "rb") as file:
        assert file.read() == b"gold"


@EACH
def test_encoding_that_cannot_be_written_is_an_error_everywhere_and_stays_marked(tmp_path, wish):
    world = World(tmp_path, wish)
    kind = wish.copy_type.lower()
    os.makedirs(f"{world.place(1).path('')}reddesc.er.1.{kind}.grp_1_of_1.mem_2_of_4.redset.part/x")
    answers = world.encode(any_end=True)
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[0]).startswith("rank 1 on node1: writing redundancy data: ")
    for rank in range(4):
        assert not er.is_encoded(kvtree.read(world.place(rank).path("reddesc.er.er")))


@EACH
def test_data_that_cannot_be_read_while_encoding_is_an_error_everywhere(
    tmp_path, monkeypatch, wish
):
    from scrjob.redundancy import logical

    world = World(tmp_path, wish)
    real = logical.read_exactly

    def refuse(fd: int, offset: int, view: memoryview, path: str) -> None:
        if path == world.file(3, 1) and offset > 100:
            raise OSError(5, "Input/output error", path)
        real(fd, offset, view, path)

    monkeypatch.setattr(logical, "read_exactly", refuse)
    answers = world.encode(any_end=True)
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert str(answers[0]).startswith("rank 3 on node3: writing redundancy data: ")
    for rank in range(4):
        assert not er.is_encoded(kvtree.read(world.place(rank).path("reddesc.er.er")))
        assert not [n for n in os.listdir(world.place(rank).path("")) if n.endswith(".part")]


def test_extra_descriptions_as_scr_leaves_them_do_no_harm(world: World):
    """Quirk of SCR's rebuild in place: the rebuilt header describes the right neighbour, too."""
    before = world.snapshot()
    headers = world.headers()
    more = {**headers[1].members, 2: headers[2].members[2]}
    world.rewrite(1, headers[1]._replace(members=more))
    world.wipe(2)
    assert world.rebuild() == [None] * 4
    world.wipe(1)
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (3,), (0, 2), (1, 3)])
def test_two_ranks_in_a_header_as_scr_leaves_them_do_no_harm(tmp_path, lost):
    """Quirk of SCR's rebuild in place of PARTNER: RANK has the source's number, too."""
    world = World(tmp_path, PARTNER)
    world.encode()
    before = world.snapshot()
    tree = redset_header.encode(world.headers()[0])
    tree.add("RANK", 3)
    with open(world.typed(0), "rb") as file:
        _, start = kvtree.read_image(file)
        file.seek(start)
        payload = file.read()
    with open(world.typed(0), "wb") as file:
        file.write(kvtree.encode(tree) + payload)
    changed = world.snapshot()
    for rank in lost:
        world.wipe(rank)
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == (before if 0 in lost else changed)


def test_of_itself_a_member_knows_best(tmp_path):
    """What a neighbour's header says of a member that is there does not count."""
    world = World(tmp_path, RS2)
    world.encode()
    original = world.snapshot()
    header = world.headers()[0]  # describes rank 3 too, as does that of rank 1
    member = header.members[3]
    forged = member._replace(files=member.files[::-1])
    world.rewrite(0, header._replace(members={**header.members, 3: forged}))
    changed = world.snapshot()
    world.wipe(1)
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == changed
    world.wipe(0)
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == original


def test_a_group_that_no_machine_has_counts_as_lost(world: World):
    header = world.headers()[1]
    many = 1 << 21
    members = {
        i: member._replace(descriptor=member.descriptor._replace(ranks=many))
        for i, member in header.members.items()
    }
    world.rewrite(1, header._replace(members=members))
    os.rename(world.typed(1), world.typed(1).replace("_of_4.", f"_of_{many}."))
    with pytest.raises(FormatError, match="impossible group"):
        read_header(world.typed(1))


@pytest.mark.parametrize(("ranks", "change"), [((0,), -1), ((0,), 1), ((0, 1, 2, 3), -1)])
def test_headers_that_cannot_be_right_are_no_reason_to_compute(tmp_path, ranks, change):
    """The size of chunks differs, or is too small for the files."""
    world = World(tmp_path, RS2)
    world.encode()
    for rank in ranks:
        header = world.headers()[rank]
        world.rewrite(rank, header._replace(chunk_bytes=header.chunk_bytes + change))
        size = os.path.getsize(world.typed(rank))
        os.truncate(world.typed(rank), size + 2 * change)  # as long as that header says
    world.wipe(2)
    left = world.snapshot()
    answers = world.rebuild()
    assert [type(answer) for answer in answers] == [ScrError] * 4
    assert "expected chunks of" in str(answers[0])
    assert world.snapshot() == left


@pytest.mark.parametrize("parity", [0, 4, 300])
def test_an_impossible_group_counts_as_lost(tmp_path, parity):
    world = World(tmp_path, RS2)
    world.encode()
    before = world.snapshot()
    header = world.headers()[1]
    own = header.members[1]
    forged = own._replace(descriptor=own.descriptor._replace(parity=parity))
    world.rewrite(1, header._replace(members={**header.members, 1: forged}))
    with pytest.raises(FormatError, match="impossible group"):
        read_header(world.typed(1))
    assert world.rebuild() == [None] * 4
    assert world.snapshot() == before


def test_a_file_that_vanished_before_encoding(tmp_path):
    world = World(tmp_path)
    os.unlink(world.file(3, 1))
    answers = world.encode(any_end=True)
    assert "rank 3 on node3: reading the files to be protected" in str(answers[0])


def test_other_names_are_no_redundancy_files(tmp_path):
    path = tmp_path / "reddesc.er.1.redset"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="no name of a redundancy file"):
        read_header(str(path))
