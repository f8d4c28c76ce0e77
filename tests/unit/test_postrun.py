# SPDX-License-Identifier: BSD-3-Clause
"""postrun as a function: where ``current`` goes, and when the newest data counts as safe."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cachedworld import Cached, cached_job
from scripted_cluster import Cluster
from scrjob.cached import ask_what_is_held, not_in_flush_file
from scrjob.formats import flush, kvtree
from scrjob.formats.dataset import Descriptor, build
from scrjob.formats.index import Index
from scrjob.model import END_NO_LIMIT
from scrjob.postrun import Postrun, save_datasets


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / ".scr").mkdir()
    return Cluster(tmp_path, ["n1", "n2"], [])


def save(cluster: Cluster) -> Postrun:
    return save_datasets(cluster.jobenv(), [], None, [].append)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_current_only_moves_forward(cluster: Cluster, before: int, after: int) -> None:
    path = cluster.index(1, 2, 3, current=before)
    cluster.dataset(2)
    assert save(cluster).newest_safe
    assert Index.read(str(path)).current() == f"ckpt.{after}"


def test_output_that_is_lost_is_not_safe_whatever_the_checkpoints_are(cluster: Cluster) -> None:
    cluster.index(1)
    cluster.dataset(1)
    path = str(cluster.prefix / ".scr" / "flush.scr")
    tree = kvtree.read(path)
    about = Descriptor(2, "out.2", is_output=True, created_us=2, complete=True)
    flush.put_dataset(tree, 2, build(about))  # in cache, of which no node knows
    kvtree.write(path, tree)
    done = save(cluster)
    assert [(row.kind, row.safe) for row in done.datasets] == [
        ("output", False),
        ("checkpoint", True),
    ]
    assert not done.newest_safe


class Job:
    """Datasets in cache, and what became of them."""

    def __init__(self, cluster: Cluster, *datasets: Cached, **environ: str) -> None:
        self.cluster = cluster
        self.env, self.nodes = cached_job(cluster, datasets, **environ)
        self.said: list[str] = []

    def save(self) -> Postrun:
        return save_datasets(self.env, [], None, self.said.append, lambda _line: None)

    def current(self) -> str | None:
        return Index.read(str(self.cluster.prefix / ".scr/index.scr")).current()


def safe(done: Postrun) -> dict[int, bool]:
    return {row.dataset_id: row.safe for row in done.datasets}


def test_newest_checkpoint_first_then_outputs_and_no_older_checkpoint(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1), Cached(2, "output"), Cached(3), Cached(4, "output"))
    done = job.save()
    assert job.nodes.copies == [3, 2, 4]
    assert safe(done) == {2: True, 4: True, 3: True}
    assert done.newest_safe
    assert job.current() == "checkpoint.3"


def test_in_an_allocation_without_an_end_output_comes_first(cluster: Cluster) -> None:
    cluster.end = END_NO_LIMIT
    job = Job(cluster, Cached(1), Cached(2, "output"), Cached(3), Cached(4, "output"))
    assert job.save().newest_safe
    assert job.nodes.copies == [2, 4, 3]
    assert [line for line in job.said if line.startswith("Looking")] == [
        "Looking for output sets",
        "Looking for checkpoints",
    ]


def test_output_that_failed_needs_a_checkpoint_before_it(cluster: Cluster) -> None:
    """So that a restart makes it again: ``current`` is that one, although a newer one is safe."""
    job = Job(cluster, Cached(1), Cached(2), Cached(3, "output", lost=True), Cached(4))
    done = job.save()
    assert job.nodes.copies == [4, 3, 2]
    assert safe(done) == {4: True, 3: False, 2: True}
    assert not done.newest_safe
    assert job.current() == "checkpoint.2"


def test_older_checkpoint_if_the_newest_is_lost(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1), Cached(2), Cached(3, "output"), Cached(4, lost=True))
    done = job.save()
    assert job.nodes.copies == [4, 3, 2]
    assert safe(done) == {3: True, 4: False, 2: True}
    assert not done.newest_safe
    assert job.current() == "checkpoint.2"


def test_a_checkpoint_that_is_output_too_is_saved_once(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1), Cached(2, "checkpoint, output"))
    done = job.save()
    assert job.nodes.copies == [2]
    assert done.newest_safe
    assert job.current() == "checkpoint, output.2"


def test_what_there_is_no_time_for_is_left_out_and_said(cluster: Cluster) -> None:
    """100 bytes a second, as the newest checkpoint shows; 100 s are left after it."""
    cluster.end = int(cluster.clock.now()) + 200
    job = Job(
        cluster,
        Cached(1),
        Cached(2, "output", size=11_000, seconds=110.0),
        Cached(3, "output", size=2_000, seconds=20.0),
        Cached(4, size=10_000, seconds=100.0),
    )
    done = job.save()
    assert job.nodes.copies == [4, 3, 1]
    assert safe(done) == {2: False, 3: True, 4: True, 1: True}
    (row,) = [row for row in done.datasets if row.dataset_id == 2]
    why = "10.7 KiB need about 110 s at 100 B/s, 100 s are left"
    assert row.how == f"left out: {why}"
    assert f"output output.2 (dataset 2) is left out: {why}" in job.said
    assert not done.newest_safe
    assert job.current() == "checkpoint.1"  # from which output.2 is made again


def test_newest_checkpoint_is_tried_however_late(cluster: Cluster) -> None:
    cluster.end = int(cluster.clock.now()) - 5
    job = Job(cluster, Cached(1, "output"), Cached(2))
    done = job.save()
    assert job.nodes.copies == [2]
    assert safe(done) == {1: False, 2: True}
    assert "left out: the time of the allocation is over" in [row.how for row in done.datasets]


def test_what_has_lost_too_much_costs_no_time_of_what_can_be_had(cluster: Cluster) -> None:
    """Each of the two would take half of the time, and fail. They come last, for who knows."""
    cluster.end = int(cluster.clock.now()) + 200
    job = Job(
        cluster,
        Cached(1, seconds=30.0),
        Cached(2, "output", seconds=100.0, lost=True),
        Cached(3, "output", seconds=30.0),
        Cached(4, seconds=100.0, lost=True),
    )
    done = job.save()
    assert job.nodes.copies == [1, 3, 2, 4]
    assert safe(done) == {1: True, 2: False, 3: True, 4: False}
    assert not done.newest_safe
    assert job.current() == "checkpoint.1"
    assert "dataset 4 comes last: no node holds any file of it" in job.said


def test_what_was_wrongly_taken_for_lost_is_saved_and_current(cluster: Cluster) -> None:
    """A node did not answer the question in time."""
    cluster.end = int(cluster.clock.now()) + 200
    job = Job(cluster, Cached(1), Cached(2, "output"), Cached(3))
    job.nodes.datasets[3] = job.nodes.datasets[3]._replace(lost=True)
    asked = job.nodes._inspected
    held = {**job.nodes.datasets, 3: Cached(3)}

    def inspected(node: str) -> list[dict[str, Any]]:
        rows = asked(node)
        job.nodes.datasets = held
        return rows

    job.nodes._inspected = inspected  # type: ignore[method-assign]
    assert job.save().newest_safe
    assert job.nodes.copies == [1, 2, 3]
    assert job.current() == "checkpoint.3"


def test_without_an_end_nothing_is_left_out(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1, "output", size=10**6, seconds=1e6), Cached(2, seconds=50.0))
    assert job.save().newest_safe


def test_report_tells_time_bytes_and_rate(cluster: Cluster) -> None:
    """Lesson B14: what saving the data took is in the account at the end."""
    job = Job(cluster, Cached(2, size=5 << 20, seconds=5.0))
    (row,) = job.save().datasets
    assert row.how == "scavenged, 1 files, 5242880 bytes in 5.0 s, copied at 1.0 MiB/s"
    assert (row.seconds, row.bytes, row.copy_seconds) == (5.0, 5 << 20, 5.0)


def test_entries_that_a_second_start_lost_are_refilled_and_saved(cluster: Cluster) -> None:
    """The rebuild of the cache lists a dataset as being in cache and tells neither name nor kind."""
    job = Job(cluster, Cached(1), Cached(2))
    path = str(cluster.prefix / ".scr" / "flush.scr")
    tree = kvtree.KVTree()
    flush.add_location(tree, 2, flush.CACHE)
    kvtree.write(path, tree)
    done = job.save()
    assert job.nodes.copies == [2]
    assert done.newest_safe
    assert job.current() == "checkpoint.2"


def test_what_nodes_hold_and_the_prefix_does_not_know_is_not_safe(cluster: Cluster) -> None:
    """A prefix directory that is not the job's has no .scr: that is not a job without data."""
    job = Job(cluster, Cached(1, "output"), Cached(2))
    shutil.rmtree(cluster.prefix / ".scr")
    done = job.save()
    assert safe(done) == {1: False, 2: False}
    assert [row.kind for row in done.datasets] == ["output", "checkpoint"]
    assert not done.newest_safe
    path = cluster.prefix / ".scr" / "flush.scr"
    assert done.datasets[0].how == (
        f"{path} cannot be written: No such file or directory; "
        f"is {cluster.prefix} the prefix directory of this job?"
    )
    assert not path.parent.exists()


