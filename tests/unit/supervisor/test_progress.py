# SPDX-License-Identifier: BSD-3-Clause
"""The sources of progress, each for itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from scripted_cluster import Cluster
from scrjob.formats import flush, kvtree
from scrjob.supervisor.progress import OUTPUT_READ_BYTES, Datasets, Files, Output, sources


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / ".scr").mkdir()
    return Cluster(tmp_path, ["n1"], [])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    """An open file as a shell makes it for ``>> job.log``."""
    descriptor = os.open(tmp_path / "job.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def test_files_that_come_grow_are_touched_or_go_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "beat"
    files = Files("beats", [str(tmp_path / "other"), str(path)], named=True)
    assert not files.changed()
    for deed in (path.touch, lambda: path.write_text("x"), lambda: os.utime(path, (5, 5))):
        deed()
        assert files.changed()
        assert not files.changed()
    path.unlink()
    assert files.changed()


def test_a_new_dataset_of_the_flush_file_or_the_index_is_progress(cluster: Cluster) -> None:
    datasets = Datasets(str(cluster.prefix / ".scr"))
    assert (datasets.newest, datasets.changed()) == (0, False)
    cluster.dataset(1)
    assert datasets.changed()
    cluster.index(1)
    assert not datasets.changed()
    cluster.index(1, 2)
    assert datasets.changed()
    assert datasets.newest == 2


def test_what_is_there_at_the_start_is_known(cluster: Cluster) -> None:
    cluster.index(1, 7)
    datasets = Datasets(str(cluster.prefix / ".scr"))
    assert (datasets.newest, datasets.changed()) == (7, False)


@pytest.mark.parametrize("name", ["flush.scr", "index.scr"])
def test_a_file_that_cannot_be_read_is_read_again_without_a_change(
    cluster: Cluster, name: str
) -> None:
    """It is rewritten in place, and a clock's ticks are coarse."""
    cluster.dataset(1)
    cluster.index(1)
    path = cluster.prefix / ".scr" / name
    whole = path.read_bytes()
    path.write_bytes(b"x" * len(whole))
    os.utime(path, (5, 5))
    datasets = Datasets(str(cluster.prefix / ".scr"))
    path.write_bytes(whole)
    os.utime(path, (5, 5))
    datasets.changed()
    assert (datasets._flushed, datasets._indexed) == (1, 1)


def mark(cluster: Cluster, number: int, *, remove: bool = False) -> None:
    path = str(cluster.prefix / ".scr" / "flush.scr")
    tree = kvtree.read(path)
    change = flush.remove_location if remove else flush.add_location
    change(tree, number, flush.SYNC_FLUSHING)
    kvtree.write(path, tree)


def test_a_mark_that_a_former_run_left_counts_when_it_is_set_again(cluster: Cluster) -> None:
    cluster.dataset(1)
    cluster.dataset(2)
    mark(cluster, 1)
    datasets = Datasets(str(cluster.prefix / ".scr"))
    mark(cluster, 2)
    datasets.changed()
    assert datasets.flushing
    mark(cluster, 2, remove=True)
    datasets.changed()
    assert not datasets.flushing
    mark(cluster, 1, remove=True)
    datasets.changed()
    mark(cluster, 1)
    datasets.changed()
    assert datasets.flushing


def test_the_newest_dataset_may_be_flushed_again_at_the_start(cluster: Cluster) -> None:
    """Too long a limit is better than to end a run that writes all the time."""
    cluster.dataset(1)
    mark(cluster, 1)
    datasets = Datasets(str(cluster.prefix / ".scr"))
    assert not datasets.flushing
    os.utime(cluster.prefix / ".scr" / "flush.scr", (5, 5))
    datasets.changed()
    assert datasets.flushing


def test_output_that_grows_is_progress(log: int) -> None:
    output = Output((log,))
    assert output
    assert not output.changed()
    os.write(log, b"step 1\n")
    assert output.changed()
    assert not output.changed()


def test_our_own_lines_are_no_progress(log: int) -> None:
    """Else a supervisor that warns again and again would keep a hung program alive."""
    os.write(log, b"program: step 1\n")
    output = Output((log,))
    os.write(log, b"scr_run: 12:00:00 a warning\nscr_run: 12:00:01 another\n")
    assert not output.changed()
    os.write(log, b"scr_srun: 12:00:00 a warning\nstep 2\n")
    assert output.changed()


@pytest.mark.parametrize("more", [0, 1])
def test_only_so_much_is_read_of_new_output(log: int, more: int) -> None:
    output = Output((log,))
    os.write(log, b"scr_run: 12:00:00 ".ljust(OUTPUT_READ_BYTES + more, b"!"))
    assert output.changed() is bool(more)


def test_output_that_was_cut_is_progress(log: int) -> None:
    os.write(log, b"step 1\n")
    output = Output((log,))
    os.ftruncate(log, 0)
    assert output.changed()


def test_pipes_closed_streams_and_the_same_file_twice(log: int) -> None:
    read, write = os.pipe()
    again = os.dup(log)
    try:
        assert not Output((read, write, 9999))
        assert len(Output((log, again, write))._sizes) == 1
    finally:
        for descriptor in (read, write, again):
            os.close(descriptor)


def names(cluster: Cluster, **environ: str) -> list[str]:
    datasets = Datasets(str(cluster.prefix / ".scr"))
    return [source.name for source in sources(cluster.jobenv(**environ), datasets)]


def test_output_is_watched_when_asked_for(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    # capfd: stdout and stderr are regular files
    assert names(cluster) == ["a dataset", "SCR's files"]
    assert names(cluster, SCR_WATCHDOG_OUTPUT="1")[2:] == ["output"]


def test_output_that_cannot_be_watched_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("scrjob.supervisor.progress.Output", lambda: Output(()))
    assert names(cluster, SCR_WATCHDOG_OUTPUT="1")[2:] == []
    assert "no" in caplog.text
    assert "regular file" in caplog.text
