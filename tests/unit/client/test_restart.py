# SPDX-License-Identifier: BSD-3-Clause
"""Restarting from cache and from the prefix, on storage that nobody has lost."""

from __future__ import annotations

import os
import shutil

import pytest

from clientworld import ClientWorld, Rank, read_back, write
from scrjob.client.session import Session
from scrjob.errors import DatasetError, ScrError
from scrjob.formats import cindex, er, flush, kvtree, paths


def two(session: Session, rank: Rank) -> None:
    write(session, rank, "ckpt.1")
    write(session, rank, "ckpt.2")


def test_a_fresh_start_has_nothing_to_restart_from(world: ClientWorld):
    assert world.run(read_back) == [None, None]
    assert "REBUILD_START" not in world.log()


def test_a_restart_takes_the_newest_in_cache_and_goes_on_counting(world: ClientWorld):
    world.run(two, SCR_CACHE_SIZE="2")

    def program(session: Session, rank: Rank) -> object:
        found = read_back(session, rank)
        write(session, rank, "ckpt.3")
        return found

    assert world.run(program, SCR_CACHE_SIZE="2") == ["ckpt.2"] * 2
    assert world.cached() == [2, 3]
    assert cindex.datasets(world.cindex())[3].details.ckpt == 3
    log = world.log()[world.log().index("HALT") + 1 :]
    assert log[:6] == [
        *("START", "REBUILD_START", "REBUILD_SUCCESS", "REBUILD_START", "REBUILD_SUCCESS"),
        "RESTART_SUCCESS",
    ]
    assert "FETCH_START" not in log
    done = next(record for record in world.records() if record["label"] == "RESTART_SUCCESS")
    assert done["dset"] == 2


def test_a_dataset_that_was_open_when_the_program_died_is_removed_without_a_word(
    world: ClientWorld,
):
    def dies(session: Session, rank: Rank) -> None:
        write(session, rank, "ckpt.1")
        session.start_output("ckpt.2", is_ckpt=True, is_output=False)
        open(session.route_file(rank.name("ckpt.2")), "wb").close()
        raise KeyError  # as if it were killed: no finalize

    world.run_any(dies)
    assert world.cached() == [1, 2]
    assert world.run(read_back) == ["ckpt.1"] * 2
    assert world.cached() == [1]
    assert world.log().count("REBUILD_START") == 1


def test_an_encoding_that_never_ended_is_not_taken(world: ClientWorld):
    world.run(two, SCR_CACHE_SIZE="2")
    state = f"{world.cache}/scr.dataset.2/.scr/{er.state_name('reddesc')}"
    kvtree.write(state, er.build_state(er.STATE_CORRUPT))
    assert world.run(read_back, SCR_CACHE_SIZE="2") == ["ckpt.1"] * 2
    assert world.cached() == [1]
    assert world.log().count("REBUILD_FAIL") == 1


@pytest.mark.parametrize(
    "lost",
    ["rank_0.dat", ".scr/filemap_0", ".scr/reddesc.er.0.single.grp_1_of_2.mem_1_of_1.redset"],
)
def test_single_cannot_lose_anything(world: ClientWorld, lost):
    world.run(two, SCR_CACHE_SIZE="2")
    os.unlink(f"{world.cache}/scr.dataset.2/{lost}")
    assert world.run(read_back, SCR_CACHE_SIZE="2") == ["ckpt.1"] * 2
    assert list(world.flush()) == [1]


def test_a_file_of_another_size_is_lost(world: ClientWorld):
    world.run(two, SCR_CACHE_SIZE="2")
    with open(f"{world.cache}/scr.dataset.2/rank_0.dat", "ab") as file:
        file.write(b"x")
    assert world.run(read_back, SCR_CACHE_SIZE="2") == ["ckpt.1"] * 2


def test_when_all_is_lost_the_program_starts_afresh(world: ClientWorld):
    world.run(two)
    os.unlink(f"{world.cache}/scr.dataset.2/rank_0.dat")
    assert world.run(read_back) == [None, None]
    assert "RESTART_FAIL" in world.log()
    assert world.flush() == {}


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\x95\x1f\xc3\xf5" + b"\xff" * 40])
def test_a_damaged_cache_index_means_an_empty_cache(world: ClientWorld, damage):
    world.run(two)
    with open(f"{world.cache}/cindex.scrinfo", "wb") as file:
        file.write(damage)
    assert world.run(read_back) == [None, None]


