# SPDX-License-Identifier: BSD-3-Clause
"""The limit of bytes a second and the report of progress, on a clock that need not be waited for."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from copynode import Node
from scrjob.node._crew import THREADS, Crew
from scrjob.node._meter import Meter, Progress, cache_extent
from scrjob.node._transfer import StoppedError
from scrjob.node.copy import CopyOptions, copy_dataset
from scrjob.node.copy_main import main
from scrjob.testing.fakes import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize("rate", [1, 1000, 10 * MIB])
def test_no_more_than_the_limit_on_average(rate: int) -> None:
    clock = FakeClock()
    meter = Meter(clock, bytes_per_s=rate)
    piece = meter.piece(MIB)
    assert piece <= max(4096, rate / 4)
    for _ in range(100):
        meter.spend(piece)
    # The last piece is on its way when it has been waited for.
    assert clock.monotonic() == pytest.approx(99 * piece / rate, abs=0.3)


def test_a_pause_gives_no_right_to_a_burst() -> None:
    clock = FakeClock()
    meter = Meter(clock, bytes_per_s=1000)
    clock.advance(3600)
    for _ in range(10):
        meter.spend(1000)
    assert clock.monotonic() == pytest.approx(3600 + 9, abs=0.3)


def test_no_limit_is_no_waiting() -> None:
    clock = FakeClock()
    meter = Meter(clock)
    meter.spend(1 << 50)
    assert meter.piece(MIB) == MIB
    assert clock.naps == []


def test_all_threads_share_the_limit() -> None:
    clock = FakeClock()
    meter = Meter(clock, bytes_per_s=1000)
    threads = [
        threading.Thread(target=lambda: [meter.spend(100) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() > 3.5


def test_stopping() -> None:
    meter = Meter(FakeClock())
    meter.spend(1)
    meter.stop()
    with pytest.raises(StoppedError):
        meter.spend(1)


def test_report_at_most_once_a_second_and_gone_in_the_end(tmp_path: Path) -> None:
    clock = FakeClock(1000.0)
    report = Progress(str(tmp_path), "n1", ".t.tmp", total_bytes=100, total_files=3)
    meter = Meter(clock, report=report)
    path = tmp_path / "scrjob.progress.n1"
    meter.spend(10)
    first = {
        "total_bytes": 100,
        "done_bytes": 10,
        "total_files": 3,
        "done_files": 0,
        "updated": 1000.0,
    }
    assert json.loads(path.read_text()) == first
    clock.advance(0.9)
    meter.spend(20)
    assert json.loads(path.read_text()) == first
    clock.advance(0.1)
    meter.count_files(1, 30)
    assert json.loads(path.read_text()) == {
        **first,
        "done_bytes": 60,
        "done_files": 1,
        "updated": 1001.0,
    }
    meter.close()
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    report = Progress(str(tmp_path / "none"), "n1", ".t.tmp", total_bytes=1, total_files=1)
    meter = Meter(FakeClock(), report=report)
    meter.spend(1)
    meter.close()


def test_copy_with_a_limit_and_a_report(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.add("large", os.urandom(3 * MIB), flush=False)
    for number in range(40):
        node.add(f"f{number}", b"x" * 1000, flush=False)
    node.write()
    size, files = cache_extent(str(node.cache))
    assert (size, files) == (
        3 * MIB + 40_000 + (node.cache / ".scr/filemap_0").stat().st_size,
        42,
    )
    seen: list[dict[str, float]] = []
    lock = (
        threading.Lock()
    )  # several threads sleep; what one reads, another must not note before it

    class Watching(FakeClock):
        def sleep(self, seconds: float) -> None:
            path = node.prefix / ".scr/scr.dataset.5/scrjob.progress.n1"
            with lock:
                super().sleep(seconds)
                if path.exists():
                    seen.append(json.loads(path.read_text()))

    clock = Watching()
    result = copy_dataset(
        str(node.cntl),
        5,
        str(node.prefix),
        host="n1",
        clock=clock,
        emit=node.lines.append,
        options=CopyOptions(bytes_per_s=MIB, progress=True, resume=True),
    )
    assert result.rc == 0
    assert node.target("large").read_bytes() == (node.cache / "large").read_bytes()
    assert clock.monotonic() >= (size - MIB) / MIB - 0.5
    assert all(one["total_bytes"] == size and one["total_files"] == files for one in seen)
    done = [one["done_bytes"] for one in seen]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] <= size
    hidden = node.prefix / ".scr/scr.dataset.5"
    assert sorted(path.name for path in hidden.iterdir()) == ["filemap_0", "scrjob.copy.n1.jsonl"]


def test_a_crew_tells_of_what_nobody_expected() -> None:
    """A fault of ours in a thread must not look like a copy that went well."""
    crew = Crew(Meter(FakeClock()), 10, lambda: None)

    def fail(buffer: memoryview) -> None:
        raise ZeroDivisionError

    crew._do(fail)
    with pytest.raises(ZeroDivisionError):
        crew.wait()
    assert crew.close(5.0)


def test_small_files_are_shared_out_where_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()

    class Usage:
        ru_nvcsw = 0

    def usage(_: int) -> Usage:
        Usage.ru_nvcsw += 1000
        return Usage

    original = Meter.spend

    def spend(self: Meter, size: int) -> None:
        used.add(threading.get_ident())
        original(self, size)

    monkeypatch.setattr("resource.getrusage", usage)
    monkeypatch.setattr(Meter, "spend", spend)
    node = Node(tmp_path)
    for number in range(400):
        node.add(f"f{number}", b"%d" % number, flush=False)
    node.write()
    assert node.copy().rc == 0
    assert 2 <= len(used) <= THREADS + 1
    for number in range(400):
        assert node.target(f"f{number}").read_bytes() == b"%d" % number


@pytest.mark.parametrize("value", ["0", "x", "-1", ""])
def test_a_limit_that_is_none_is_refused(
    tmp_path: Path, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--cntldir", str(tmp_path), "--id", "1", "--prefix", str(tmp_path), "--bw", value]
    assert main(words) == 1
    assert f"Invalid value for bandwidth '--bw {value}'" in capfd.readouterr().out
