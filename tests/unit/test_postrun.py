# SPDX-License-Identifier: BSD-3-Clause
"""postrun as a function: where ``current`` goes, and when the newest data counts as safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_cluster import Cluster
from scrjob.formats import flush, kvtree
from scrjob.formats.dataset import Descriptor, build
from scrjob.formats.index import Index
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