def test_an_index_that_points_elsewhere_is_not_followed(world: ClientWorld):
    world.run(two)
    precious = world.base / "precious"
    precious.mkdir()
    tree = world.cindex()
    descriptor = cindex.datasets(tree)[2].descriptor
    for number, path in enumerate(
        (str(precious), f"{world.cache}/../../../precious", world.cache), 5
    ):
        cindex.put_dataset(tree, number, path=path, is_bypass=False, descriptor=descriptor)
    kvtree.write(f"{world.cache}/cindex.scrinfo", tree)
    assert world.run(read_back) == ["ckpt.2"] * 2
    assert precious.exists()
    assert list(cindex.datasets(world.cindex())) == [2]


def test_a_lost_flush_file_is_filled_again_from_the_cache_index(world: ClientWorld):
    world.run(two)
    before = world.flush()
    os.unlink(paths.flush_file(world.prefix))
    world.run(read_back)
    assert world.flush() == before


def test_a_damaged_flush_file_is_made_anew(world: ClientWorld):
    world.run(two)
    with open(paths.flush_file(world.prefix), "wb") as file:
        file.write(b"garbage")
    assert world.run(read_back) == ["ckpt.2"] * 2
    assert world.flush()[2].name == "ckpt.2"


def test_states_of_a_flush_that_was_cut_off_are_taken_away(world: ClientWorld):
    world.run(two)
    tree = kvtree.read(paths.flush_file(world.prefix))
    flush.add_location(tree, 2, flush.SYNC_FLUSHING)
    flush.add_location(tree, 9, flush.CACHE)
    kvtree.write(paths.flush_file(world.prefix), tree)
    world.run(read_back)
    assert {number: entry.locations for number, entry in world.flush().items()} == {2: ("CACHE",)}


def test_another_number_of_ranks_never_deletes_the_only_copy(world: ClientWorld):
    world.run(two)
    answers = world.run_any(read_back, ranks=3)
    assert all(isinstance(answer, ScrError) for answer in answers)
    assert "is of 2 ranks, not 3, and this prefix directory does not have it" in str(answers[0])
    assert world.cached() == [2]
    assert world.run(read_back) == ["ckpt.2"] * 2


