# SPDX-License-Identifier: BSD-3-Clause
"""A full prefix, very many nodes, remote commands that did not run where they should."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cachedworld import Cached, cached_job
from scripted_cluster import Cluster
from scrjob import prune
from scrjob._clock import SystemClock, wait_for
from scrjob.errors import ConfigError, PluginError, ScavengeError, UnrecoverableError
from scrjob.formats.index import Index
from scrjob.postrun import save_datasets
from scrjob.scavenge import record, scavenge_dataset
from scrjob.scavenge.settings import ScavengeSettings


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, ["n1", "n2"], [])


def test_full_prefix_is_told_and_nothing_is_lost(cluster: Cluster) -> None:
    """The nodes find no space: what is safe stays, and after space was made the same call succeeds."""
    env, nodes = cached_job(cluster, [Cached(1)])
    assert save_datasets(env, [], None, str).newest_safe
    before = (cluster.prefix / ".scr/index.scr").read_bytes()
    env, nodes = cached_job(cluster, [Cached(2)])
    plain = nodes._copy
    why = "Failed to copy file /cache/file to /prefix/file: [Errno 28] No space left on device"

    def full(node: str, number: int) -> str:
        told: dict[str, Any] = {"files": 0, "bytes": 0, "skipped": 0, "crc": {}}
        return json.dumps({**told, "rc": 1, "errors": [why]})

    nodes._copy = full  # type: ignore[method-assign]
    with pytest.raises(UnrecoverableError, match="No space left on device"):
        scavenge_dataset(env, ["n1", "n2"], 2, "/cntl")
    assert (cluster.prefix / ".scr/index.scr").read_bytes() == before
    hidden = cluster.prefix / ".scr/scr.dataset.2"
    assert json.loads((hidden / record.JOURNAL).read_text())["nodes"]["n1"]["errors"] == [why]
    assert not (hidden / "summary.scr").exists()
    nodes._copy = plain  # type: ignore[method-assign]
    assert scavenge_dataset(env, ["n1", "n2"], 2, "/cntl").files == 1


def test_full_prefix_for_our_own_files_is_one_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, nodes = cached_job(cluster, [Cached(2)])

    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patched:
        patched.setattr(record, "atomic_write", full)
        with pytest.raises(ScavengeError, match="No space left on device"):
            scavenge_dataset(env, ["n1", "n2"], 2, "/cntl")
    assert nodes.copies == []
    assert scavenge_dataset(env, ["n1", "n2"], 2, "/cntl").files == 1


def test_a_thousand_and_more_nodes(tmp_path: Path) -> None:
    """1,200 nodes, 256 at a time: some seconds, some megabytes, each node in the journal."""
    names = [f"n{i}" for i in range(1, 1201)]
    cluster = Cluster(tmp_path, names, [])
    env, nodes = cached_job(cluster, [Cached(7)])
    env.rexec.silent = {"n1000"}
    began = time.monotonic()
    tracemalloc.start()
    done = scavenge_dataset(env, names, 7, "/cntl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 20
    assert peak < 64 << 20
    assert sum(map(len, nodes.copiers)) == 1200
    assert max(map(len, nodes.copiers)) == 16
    assert [copy.node for copy in done.nodes] == names
    assert done.nodes[999].rc is None
    journal = json.loads((tmp_path / ".scr/scr.dataset.7" / record.JOURNAL).read_text())
    assert len(journal["nodes"]) == 1200


def test_lesson_a2_remote_commands_that_ran_somewhere_else_save_nothing(cluster: Cluster) -> None:
    """Each "node" copies what the batch host has, nothing: the dataset is not called safe."""
    env, nodes = cached_job(cluster, [Cached(3)])
    nodes.datasets[3] = Cached(3, lost=True)
    done = save_datasets(env, [], None, str)
    assert not done.newest_safe
    assert (
        Index.read(str(cluster.prefix / ".scr/index.scr")).ids() == []
        if (cluster.prefix / ".scr/index.scr").exists()
        else True
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCR_SCAVENGE_WIDTH", "0"),
        ("SCR_SCAVENGE_WIDTH", "many"),
        ("SCR_SCAVENGE_BW", "fast"),
        ("SCR_SCAVENGE_STALL", "soon"),
        ("SCR_SCAVENGE_VERIFY", "yes"),
        ("SCR_PREFIX_SIZE", "two"),
        ("SCR_CRC_ON_FLUSH", "no"),
    ],
)
def test_settings_of_the_wrong_kind(cluster: Cluster, name: str, value: str) -> None:
    env = cluster.jobenv(**{name: value})
    with pytest.raises(ConfigError, match=name):
        ScavengeSettings.from_param(env.param)


def test_settings(cluster: Cluster) -> None:
    env = cluster.jobenv(SCR_SCAVENGE_BW="1GB", SCR_SCAVENGE_WIDTH="4", SCR_CRC_ON_FLUSH="0")
    settings = ScavengeSettings.from_param(env.param)
    assert settings == ScavengeSettings(4, 1 << 30, 120.0, verify=False, checksum=False, keep=0)
    assert [settings.node_bandwidth(n) for n in (1, 2, 100)] == [1 << 30, 1 << 29, 1 << 28]
    assert ScavengeSettings.from_param(cluster.jobenv().param) == ScavengeSettings()


def test_remote_execution_that_breaks_down_for_some_nodes(cluster: Cluster) -> None:
    """What the others brought is enough, and the node's error is told."""
    env, nodes = cached_job(cluster, [Cached(3)], SCR_SCAVENGE_WIDTH="1")
    plain = nodes._copy

    def copy(node: str, number: int) -> str:
        if node == "n2":
            raise PluginError("the way to it is broken")
        return plain(node, number)

    nodes._copy = copy  # type: ignore[method-assign]
    done = scavenge_dataset(env, ["n1", "n2"], 3, "/cntl")
    assert [(copy.node, copy.rc, copy.errors) for copy in done.nodes] == [
        ("n1", 0, ()),
        ("n2", None, ("the way to it is broken",)),
    ]