def test_what_the_index_or_the_flush_file_has_is_known(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1), Cached(2))
    job.save()
    held = ask_what_is_held(job.env, *job.env.dir_control(), nodes=["n1"])
    assert list(not_in_flush_file(job.env, held)) == []
    (cluster.prefix / ".scr" / "flush.scr").unlink()
    assert list(not_in_flush_file(job.env, held)) == [1]  # 2 is in the index


@pytest.mark.parametrize("stale", ["n1", "n2"])
def test_newer_of_two_datasets_of_one_number_is_the_one_that_is_refilled(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, stale: str
) -> None:
    """A node that was away holds one of an earlier restart: only the newer one is to be copied."""
    job = Job(cluster, Cached(2))
    rows = job.nodes._rows

    def answer(node: str) -> list[dict[str, Any]]:
        found = rows(node)
        if node == stale:
            old = kvtree.decode(bytes.fromhex(found[0]["descriptor"]))
            old.put("CREATED", 5)
            found[0]["descriptor"] = kvtree.encode(old).hex()
        return found

    monkeypatch.setattr(job.nodes, "_rows", answer)
    (cluster.prefix / ".scr" / "flush.scr").unlink()
    assert job.save().newest_safe
    assert job.nodes.argv[job.nodes.argv.index("--only-created") + 1] == "2000000"


