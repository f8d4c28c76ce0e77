# SPDX-License-Identifier: BSD-3-Clause
"""The hang detector on a fake clock: grace, sources of progress, learned and set limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scripted_cluster import Cluster, Step
from scrjob.errors import ConfigError
from scrjob.formats import flush, kvtree
from scrjob.watchdog import DEFAULT_TIMEOUT_S, LEARN_FLOOR_S, Limits, ProgressWatch, Watchdog

LIMITS = Limits(timeout_s=100.0, pfs_s=1000.0, startup_s=500.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / ".scr").mkdir()
    return Cluster(tmp_path, ["n1"], [])


def touch(path: Path, when: int) -> None:
    path.touch()
    os.utime(path, (when, when))


def test_a_slow_start_is_no_hang(cluster: Cluster) -> None:
    """Lesson A10."""
    watch = ProgressWatch(cluster.jobenv(), LIMITS)
    cluster.clock.advance(499)
    assert watch.hang() == ""
    cluster.clock.advance(2)
    assert "start-up" in watch.hang()


@pytest.mark.parametrize(
    "name", [".scr/flush.scr", ".scr/index.scr", ".scr/log", "heartbeat", "sub/x y"]
)
def test_any_of_the_files_is_progress(cluster: Cluster, name: str) -> None:
    """Lesson A10: several sources, also a file that any program can touch."""
    (cluster.prefix / "sub").mkdir()
    watch = ProgressWatch(cluster.jobenv(SCR_WATCHDOG_FILE="heartbeat:sub/x y"), LIMITS)
    cluster.dataset(1)
    assert watch.hang() == ""
    for when in (2, 3, 4):
        cluster.clock.advance(99)
        assert watch.hang() == ""
        touch(cluster.prefix / name, when)
        assert watch.hang() == ""
    cluster.clock.advance(101)
    assert "SCR_WATCHDOG_TIMEOUT" in watch.hang()


def test_a_flush_gets_the_time_of_the_parallel_file_system(cluster: Cluster) -> None:
    watch = ProgressWatch(cluster.jobenv(), LIMITS)
    cluster.dataset(1)
    path = str(cluster.prefix / ".scr" / "flush.scr")
    tree = kvtree.read(path)
    flush.add_location(tree, 1, flush.SYNC_FLUSHING)
    kvtree.write(path, tree)
    assert watch.hang() == ""
    cluster.clock.advance(999)
    assert watch.hang() == ""
    cluster.clock.advance(2)
    assert "prefix" in watch.hang()


def test_the_limit_is_learned_from_the_intervals(cluster: Cluster) -> None:
    watch = ProgressWatch(cluster.jobenv(), LIMITS._replace(timeout_s=None))
    cluster.dataset(1)
    beat = cluster.prefix / ".scr" / "log"
    for when in range(5):
        touch(beat, when)
        assert watch.hang() == ""
        cluster.clock.advance(20)
    cluster.clock.advance(81)
    assert "longest interval" in watch.hang()


def test_no_learned_limit_is_shorter_than_the_floor(cluster: Cluster) -> None:
    watch = ProgressWatch(cluster.jobenv(), LIMITS._replace(timeout_s=None))
    cluster.dataset(1)
    beat = cluster.prefix / ".scr" / "log"
    for when in range(5):
        touch(beat, when)
        assert watch.hang() == ""
        cluster.clock.advance(1)
    cluster.clock.advance(LEARN_FLOOR_S - 3)
    assert watch.hang() == ""


def test_defaults_watch_too(cluster: Cluster) -> None:
    """Lesson A10: missing timeouts do not mean no watching."""
    limits = Limits.from_param(cluster.jobenv().param)
    assert limits.timeout_s is None
    assert limits.pfs_s == DEFAULT_TIMEOUT_S
    assert limits.startup_s > 0


def test_a_bad_timeout_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match="SCR_WATCHDOG_TIMEOUT='soon'"):
        Limits.from_param(cluster.jobenv(SCR_WATCHDOG_TIMEOUT="soon").param)


def launched(cluster: Cluster, step: Step, **environ: str) -> tuple[int, Any]:
    cluster.steps.append(step)
    jobenv = cluster.jobenv(**environ)
    proc, jobstep = jobenv.launcher.launch_run([], nodes=["n1"], down_nodes=[])
    dog = Watchdog(str(cluster.prefix), jobenv)
    return dog.watchproc(proc, jobstep), dog


def test_the_published_watchdog_ends_a_hung_step(cluster: Cluster) -> None:
    environ = {"SCR_WATCHDOG_STARTUP": "30"}
    code, dog = launched(cluster, Step(None), **environ)
    assert code == 0
    assert "start-up" in dog.hang
    assert cluster.kills == 1


def test_the_published_watchdog_lets_a_step_end(cluster: Cluster) -> None:
    code, dog = launched(cluster, Step(20))
    assert (code, dog.hang, cluster.kills) == (0, "", 0)


def test_what_cannot_be_watched_is_1(cluster: Cluster) -> None:
    code, _ = launched(cluster, Step(20), SCR_WATCHDOG_TIMEOUT="soon")
    assert code == 1