def test_an_interruption_gives_up_the_nodes_at_work(cluster: Cluster) -> None:
    """Without it their calls would be waited for, to the end of the allocation."""
    env, nodes = cached_job(cluster, [Cached(1)], SCR_SCAVENGE_WIDTH="1")

    class Hanging(type(nodes)):  # type: ignore[misc]
        def _copy(self, node: str, number: int) -> str:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            lost = self.lost or tuple
            answers.append(wait_for(lambda: node in lost(), clock=SystemClock(), limit_s=20))
            ended.set()
            return str(super()._copy(node, number))

    answers: list[Any] = []
    ended = threading.Event()
    env.rexec = Hanging(cluster, [Cached(1)])
    with pytest.raises(KeyboardInterrupt):
        scavenge_dataset(env, ["n1", "n2"], 1, "/cntl")
    assert ended.wait(30)
    assert answers == [True]


def test_damaged_flush_file_is_no_reason_to_give_up(cluster: Cluster) -> None:
    """The descriptor is lost with it: nothing can be listed, and nothing is called complete."""
    env, nodes = cached_job(cluster, [Cached(3)])
    (cluster.prefix / ".scr/flush.scr").write_bytes(b"\0" * 50)
    with pytest.raises(UnrecoverableError, match="No descriptor of dataset 3"):
        scavenge_dataset(env, ["n1", "n2"], 3, "/cntl")
    assert nodes.copies == [3]
    assert save_datasets(env, [], None, str).newest_safe  # which makes it anew from the cache
    assert nodes.copies == [3, 3]


def test_index_that_cannot_be_read_is_kept_and_current_set_in_the_new_one(cluster: Cluster) -> None:
    env, _ = cached_job(cluster, [Cached(3)])
    (cluster.prefix / ".scr/index.scr").write_bytes(b"\0" * 50)
    assert save_datasets(env, [], None, str).newest_safe
    assert (cluster.prefix / ".scr/index.scr.damaged").read_bytes() == b"\0" * 50
    assert Index.read(str(cluster.prefix / ".scr/index.scr")).current() == "checkpoint.3"


@pytest.mark.parametrize("refused", ["index.scr", "file"])
def test_pruning_that_fails_costs_no_dataset_and_is_told(
    cluster: Cluster, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        env, _ = cached_job(cluster, [Cached(number)])
        assert save_datasets(env, [], None, str).newest_safe
    env, _ = cached_job(cluster, [Cached(3)], SCR_PREFIX_SIZE="1")
    said: list[str] = []
    real = os.unlink

    def unlink(path: str, **options: Any) -> None:
        if os.path.basename(path) == "file":
            raise OSError(errno.EACCES, "Permission denied", path)
        real(path, **options)

    def take_off(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "index.scr")

    with monkeypatch.context() as patched:
        if refused == "file":
            patched.setattr(prune.os, "unlink", unlink)
        else:
            patched.setattr(prune, "_take_off", take_off)
        done = save_datasets(env, [], None, said.append)
    assert done.newest_safe
    assert any(line.startswith("not all old checkpoints could be deleted: ") for line in said)
    assert (cluster.prefix / "d3/file").exists()