def test_nodes_that_see_the_same_cache_copy_once(cluster: Cluster) -> None:
    """Lesson B5."""
    job = Job(cluster, Cached(1))
    job.nodes.token = lambda _node: "one"
    assert job.save().newest_safe
    assert job.nodes.copiers == [["n1"]]


def test_next_node_copies_a_shared_cache_if_the_first_does_not_answer(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1))
    job.nodes.token = lambda _node: "one"
    job.nodes.silent = {"n1"}
    assert job.save().newest_safe
    assert job.nodes.copiers == [["n1"], ["n2"]]


def test_old_checkpoints_go_when_a_newer_one_is_safe(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        job = Job(cluster, Cached(number), SCR_PREFIX_SIZE="2")
        assert job.save().newest_safe
    names = sorted(path.name for path in cluster.prefix.iterdir())
    assert names == [".scr", "d2", "d3"]
    assert Index.read(str(cluster.prefix / ".scr/index.scr")).ids() == [2, 3]
    assert "deleted checkpoint checkpoint.1 (dataset 1): the prefix keeps 2" in job.said


def test_bandwidth_is_divided_over_the_nodes(cluster: Cluster) -> None:
    job = Job(cluster, Cached(1), SCR_SCAVENGE_BW="10MB")
    assert job.save().newest_safe
    assert job.nodes.argv[job.nodes.argv.index("--bw") + 1] == str(5 << 20)
