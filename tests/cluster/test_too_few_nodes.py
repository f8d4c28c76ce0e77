# SPDX-License-Identifier: BSD-3-Clause
"""Too few nodes are left: the job says so with its exit code, and what can be saved is saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from heatjob import HeatJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

TOO_FEW = 69


def test_the_spare_is_used_up(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, steps=400).start()
    job.wait_dataset(3)
    rig.kill("n2")
    job.wait_until(lambda: len(job.dataset_of_restart()) == 1, "the restart")
    again = job.dataset_of_restart()[-1]
    job.wait_dataset(again + 2)
    rig.kill("n3")
    assert job.end() == TOO_FEW, job.said
    assert "healthy nodes: 3, needed: 4" in job.said
    newest = job.state()["saved"][0]
    assert newest["dataset_id"] >= again + 2, job.said
    index = rig.run(["scr_index", "--prefix", str(job.prefix), "--list"]).stdout
    assert "YES" in index.splitlines()[1], index


def test_what_two_dead_nodes_held_is_rebuilt_in_the_prefix(rig: Rig, tmp_path: Path) -> None:
    """Too few nodes are left to restart on; a later job goes on from what was scavenged."""
    dead = ["n2", "n3"]
    settings = {"SCR_COPY_TYPE": "RS", "SCR_SET_FAILURES": "2"}
    job = HeatJob(rig, tmp_path, settings=settings).start()
    job.wait_dataset(3)
    rig.kill(*dead)
    assert job.end() == TOO_FEW, job.said
    assert job.dataset_of_restart() == []
    newest = job.state()["saved"][0]
    assert newest["dataset_id"] >= 3, job.said
    for host in dead:
        rig.revive(host)
    later = HeatJob(rig, tmp_path, settings=settings).start()
    assert later.end() == 0, later.said
    assert f"from step {newest['dataset_id'] * 10} " in later.printed, later.printed
    assert later.is_right()


def test_too_many_die_at_once(rig: Rig, tmp_path: Path) -> None:
    """Nothing that is left makes a whole dataset but the one that was flushed: it stays as it is."""
    job = HeatJob(rig, tmp_path, steps=400, settings={"SCR_FLUSH": "2"}).start()
    job.wait_dataset(3)
    job.wait_until(lambda: "FLUSH_SUCCESS" in job.labels(), "the flush of the second checkpoint")
    rig.kill("n1", "n2", "n3")
    assert job.end() == TOO_FEW, job.said
    index = rig.run(["scr_index", "--prefix", str(job.prefix), "--list"]).stdout
    assert "heat.20" in index, index
