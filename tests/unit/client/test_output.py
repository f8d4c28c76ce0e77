# SPDX-License-Identifier: BSD-3-Clause
"""Writing datasets: what is where afterwards, and that a failed one leaves the others alone."""

from __future__ import annotations

import os
import stat

import pytest

from clientworld import ClientWorld, Rank, read_back, write
from scrjob.client.session import Session
from scrjob.errors import ScrError, UsageError
from scrjob.formats import cindex, er, filemap, kvtree


def test_a_checkpoint_is_cached_encoded_and_listed(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"), ranks=3)
    directory = f"{world.cache}/scr.dataset.1"
    tree = world.cindex()
    entry = cindex.datasets(tree)[1]
    assert (entry.path, entry.is_bypass) == (directory, False)
    details = entry.details
    assert (details.name, details.ckpt, details.files, details.complete) == ("ckpt.1", 1, 3, True)
    assert details.size_bytes == sum(len(f"ckpt.1 of {r}\n") * 100 * (2 - r) for r in range(3))
    assert (details.user, details.job_id, details.is_ckpt) == ("alice", "77", True)
    listed = world.flush()[1]
    assert (listed.name, listed.locations, listed.is_ckpt, listed.is_output) == (
        "ckpt.1",
        ("CACHE",),
        True,
        False,
    )
    assert listed.descriptor == entry.descriptor
    for name in ("reddesc", "reddescmap"):
        assert er.is_encoded(kvtree.read(f"{directory}/.scr/{er.state_name(name)}"))
        owned = er.parse_shuffile(kvtree.read(f"{directory}/.scr/{er.shuffile_name(name)}"))
        assert sorted(owned) == [0, 1, 2]
        assert all(len(paths) == 3 and all(map(os.path.exists, paths)) for paths in owned.values())
    assert kvtree.read(f"{world.prefix}/.scr/nodes.scr").integer("NODES") == 1
    assert os.path.getsize(f"{world.prefix}/.scr/app.conf") == 0


def test_a_filemap_says_where_the_file_belongs_and_what_it_is(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"))
    directory = f"{world.cache}/scr.dataset.1"
    ((path, meta),) = filemap.parse(kvtree.read(f"{directory}/.scr/filemap_0")).items()
    assert path == f"{directory}/rank_0.dat"
    assert (meta.complete, meta.ranks) == (True, 2)
    assert meta.orig == f"{world.prefix}/ckpt.1/rank_0.dat" == meta.destination
    status = os.stat(path)
    assert (meta.stat.size_bytes, meta.stat.mode) == (status.st_size, status.st_mode)
    assert meta.stat.mtime_ns == status.st_mtime_ns


def test_the_cache_is_private(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"))
    for path in (f"{world.shm}/alice", world.cache, f"{world.cache}/scr.dataset.1"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_an_open_dataset_has_incomplete_filemaps_and_is_listed_nowhere_else(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        path = session.route_file(rank.name("ckpt.1"))
        found = filemap.parse(
            kvtree.read(f"{world.cache}/scr.dataset.1/.scr/filemap_{rank.number}")
        )
        assert found[path].complete is False
        assert found[path].stat.size_bytes is None
        assert cindex.datasets(world.cindex())[1].details.complete is None
        assert 1 not in world.flush()
        rank.comm.barrier()
        open(path, "wb").close()
        assert session.complete_output(True)

    world.run(program)


def test_many_files_of_a_rank_do_not_write_the_filemap_each_time(world: ClientWorld, monkeypatch):
    written = []
    real = kvtree.write

    def count(path: str, tree: kvtree.KVTree, **options: int) -> None:
        written.append(os.path.basename(path))
        real(path, tree, **options)

    monkeypatch.setattr(kvtree, "write", count)
    names = [f"{world.prefix}/many/{number}" for number in range(300)]

    def program(session: Session, _rank: Rank) -> bool:
        session.start_output("many", is_ckpt=True, is_output=False)
        for name in names:
            open(session.route_file(name), "wb").close()
        return session.complete_output(True)

    assert world.run(program, ranks=1) == [True]
    assert written.count("filemap_0") < 12

    def restart(session: Session, _rank: Rank) -> list[str]:
        session.have_restart()
        session.start_restart()
        reads = []
        monkeypatch.setattr(kvtree, "read", lambda path: reads.append(path) or real_read(path))
        found = [os.path.basename(session.route_file(name)) for name in names]
        monkeypatch.setattr(kvtree, "read", real_read)
        session.complete_restart(True)
        assert len(reads) == 1
        return found

    real_read = kvtree.read
    assert world.run(restart, ranks=1) == [[os.path.basename(name) for name in names]]


def test_the_log_tells_the_life_of_a_checkpoint_in_order(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "ckpt.1"))
    assert world.log() == [
        *("START", "COMPUTE_START", "COMPUTE_END", "CHECKPOINT_START", "WRITE", "ENCODE"),
        *("CHECKPOINT_END", "CHECKPOINT", "COMPUTE_START", "HALT"),
    ]
    written = world.records()[4]
    assert (written["from"], written["to"]) == (world.shm, f"{world.cache}/scr.dataset.1")
    assert (written["dset"], written["name"], written["files"]) == (1, "ckpt.1", 2)


def test_output_is_flushed_at_once_and_has_labels_of_its_own(world: ClientWorld):
    world.run(lambda s, r: write(s, r, "out.1", is_ckpt=False, is_output=True))
    assert world.log() == [
        *("START", "COMPUTE_START", "OUTPUT_START", "WRITE", "ENCODE", "OUTPUT_END", "OUTPUT"),
        *("FLUSH_START", "FLUSH_SUCCESS", "FLUSH_SYNC", "HALT"),
    ]
    assert world.flush()[1].locations == ("PFS", "CACHE")
    entry = world.index().entry(1)
    assert entry.complete
    assert not entry.descriptor.is_ckpt
    assert world.index().current() is None


def test_a_program_that_could_not_write_loses_that_dataset_only(world: ClientWorld):
    def program(session: Session, rank: Rank) -> list[bool]:
        return [
            write(session, rank, "ckpt.1"),
            write(session, rank, "ckpt.2", valid=rank.number != 1),
            write(session, rank, "ckpt.3"),
        ]

    assert world.run(program, SCR_CACHE_SIZE="3") == [[True, False, True]] * 2
    assert world.cached() == [1, 3]
    assert sorted(world.flush()) == [1, 3]
    assert sorted(cindex.datasets(world.cindex())) == [1, 3]


def test_a_file_that_was_never_written_makes_the_dataset_invalid_on_all_ranks(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        path = session.route_file(rank.name("ckpt.1"))
        if rank.number != 0:
            open(path, "wb").close()
        return session.complete_output(True)

    assert world.run(program) == [False, False]
    assert world.cached() == []


def test_a_link_in_place_of_a_file_is_refused(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        os.symlink("/etc/passwd", session.route_file(rank.name("ckpt.1")))
        return session.complete_output(True)

    assert world.run(program) == [False, False]


def test_a_rank_without_files_has_an_empty_filemap(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        if rank.number == 0:
            open(session.route_file(rank.name("ckpt.1")), "wb").close()
        return session.complete_output(True)

    assert world.run(program) == [True, True]
    assert os.path.getsize(f"{world.cache}/scr.dataset.1/.scr/filemap_1") == 28


def test_the_same_base_name_on_two_ranks_of_a_node_is_told_not_overwritten(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        with open(session.route_file(f"{world.prefix}/ckpt.1/{rank.number}/state"), "wb") as file:
            file.write(b"x")
        return session.complete_output(True)

    assert world.run(program) == [False, False]


def test_the_same_file_of_two_ranks_is_told_wherever_they_run(world: ClientWorld, caplog):
    """On two nodes both are in cache; in the prefix one would overwrite the other."""

    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        path = session.route_file(f"{world.prefix}/ckpt.1/state")
        if rank.number == 0:
            open(path, "wb").close()
        return session.complete_output(True)

    assert world.run(program, hosts=["node1", "node2"]) == [False, False]
    assert "another rank writes this file too" in caplog.text


def test_in_bypass_mode_files_are_durable_before_they_are_called_complete(
    world: ClientWorld, monkeypatch
):
    synced = []
    real = os.fsync

    def sync(fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        if name.startswith("rank_") or "summary" in name:
            synced.append(name)
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    world.run(lambda s, r: write(s, r, "ckpt.1"), SCR_CACHE_BYPASS="1")
    assert sorted(synced[:2]) == ["rank_0.dat", "rank_1.dat"]
    assert "summary" in synced[2]


def test_the_same_base_name_twice_on_a_rank_is_an_error(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        session.route_file(f"{world.prefix}/a/state")
        session.route_file(f"{world.prefix}/a/state")  # again is fine
        with pytest.raises(UsageError, match="another file of this dataset is called 'state'"):
            session.route_file(f"{world.prefix}/b/state")
        session.complete_output(False)

    world.run(program, ranks=1)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "", "dir/", "a\0b", "."])
def test_names_outside_of_the_prefix_and_no_names_are_refused(world: ClientWorld, name):
    def program(session: Session, rank: Rank) -> None:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        with pytest.raises(UsageError):
            session.route_file(name)
        session.complete_output(False)

    world.run(program, ranks=1)


def test_relative_names_start_at_the_current_directory(world: ClientWorld, monkeypatch):
    os.makedirs(f"{world.prefix}/sub")
    monkeypatch.chdir(f"{world.prefix}/sub")

    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=True)
        with open(session.route_file("../here/a b'\"\n"), "wb") as file:
            file.write(b"x")
        return session.complete_output(True)

    assert world.run(program, ranks=1) == [True]
    assert os.listdir(f"{world.prefix}/here") == ["a b'\"\n"]


def test_a_prefix_that_is_a_link_takes_names_by_either_way(world: ClientWorld, monkeypatch):
    link = f"{world.base}/link with blanks"
    os.symlink(world.prefix, link)
    monkeypatch.chdir(world.prefix)

    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=True)
        for name in ("a", f"{link}/b", f"{world.prefix}/c"):
            open(session.route_file(name), "wb").close()
        return session.complete_output(True)

    assert world.run(program, ranks=1, SCR_PREFIX=link) == [True]
    assert {"a", "b", "c"} <= set(os.listdir(world.prefix))


def test_the_old_checkpoint_goes_only_after_the_new_one_is_protected(world: ClientWorld):
    """With SCR_CACHE_SIZE=1 the C library would delete it before."""

    def program(session: Session, rank: Rank) -> list[list[int]]:
        seen = []
        write(session, rank, "ckpt.1")
        session.start_output("ckpt.2", is_ckpt=True, is_output=False)
        seen.append((world.cached(), sorted(world.flush())))
        rank.comm.barrier()
        open(session.route_file(rank.name("ckpt.2")), "wb").close()
        session.complete_output(True)
        seen.append((world.cached(), sorted(world.flush())))
        return seen

    assert world.run(program)[0] == [([1, 2], [1]), ([2], [2])]


def test_a_failed_checkpoint_does_not_cost_the_last_good_one(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        write(session, rank, "ckpt.1")
        write(session, rank, "ckpt.2", valid=False)

    world.run(program)
    assert world.cached() == [1]
    assert list(world.flush()) == [1]


def test_the_oldest_goes_first_and_pure_output_never_pushes_the_checkpoint_out(world: ClientWorld):
    def program(session: Session, rank: Rank) -> list[list[int]]:
        seen = []
        for number, is_ckpt in enumerate((True, True, True, False, False), 1):
            write(session, rank, f"d.{number}", is_ckpt=is_ckpt, is_output=not is_ckpt)
            rank.comm.barrier()
            seen.append(world.cached())
            rank.comm.barrier()
        return seen

    assert world.run(program, SCR_CACHE_SIZE="2")[0] == [[1], [1, 2], [2, 3], [3, 4], [3, 5]]


def test_bypass_writes_to_the_prefix_and_lists_the_dataset_at_once(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        entry = world.index().entry(1)
        assert (entry.complete, entry.descriptor.name) == (False, "ckpt.1")
        path = session.route_file(rank.name("ckpt.1"))
        assert path == rank.name("ckpt.1")
        with open(path, "wb") as file:
            file.write(rank.content("ckpt.1"))
        return session.complete_output(True)

    assert world.run(program, SCR_CACHE_BYPASS="1") == [True, True]
    assert world.index().entry(1).complete
    assert world.index().current() == "ckpt.1"
    names = os.listdir(f"{world.cache}/scr.dataset.1/.scr")
    assert not [name for name in names if name.startswith("reddesc.")]
    assert [name for name in names if name.startswith("reddescmap.")]
    assert cindex.datasets(world.cindex())[1].is_bypass
    assert world.log().index("CHECKPOINT") < world.log().index("FLUSH_SUCCESS")


def test_a_file_that_all_ranks_write_is_listed_once(world: ClientWorld):
    def program(session: Session, rank: Rank) -> bool:
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        path = session.route_file(f"{world.prefix}/ckpt.1/shared")
        with open(path, "ab") as file:
            file.write(b"x")
        rank.comm.barrier()
        return session.complete_output(True)

    assert world.run(program, ranks=3, SCR_CACHE_BYPASS="1") == [True] * 3
    details = world.index().entry(1).descriptor
    assert (details.files, details.size_bytes) == (1, 3)


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_a_dataset_needs_a_name(world: ClientWorld, name):
    def program(session: Session, rank: Rank) -> str:
        if name:
            with pytest.raises(ScrError):
                session.start_output(name, is_ckpt=True, is_output=False)
            return ""
        found = session.start_output(name, is_ckpt=True, is_output=False)
        session.complete_output(False)
        return found

    assert world.run(program, ranks=2) == ["" if name else "scr.dataset.1"] * 2


def test_ranks_that_disagree_on_the_name_are_told(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        with pytest.raises(UsageError, match=r"rank 1 on node1: .*do not agree"):
            session.start_output(f"ckpt.{rank.number}", is_ckpt=True, is_output=False)
        write(session, rank, "after")

    world.run(program)


def test_calls_out_of_order_are_told(world: ClientWorld):
    def program(session: Session, rank: Rank) -> None:
        for call in (
            session.complete_output,
            session.complete_restart,
            session.start_restart,
            lambda: session.route_file("x"),
        ):
            with pytest.raises(UsageError):
                call()
        session.start_output("ckpt.1", is_ckpt=True, is_output=False)
        for call in (
            session.need_checkpoint,
            session.have_restart,
            session.start_restart,
            lambda: session.start_output("x", is_ckpt=True, is_output=False),
        ):
            with pytest.raises(UsageError, match="complete_output comes first"):
                call()
        session.complete_output(False)

    world.run(program, ranks=1)


def test_finalize_gives_up_an_output_that_was_never_completed(world: ClientWorld):
    world.run(lambda s, _: s.start_output("ckpt.1", is_ckpt=True, is_output=False))
    assert world.cached() == []
    assert world.halt().reason == "SCR_FINALIZE_CALLED"


def test_names_with_quotes_and_odd_bytes_survive(world: ClientWorld):
    name = "a \"b'\n\udcff,=x"

    def program(session: Session, rank: Rank) -> object:
        if rank.world.log().count("START") == 1:
            return write(session, rank, name)
        return read_back(session, rank)

    assert world.run(program) == [True, True]
    assert world.run(program) == [name, name]
