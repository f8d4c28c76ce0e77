# SPDX-License-Identifier: BSD-3-Clause
"""From cache to prefix."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from clientworld import ClientWorld, Rank, read_back, write
from scrjob.client.session import Session
from scrjob.formats import kvtree, paths, rank2file, summary


def several(session: Session, rank: Rank) -> None:
    for number in range(1, 8):
        write(session, rank, f"ckpt.{number}")


def test_every_nth_checkpoint_and_the_last_one_are_flushed(world: ClientWorld):
    world.run(several, SCR_FLUSH="3", SCR_CACHE_SIZE="2")
    assert world.index().ids() == [3, 6, 7]
    assert world.index().current() == "ckpt.7"
    for number in (3, 6, 7):
        for rank in range(2):
            with open(f"{world.prefix}/ckpt.{number}/rank_{rank}.dat", "rb") as file:
                assert file.read() == f"ckpt.{number} of {rank}\n".encode() * 100 * (1 - rank)
    log = world.log()
    assert log.index("HALT") < len(log) - 1 - log[::-1].index("FLUSH_START")


def test_zero_means_never_and_not_at_the_end_either(world: ClientWorld):
    world.run(several, SCR_FLUSH="0")
    assert not os.path.exists(paths.index_file(world.prefix))
    assert world.flush()[7].locations == ("CACHE",)


def test_a_flushed_dataset_is_described_for_a_fetch(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"), SCR_FLUSH="1", ranks=3)
    found = summary.parse(kvtree.read(paths.summary_file(world.prefix, 1)))
    assert (found.complete, found.version, found.name) == (True, 6, "ckpt.1")
    table = rank2file.read(paths.rank2file(world.prefix, 1))
    assert table.ranks == 3
    assert rank2file.files(table.entries[2]) == ["ckpt.1/rank_2.dat"]
    assert set(world.flush()[1].locations) == {"CACHE", "PFS"}
    assert world.index().entry(1).descriptor.complete


def test_mode_and_times_go_with_the_file(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        path = session.route_file(rank.name("ckpt.1"))
        open(path, "wb").close()
        os.chmod(path, 0o640)
        os.utime(path, ns=(1_000_000_007, 2_000_000_009))
        session.complete_output(True)

    world.run(program, ranks=1, SCR_FLUSH="1")
    status = os.stat(f"{world.prefix}/ckpt.1/rank_0.dat")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 2_000_000_009)


def test_a_flush_that_fails_leaves_the_checkpoint_in_cache_for_another_try(
    world: ClientWorld, caplog
):
    def program(session: Session, rank: Rank) -> list[bool]:
        first = write(session, rank, "ckpt.1")
        rank.comm.barrier()
        if rank.number == 0:
            os.unlink(f"{world.prefix}/ckpt.1")
        rank.comm.barrier()
        return [first]

    with open(f"{world.prefix}/ckpt.1", "wb"):
        pass  # in the way of the directory
    assert world.run(program, SCR_FLUSH="1") == [[True], [True]]
    log = world.log()
    assert log.index("FLUSH_FAIL") < log.index("HALT") < log.index("FLUSH_SUCCESS")
    assert "stays in cache only" in caplog.text
    assert world.index().current() == "ckpt.1"
    assert set(world.flush()[1].locations) == {"CACHE", "PFS"}


def test_a_failed_flush_does_not_make_the_current_checkpoint_worse(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        write(session, rank, "ckpt.1")
        rank.comm.barrier()
        open(f"{world.prefix}/ckpt.2", "wb").close()
        rank.comm.barrier()
        write(session, rank, "ckpt.2")

    world.run(program, SCR_FLUSH="1")
    assert world.index().current() == "ckpt.1"
    assert not world.index().entry(2).complete
    shutil.rmtree(world.shm)
    assert world.run(read_back) == ["ckpt.1"] * 2


def test_a_checkpoint_that_is_flushed_late_does_not_become_the_current_one(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        rank.comm.barrier()
        if rank.number == 0:
            open(f"{world.prefix}/ckpt.1", "wb").close()  # in the way of the first flush
        rank.comm.barrier()
        write(session, rank, "ckpt.1", is_output=True)
        rank.comm.barrier()
        if rank.number == 0:
            os.unlink(f"{world.prefix}/ckpt.1")
        rank.comm.barrier()
        write(session, rank, "ckpt.2", is_output=True)
        assert world.index().current() == "ckpt.2"

    world.run(program, SCR_CACHE_SIZE="2")  # the end flushes what is left
    assert world.index().entry(1).complete
    assert world.index().current() == "ckpt.2"


def test_output_that_is_a_checkpoint_is_flushed_once(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "both", is_output=True), SCR_FLUSH="1")
    assert world.log().count("FLUSH_START") == 1
    assert world.index().current() == "both"


def test_flush_on_restart(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"))
    world.run(read_back, SCR_FLUSH_ON_RESTART="1")
    assert world.index().current() == "ckpt.1"


def test_flush_on_restart_leaves_alone_what_is_flushed(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"), SCR_FLUSH="1")
    world.run(read_back, SCR_FLUSH_ON_RESTART="1")
    assert world.log().count("FLUSH_START") == 1


def test_drop_and_current(world: ClientWorld):
    world.run(several, SCR_FLUSH="3")

    def program(session: Session, rank: Rank) -> None:
        session.current("ckpt.3")
        session.current("no such")
        session.drop("ckpt.6")

    world.run(program)
    assert world.index().current() == "ckpt.3"
    assert world.index().ids() == [3, 7]


def test_current_can_drop_what_is_later(world: ClientWorld):
    world.run(several, SCR_FLUSH="3")
    world.run(lambda s, _: s.current("ckpt.3"), SCR_DROP_AFTER_CURRENT="1")
    assert world.index().ids() == [3]


@pytest.mark.parametrize("size", ["1", "7", "1MB"])
def test_any_buffer_size_copies_the_same(world: ClientWorld, size):
    world.run(lambda s, r: write(s, r, "ckpt.1"), SCR_FLUSH="1", SCR_FILE_BUF_SIZE=size)
    shutil.rmtree(world.shm)
    assert world.run(read_back, SCR_FILE_BUF_SIZE=size) == ["ckpt.1"] * 2


def test_a_flush_file_that_cannot_be_written_does_not_cost_the_cached_checkpoint(
    world: ClientWorld, caplog
):
    def program(session: Session, rank: Rank) -> list[bool]:
        write(session, rank, "ckpt.1")
        rank.comm.barrier()
        if rank.number == 0:
            os.unlink(paths.flush_file(world.prefix))
            os.mkdir(paths.flush_file(world.prefix))
        rank.comm.barrier()
        return [write(session, rank, "ckpt.2"), write(session, rank, "ckpt.3")]

    assert world.run(program) == [[True, True]] * 2
    assert "is cached, but not in the flush file" in caplog.text
    os.rmdir(paths.flush_file(world.prefix))
    assert world.run(read_back) == ["ckpt.3"] * 2
    assert world.flush()[3].name == "ckpt.3"
