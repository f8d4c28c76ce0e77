# SPDX-License-Identifier: BSD-3-Clause
"""The hang detector on a fake clock: grace, sources of progress, learned and set limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import pytest

from scripted_cluster import Cluster, Step
from scrjob.errors import ConfigError, NotSupportedError
from scrjob.formats import flush, kvtree
from scrjob.remoteexec import RemoteExecResult
from scrjob.testing.fakes import FakeRemoteExec, NodeAnswer
from scrjob.watchdog import (
    DEFAULT_TIMEOUT_S,
    LEARN_FLOOR_S,
    LEARN_MOST_S,
    Limits,
    ProgressWatch,
    Watchdog,
    patience,
)

LIMITS = Limits(timeout_s=100.0, pfs_s=1000.0, startup_s=500.0)
LEARNING = LIMITS._replace(timeout_s=None)
LOOKS = 3  # without time passing: what is asked from the nodes is compared


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / ".scr").mkdir()
    return Cluster(tmp_path, ["n1"], [])


class World:
    """A watch, and nodes whose caches hold what a test says."""

    def __init__(self, cluster: Cluster, limits: Limits, **environ: str) -> None:
        self.cluster = cluster
        self.jobenv = cluster.jobenv(**environ)
        self.cache: Any = NodeAnswer(0, "1 2 3\n")
        self.rexec = FakeRemoteExec(RemoteExecResult, lambda *_: self.cache)
        self.jobenv.rexec = self.rexec
        self.watch = ProgressWatch(self.jobenv, limits)

    def after(self, seconds: float) -> str:
        """Let time pass; return what is seen then."""
        half = seconds / 2
        said = ""
        for wait in (half, half):
            self.cluster.clock.advance(wait)
            for _ in range(LOOKS):
                said = said or self.watch.hang()
        return said

    def beat(self, name: str = ".scr/log") -> None:
        """Touch a file, and look."""
        touch(self.cluster.prefix / name, int(self.cluster.clock.now()))
        assert self.watch.hang() == ""

    def dataset(self, number: int) -> None:
        self.cluster.dataset(number)
        assert self.watch.hang() == ""


def touch(path: Path, when: int) -> None:
    path.touch()
    os.utime(path, (when, when))


def mark(cluster: Cluster, number: int, state: str, *, remove: bool = False) -> None:
    path = str(cluster.prefix / ".scr" / "flush.scr")
    tree = kvtree.read(path)
    change = flush.remove_location if remove else flush.add_location
    change(tree, number, state)
    kvtree.write(path, tree)


def test_a_slow_start_is_no_hang(cluster: Cluster) -> None:
    """Lesson A10."""
    world = World(cluster, LIMITS)
    assert world.after(499) == ""
    said = world.after(2)
    assert "start-up" in said
    assert "no sign since its start" in said


def test_what_scr_does_at_the_start_is_progress_but_not_work(cluster: Cluster) -> None:
    """A rebuild is logged, and reading the input may still take long."""
    world = World(cluster, LIMITS)
    assert world.after(400) == ""
    world.beat()
    assert world.after(499) == ""
    assert "start-up" in world.after(2)


def test_signs_after_the_time_for_the_start_are_work(cluster: Cluster) -> None:
    """Else a program that shows nothing but its log would be given this time for ever."""
    world = World(cluster, LIMITS)
    assert world.after(400) == ""
    world.beat()
    assert world.after(200) == ""
    world.beat()
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(101)


@pytest.mark.parametrize(
    "name",
    [".scr/flush.scr", ".scr/index.scr", ".scr/nodes.scr", ".scr/log", "heartbeat", "sub/x y"],
)
def test_any_of_the_files_is_progress(cluster: Cluster, name: str) -> None:
    """Lessons A10, B4: several sources, also a file that any program can touch."""
    (cluster.prefix / "sub").mkdir()
    world = World(cluster, LIMITS, SCR_WATCHDOG_FILE="heartbeat:sub/x y")
    world.dataset(1)
    for _ in range(3):
        assert world.after(99) == ""
        world.beat(name)
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(101)


def test_the_first_touch_of_a_named_file_ends_the_start(cluster: Cluster) -> None:
    world = World(cluster, LIMITS, SCR_WATCHDOG_FILE=str(cluster.prefix / "beat"))
    world.beat("beat")
    said = world.after(101)
    assert "limit 100.0 s: SCR_WATCHDOG_TIMEOUT" in said
    assert "the last sign was SCR_WATCHDOG_FILE" in said


def test_a_program_that_shows_nothing_is_not_judged(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson A10: unknown is not hung; what would help is told, once."""
    world = World(cluster, LIMITS._replace(startup_s=None))
    assert world.after(3 * DEFAULT_TIMEOUT_S) == ""
    assert world.after(3 * DEFAULT_TIMEOUT_S) == ""
    assert caplog.text.count("SCR_WATCHDOG_FILE") == 1
    assert world.rexec.calls == []


