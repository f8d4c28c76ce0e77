# SPDX-License-Identifier: BSD-3-Clause
"""scr_scavenge as a command: words, output, exit codes. On real nodes: tests/local, tests/cluster."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cachedworld import Cached, cached_job
from scripted_cluster import Cluster
from scrjob.commands import scr_scavenge
from scrjob.formats.index import Index

if TYPE_CHECKING:
    from pathlib import Path


class Job:
    """Two nodes, of which the first has datasets in cache, and what the command makes of a JobEnv."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, *datasets: Cached) -> None:
        self.prefix = base
        env, self.nodes = cached_job(Cluster(base, ["n1", "n2"], []), datasets)
        self.asked: list[Any] = []

        def make(prefix: Any = None) -> Any:
            self.asked.append(prefix)
            return env

        monkeypatch.setattr("scrjob.jobenv.JobEnv", make)

    def is_listed(self, dataset_id: int) -> bool:
        path = self.prefix / ".scr" / "index.scr"
        entry = Index.read(str(path)).entry(dataset_id) if path.exists() else None
        return entry is not None and entry.is_valid


def test_lesson_a20_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The established command crashes on every call."""
    job = Job(tmp_path, monkeypatch, Cached(1, size=30), Cached(2))
    assert scr_scavenge.main(["-i", "1"]) == 0
    out, err = capsys.readouterr()
    said = f"checkpoint.1: 1 files, 30 bytes in {tmp_path}"
    assert (out, err.splitlines()[-1]) == ("", f"{said} (0 files rebuilt)")
    assert job.is_listed(1)
    assert not job.is_listed(2)
    assert scr_scavenge.main(["--id=1", "--jobset=n[1-2]", "--from=/c", "-p", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"{said} (was complete already)\n"
    assert (job.nodes.copies, job.asked) == ([1], [None, str(tmp_path)])


def test_what_is_not_there_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path, monkeypatch, Cached(1, lost=True))
    assert scr_scavenge.main(["-i", "1", "-v"]) == 73
    out, err = capsys.readouterr()
    assert "scavenge: Scavenging files for dataset checkpoint.1 to " in out
    assert err.splitlines()[-1].startswith("scr_scavenge: dataset 1 (checkpoint.1) is not complete")
    assert not job.is_listed(1)


def test_wrong_prefix_is_told_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prefix").mkdir()
    job = Job(tmp_path / "prefix", monkeypatch, Cached(1))
    shutil.rmtree(job.prefix)
    assert scr_scavenge.main(["-i", "1"]) == 1
    assert capsys.readouterr().err == (
        f"scr_scavenge: {job.prefix}: no such directory: name the prefix directory of the job, "
        "by --prefix or SCR_PREFIX\n"
    )
    assert not job.prefix.exists()


def test_prefix_that_was_made_anew_gets_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, monkeypatch, Cached(1))
    shutil.rmtree(job.prefix / ".scr")
    assert scr_scavenge.main(["-i", "1"]) == 0
    assert job.is_listed(1)


def test_reader_of_the_steps_that_goes_away_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ``scr_scavenge -v -i 1 | head``: the data is what counts."""
    job = Job(tmp_path, monkeypatch, Cached(1))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert scr_scavenge.main(["-i", "1", "-v"]) == 0
    assert job.is_listed(1)


def test_what_the_tools_of_the_site_do_not_tell_is_not_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their scr_copy prints no report, their scr_index not what it rebuilt."""
    job = Job(tmp_path, monkeypatch, Cached(1, size=30))
    answer = job.nodes._copy
    monkeypatch.setattr(job.nodes, "_copy", lambda node, number: answer(node, number) and "")
    assert scr_scavenge.main(["-i", "1"]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("(SCR's own executables do not tell what was rebuilt)")


def test_prefix_that_cannot_be_written_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Job(tmp_path, monkeypatch, Cached(1))
    blocked = tmp_path / ".scr" / "scr.dataset.1"
    blocked.touch()
    assert scr_scavenge.main(["-i", "1"]) == 73
    assert capsys.readouterr().err == (
        f"scr_scavenge: dataset 1 could not be brought to {tmp_path}: {blocked}: File exists\n"
    )


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "\u0663", "9" * 19, "9" * 5000])
def test_ids_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_scavenge.main([f"--id={text}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": expected a dataset id, a number above 0")