def test_another_number_of_ranks_drops_from_cache_what_the_prefix_has(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    assert world.run(read_back, ranks=3, SCR_FLUSH="1") == [None] * 3
    assert world.cached() == []
    entry = world.index().entry(2)
    assert entry.failed is None  # nothing is wrong with it: it is for two ranks
    assert world.run(read_back) == ["ckpt.2"] * 2


def test_a_checkpoint_of_another_simulation_is_neither_taken_nor_deleted(
    world: ClientWorld, tmp_path
):
    """Without a scheduler every run has one job id, and so one cache."""
    world.run(lambda s, r: write(s, r, "ckpt.1"))
    other = tmp_path / "other"
    other.mkdir()
    answers = world.run_any(lambda s, _: s.have_restart(), SCR_PREFIX=str(other))
    assert [type(answer) for answer in answers] == [ScrError] * 2
    assert "belongs elsewhere" in str(answers[0])
    assert "SCR_JOB_ID" in str(answers[0])
    link = tmp_path / "link"
    link.symlink_to(world.prefix)
    assert world.run(lambda s, _: s.have_restart(), SCR_PREFIX=str(link)) == ["ckpt.1"] * 2
    assert world.run(read_back) == ["ckpt.1"] * 2


def test_another_simulation_in_bypass_mode_starts_afresh(world: ClientWorld, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    world.run(lambda s, r: write(s, r, "ckpt.1"), SCR_CACHE_BYPASS="1")
    assert world.run(lambda s, _: s.have_restart(), SCR_PREFIX=str(other)) == [None] * 2
    assert world.run(read_back) == ["ckpt.1"] * 2  # a fetch


def test_purge_empties_the_cache(world: ClientWorld):
    world.run(two)
    assert world.run(read_back, SCR_CACHE_PURGE="1") == [None, None]
    assert world.cached() == []


def test_without_distribute_the_cache_is_not_used(world: ClientWorld):
    world.run(two)
    assert world.run(read_back, SCR_DISTRIBUTE="0") == [None, None]


def test_a_fetch_when_the_cache_is_gone(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)

    def program(session: Session, rank: Rank) -> object:
        found = read_back(session, rank)
        write(session, rank, "ckpt.3")
        return found

    assert world.run(program) == ["ckpt.2"] * 2
    log = world.log()
    assert log[log.index("FETCH_START") :][:4] == [
        "FETCH_START",
        "ENCODE",
        "FETCH_SUCCESS",
        "FETCH",
    ]
    assert len(world.index().entry(2).fetched) == 1
    assert cindex.datasets(world.cindex())[3].details.ckpt == 3


def test_a_fetched_dataset_is_in_cache_protected_and_known_as_flushed(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    world.run(read_back)
    entry = world.flush()[2]
    assert (set(entry.locations), entry.name, entry.is_ckpt) == ({"CACHE", "PFS"}, "ckpt.2", True)
    assert world.run(read_back) == ["ckpt.2"] * 2  # from cache this time
    assert world.log().count("FETCH_START") == 1


def test_fetch_bypass_reads_in_place(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)

    def program(session: Session, rank: Rank) -> str:
        session.have_restart()
        name = session.start_restart()
        path = session.route_file(rank.name(name))
        session.complete_restart(True)
        return path

    assert world.run(program, SCR_FETCH_BYPASS="1") == [
        f"{world.prefix}/ckpt.2/rank_{r}.dat" for r in range(2)
    ]
    assert not os.path.exists(f"{world.cache}/scr.dataset.2/rank_0.dat")
    assert world.run(read_back) == ["ckpt.2"] * 2


def test_without_fetch_the_prefix_is_not_used(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    assert world.run(read_back, SCR_FETCH="0") == [None, None]


def spoil_missing(world: ClientWorld) -> None:
    os.unlink(f"{world.prefix}/ckpt.2/rank_0.dat")


def spoil_size(world: ClientWorld) -> None:
    with open(f"{world.prefix}/ckpt.2/rank_1.dat", "ab") as file:
        file.write(b"more")


def spoil_summary(world: ClientWorld) -> None:
    os.unlink(paths.summary_file(world.prefix, 2))


def spoil_map(world: ClientWorld) -> None:
    with open(paths.rank2file(world.prefix, 2), "wb") as file:
        file.write(b"garbage")


def spoil_link(world: ClientWorld) -> None:
    os.unlink(f"{world.prefix}/ckpt.2/rank_0.dat")
    os.symlink("/etc/passwd", f"{world.prefix}/ckpt.2/rank_0.dat")


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_size, spoil_summary, spoil_map, spoil_link])
def test_a_damaged_checkpoint_in_the_prefix_is_marked_and_the_older_one_taken(
    world: ClientWorld, spoil
):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    spoil(world)
    assert world.run(read_back) == ["ckpt.1"] * 2
    index = world.index()
    assert index.entry(2).failed is not None
    assert index.current() == "ckpt.1"
    assert world.log().count("FETCH_FAIL") == 1


def test_a_cache_that_cannot_take_it_is_not_the_checkpoints_fault(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    os.makedirs(world.cache)

    def program(session: Session, rank: Rank) -> None:
        rank.comm.barrier()
        if rank.number == 0:
            os.chmod(world.cache, 0o700)
            open(f"{world.cache}/cindex.scrinfo", "ab").close()
            os.unlink(f"{world.cache}/cindex.scrinfo")
            os.mkdir(f"{world.cache}/cindex.scrinfo")
        rank.comm.barrier()
        with pytest.raises(ScrError, match="rank 0 on node1: writing the cache index"):
            session.have_restart()
        rank.comm.barrier()

    world.run_any(program)
    assert world.index().entry(2).failed is None


def test_a_damaged_index_is_an_error_and_is_left_alone(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    with open(paths.index_file(world.prefix), "wb") as file:
        file.write(b"garbage")
    answers = world.run_any(read_back)
    assert all(isinstance(answer, ScrError) and "index" in str(answer) for answer in answers)
    with open(paths.index_file(world.prefix), "rb") as file:
        assert file.read() == b"garbage"


def test_scr_current_chooses_once_in_a_job(world: ClientWorld):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    assert world.run(read_back, SCR_CURRENT="ckpt.1") == ["ckpt.1"] * 2
    assert world.index().current() == "ckpt.1"
    assert cindex.current(world.cindex()) == "ckpt.1"


def test_scr_current_with_an_unknown_name_is_told_and_passed_over(world: ClientWorld, caplog):
    world.run(two, SCR_FLUSH="1")
    shutil.rmtree(world.shm)
    assert world.run(read_back, SCR_CURRENT="no") == ["ckpt.2"] * 2
    assert "SCR_CURRENT=no: no such checkpoint" in caplog.text


def test_a_checkpoint_that_the_program_cannot_read_is_given_up_for_an_older_one(world: ClientWorld):
    world.run(two, SCR_CACHE_SIZE="2", SCR_FLUSH="1")

    def program(session: Session, rank: Rank) -> object:
        assert session.have_restart() == "ckpt.2"
        session.start_restart()
        assert session.complete_restart(rank.number != 1) is False
        return read_back(session, rank)

    assert world.run(program, SCR_CACHE_SIZE="2") == ["ckpt.1"] * 2
    assert world.cached() == [1]
    assert world.index().entry(2).failed is not None


def test_a_restart_knows_only_the_files_of_the_rank(world: ClientWorld):
    world.run(two)

    def program(session: Session, rank: Rank) -> None:
        session.have_restart()
        session.start_restart()
        with pytest.raises(DatasetError, match=r"no such file in ckpt\.2"):
            session.route_file(f"{world.prefix}/ckpt.2/other")
        assert session.route_file(f"{world.prefix}/elsewhere/rank_{rank.number}.dat") == (
            f"{world.cache}/scr.dataset.2/rank_{rank.number}.dat"
        )
        session.complete_restart(True)

    world.run(program)


def test_a_bypass_checkpoint_restarts_from_the_prefix_files(world: ClientWorld):
    world.run(two, SCR_CACHE_BYPASS="1", SCR_CACHE_SIZE="2")
    assert world.run(read_back, SCR_CACHE_SIZE="2") == ["ckpt.2"] * 2
    assert "FETCH_START" not in world.log()
    os.unlink(f"{world.prefix}/ckpt.2/rank_0.dat")
    assert world.run(read_back, SCR_CACHE_SIZE="2") == ["ckpt.1"] * 2


def test_the_newest_of_several_datasets_with_one_number_is_the_one(world: ClientWorld):
    """A node that was away comes back with an older dataset under a number that was used again."""
    from scrjob.client.cache import Cache
    from scrjob.client.layout import Layout
    from scrjob.client.team import Team
    from scrjob.formats import dataset
    from scrjob.formats.kvtree import KVTree
    from threadcomm import ThreadComm, run_all

    def program(comm: ThreadComm) -> list[object]:
        places = Layout(f"{world.base}/{comm.rank}", f"{world.base}/{comm.rank}")
        path = places.dataset(4)
        os.makedirs(path)
        created, complete = ((7, True), (9, True), (11, None))[comm.rank]
        details = dataset.Descriptor(4, "x", is_ckpt=True, created_us=created, complete=complete)
        tree = KVTree()
        cindex.put_dataset(tree, 4, path=path, is_bypass=False, descriptor=dataset.build(details))
        kvtree.write(places.cindex, tree)
        cache = Cache(Team(comm, f"n{comm.rank}"), places)
        cache.load()
        return [cache.datasets[4].details.created_us, os.path.exists(path)]

    assert run_all(3, program) == [[9, False], [9, True], [9, False]]


def test_files_of_one_base_name_are_read_where_they_are(world: ClientWorld):
    def writes(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        with open(session.route_file(f"{world.prefix}/c/{rank.number}/state"), "wb") as file:
            file.write(b"%d" % rank.number)
        return session.complete_output(True)

    def reads(session: Session, rank: Rank) -> bytes:
        assert session.have_restart() == "ckpt.1" == session.start_restart()
        with open(session.route_file(f"{world.prefix}/c/{rank.number}/state"), "rb") as file:
            content = file.read()
        session.complete_restart(True)
        return content

    assert world.run(writes, SCR_CACHE_BYPASS="1") == [True, True]
    shutil.rmtree(world.shm)
    assert world.run(reads) == [b"0", b"1"]
    assert cindex.datasets(world.cindex())[1].is_bypass