@pytest.mark.parametrize("ground", ["checkpoint of a run before", "SCR's files", "named file"])
def test_a_program_of_which_signs_are_expected_gets_an_hour_to_start(
    cluster: Cluster, ground: str
) -> None:
    """Lesson A10: defaults watch too."""
    if ground == "checkpoint of a run before":
        cluster.index(1)
    environ = {"SCR_WATCHDOG_FILE": "beat"} if ground == "named file" else {}
    world = World(cluster, LIMITS._replace(startup_s=None), **environ)
    if ground == "SCR's files":
        world.beat(".scr/nodes.scr")
    assert world.after(DEFAULT_TIMEOUT_S - 1) == ""
    assert "start-up" in world.after(2)


def test_a_flush_gets_the_time_of_the_parallel_file_system(cluster: Cluster) -> None:
    world = World(cluster, LIMITS)
    world.dataset(1)
    mark(cluster, 1, flush.SYNC_FLUSHING)
    assert world.watch.hang() == ""
    assert world.after(999) == ""
    assert "prefix" in world.after(2)


def test_a_program_that_computes_during_a_flush_has_its_usual_time(cluster: Cluster) -> None:
    """Its flush ends only when the program goes on: with the other limit no hang would be found."""
    world = World(cluster, LIMITS)
    world.dataset(1)
    mark(cluster, 1, flush.FLUSHING)
    assert world.watch.hang() == ""
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(101)


def test_the_mark_of_a_run_that_was_ended_in_its_flush_does_not_count(cluster: Cluster) -> None:
    cluster.dataset(1)
    mark(cluster, 1, flush.SYNC_FLUSHING)
    world = World(cluster, LIMITS)
    assert "start-up" in world.after(501)
    world.dataset(2)
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(101)


def test_a_flush_file_that_is_being_written_is_read_again(cluster: Cluster) -> None:
    world = World(cluster, LIMITS)
    world.dataset(1)
    path = cluster.prefix / ".scr" / "flush.scr"
    mark(cluster, 1, flush.SYNC_FLUSHING)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert world.watch.hang() == ""
    path.write_bytes(whole)
    assert world.watch.hang() == ""
    assert world.after(999) == ""


def test_the_time_of_a_flush_is_not_learned(cluster: Cluster) -> None:
    world = World(cluster, LEARNING)
    for number in range(1, 6):
        world.dataset(number)
        mark(cluster, number, flush.SYNC_FLUSHING)
        assert world.watch.hang() == ""
        assert world.after(900) == ""
        mark(cluster, number, flush.SYNC_FLUSHING, remove=True)
        assert world.watch.hang() == ""
        cluster.clock.advance(1)
    assert "learned" in world.after(LEARN_FLOOR_S + 1)


def test_the_limit_is_learned_from_dataset_to_dataset(cluster: Cluster) -> None:
    world = World(cluster, LEARNING)
    for number in range(1, 5):
        world.dataset(number)
        assert world.after(100) == ""
    assert world.after(399) == ""
    assert "learned" in world.after(2)


def test_no_learned_limit_is_shorter_than_the_floor(cluster: Cluster) -> None:
    world = World(cluster, LEARNING)
    for number in range(1, 5):
        world.dataset(number)
        cluster.clock.advance(1)
    assert world.after(LEARN_FLOOR_S - 2) == ""
    assert "learned" in world.after(2)


def test_a_burst_of_signs_teaches_nothing(cluster: Cluster) -> None:
    """Lesson A10: a checkpoint changes many files within seconds, then the program computes."""
    world = World(cluster, LEARNING)
    world.dataset(1)
    for _ in range(10):
        world.beat()
        cluster.clock.advance(1)
    assert world.after(DEFAULT_TIMEOUT_S - 2) == ""
    assert "default" in world.after(3)


@pytest.mark.parametrize(("seconds", "is_learned"), [(3500, False), (3600, True)])
def test_without_datasets_it_is_learned_in_an_hour_of_work(
    cluster: Cluster, seconds: int, is_learned: bool
) -> None:
    world = World(cluster, LEARNING, SCR_WATCHDOG_FILE="beat")
    assert world.after(400) == ""
    for _ in range(seconds // 100):
        world.beat("beat")
        cluster.clock.advance(100)
    world.beat("beat")
    assert world.after(499) == ""
    assert ("learned" in world.after(2)) is is_learned


def test_an_hour_with_few_signs_teaches_nothing(cluster: Cluster) -> None:
    world = World(cluster, LEARNING._replace(timeout_s=9000.0), SCR_WATCHDOG_FILE="beat")
    world.beat("beat")
    cluster.clock.advance(3599)
    for _ in range(2):
        world.beat("beat")
        cluster.clock.advance(1)
    assert world.after(8998) == ""
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(2)


def test_the_set_limit_bounds_the_learned_one(cluster: Cluster) -> None:
    world = World(cluster, LIMITS._replace(timeout_s=450.0))
    for number in range(1, 5):
        world.dataset(number)
        assert world.after(100) == ""
    assert "SCR_WATCHDOG_TIMEOUT" in world.after(351)


def test_a_long_first_interval_is_borne_again(cluster: Cluster) -> None:
    """Lesson A10: of a program with a checkpoint in 50 minutes the next is not late after 60."""
    world = World(cluster, LEARNING._replace(startup_s=7200.0))
    assert world.after(3000) == ""
    world.dataset(1)
    assert world.after(3000 + LEARN_MOST_S - 1) == ""
    assert "default" in world.after(2)


def test_a_long_pause_is_borne_again(cluster: Cluster) -> None:
    world = World(cluster, LEARNING)
    world.dataset(1)
    assert world.after(3000) == ""
    world.beat()
    assert world.after(3000 + LEARN_MOST_S - 1) == ""
    assert "default" in world.after(2)


def test_the_interval_that_the_program_was_told_is_borne(cluster: Cluster) -> None:
    param = cluster.jobenv(SCR_CHECKPOINT_SECONDS="7000").param
    world = World(cluster, Limits.from_param(param), SCR_WATCHDOG_FILE="beat")
    assert world.after(7000 + LEARN_MOST_S - 1) == ""
    assert "start-up" in world.after(2)
    world = World(cluster, Limits.from_param(param))
    world.dataset(1)
    assert world.after(7000 + LEARN_MOST_S - 1) == ""
    assert "default" in world.after(2)


@pytest.mark.parametrize(
    ("timeout_s", "hangs", "limit_s"),
    [(None, 0, 400), (None, 1, 800), (900, 1, 800), (900, 2, 900)],
)
def test_what_was_learned_is_doubled_after_each_hang_but_not_what_was_set(
    cluster: Cluster, timeout_s: Optional[float], hangs: int, limit_s: float
) -> None:
    """Lesson A10: a healthy program with one long pause is not ended at it again and again."""
    world = World(cluster, LIMITS._replace(timeout_s=timeout_s).after(hangs))
    for number in range(1, 5):
        world.dataset(number)
        assert world.after(80) == ""
    assert world.after(limit_s - 81) == ""
    assert f"(limit {limit_s:.1f} s" in world.after(2)


def test_a_default_is_doubled_too(cluster: Cluster) -> None:
    cluster.index(1)
    world = World(cluster, Limits(None, 1000.0, None).after(1))
    assert world.after(2 * DEFAULT_TIMEOUT_S - 1) == ""
    assert "start-up" in world.after(2)
    world.dataset(2)
    assert world.after(4 * DEFAULT_TIMEOUT_S - 1) == ""


def test_patience_grows_five_times_but_at_most_an_hour() -> None:
    assert patience(0) == 0
    assert patience(10) == 50
    assert patience(10_000) == 13_600


def test_growing_files_in_cache_are_progress(cluster: Cluster) -> None:
    """Lesson B4: a checkpoint of a huge file shows nowhere else."""
    world = World(cluster, LIMITS)
    world.dataset(1)
    for size in range(5):
        world.cache = NodeAnswer(0, f"1 {size} 3\n")
        assert world.after(60) == ""
    assert "no file in cache changed on n1" in (world.after(101) or world.after(101))


def test_files_that_grew_before_another_sign_are_old_news(cluster: Cluster) -> None:
    world = World(cluster, LIMITS)
    world.dataset(1)
    assert world.after(60) == ""
    world.cache = NodeAnswer(0, "1 2 4\n")
    world.beat()
    assert "no file in cache changed" in world.after(101)


def test_the_nodes_are_asked_only_when_half_of_the_time_is_over(cluster: Cluster) -> None:
    world = World(cluster, LIMITS)
    world.dataset(1)
    cluster.clock.advance(49)
    assert world.watch.hang() == ""
    assert world.rexec.calls == []
    cluster.clock.advance(2)
    assert [world.watch.hang() for _ in range(LOOKS)] == [""] * LOOKS
    assert len(world.rexec.calls) == 1
    world.beat()
    cluster.clock.advance(49)
    assert world.watch.hang() == ""
    assert len(world.rexec.calls) == 1


@pytest.mark.parametrize(
    ("cache", "why"),
    [
        (NodeAnswer(None, failure="no answer within 20 s"), "no answer within 20 s"),
        (NodeAnswer(1, stderr="/dev/shm: not to be read\n"), "not to be read"),
        (NodeAnswer(0, "surprise\n"), "surprise"),
        (NotSupportedError("no remote execution is known here"), "no remote execution"),
    ],
)
def test_an_unknown_cache_shows_no_progress_and_is_told(
    cluster: Cluster, cache: Any, why: str
) -> None:
    world = World(cluster, LIMITS)
    world.dataset(1)
    world.cache = cache
    said = world.after(101)
    assert "no progress for" in said
    assert why in said


def test_the_settings_are_read(cluster: Cluster) -> None:
    environ = {
        "SCR_WATCHDOG_TIMEOUT": "60",
        "SCR_WATCHDOG_TIMEOUT_PFS": "70",
        "SCR_WATCHDOG_STARTUP": "80",
        "SCR_CHECKPOINT_SECONDS": "90",
    }
    assert Limits.from_param(cluster.jobenv(**environ).param) == Limits(60, 70, 80, 90)
    assert Limits.from_param(cluster.jobenv().param) == Limits(None, DEFAULT_TIMEOUT_S, None)


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


def test_the_published_watchdog_keeps_the_stacks(cluster: Cluster) -> None:
    """Lesson B4."""
    cluster.steps.append(Step(None))
    jobenv = cluster.jobenv(SCR_WATCHDOG_STARTUP="30")
    jobenv.launcher.outside_pids = lambda _: {"n1": [os.getpid()]}
    proc, jobstep = jobenv.launcher.launch_run([], nodes=["n1"], down_nodes=[])
    assert Watchdog(str(cluster.prefix), jobenv).watchproc(proc, jobstep) == 0
    assert f"== process {os.getpid()}" in (cluster.prefix / ".scr" / "stacks.42.txt").read_text()


def test_the_published_watchdog_lets_a_step_end(cluster: Cluster) -> None:
    code, dog = launched(cluster, Step(20))
    assert (code, dog.hang, cluster.kills) == (0, "", 0)


def test_what_cannot_be_watched_is_1(cluster: Cluster) -> None:
    code, _ = launched(cluster, Step(20), SCR_WATCHDOG_TIMEOUT="soon")
    assert code == 1
