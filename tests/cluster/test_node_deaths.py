# SPDX-License-Identifier: BSD-3-Clause
"""A node dies at each moment of a job, for real, and SlurmdTimeout is 300 s."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from heatjob import HeatJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

NOTICED_S = 20.0  # on a machine that does other things too; figures are measured by make soak
SPARE = "n5"


def went_on(job: HeatJob, dead: list[str]) -> None:
    """Assert that the job lost these nodes, used others, and has the right result."""
    code = job.end()
    assert code == 0, job.said
    first, *_, last = job.runs()
    assert set(dead) <= set(first["nodes"]) | set(job.runs()[-2]["nodes"])
    assert not set(dead) & set(last["nodes"])
    assert set(dead) <= set(job.state()["bad_nodes"])
    assert last["cause"] == "success"
    assert job.is_right()


def test_during_compute(rig: Rig, tmp_path: Path) -> None:
    """Lesson B7: control is back within seconds of a node's death. Lesson B2: it is not used again."""
    job = HeatJob(rig, tmp_path).start()
    job.wait_dataset(3)
    rig.kill("n2")
    died = time.time()
    went_on(job, ["n2"])
    first, last = job.runs()
    assert first["ended"] - died < NOTICED_S
    assert last["launched"] - died < NOTICED_S
    assert first["cause"] == "node down"
    assert SPARE in last["nodes"]
    assert job.dataset_of_restart()[-1] >= 3  # rebuilt in cache: nothing was ever flushed
    assert not any(label.startswith("FETCH") for label in job.labels())


def test_during_a_checkpoint(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, size=1024, steps=60, pace_s=0.1).start()
    job.wait_dataset(1)
    job.wait_writing("n3", 3)
    rig.kill("n3")
    went_on(job, ["n3"])
    assert job.dataset_of_restart()[-1] >= 2


def test_during_a_flush(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(
        rig, tmp_path, size=1024, steps=60, pace_s=0.1, settings={"SCR_FLUSH": "2"}
    ).start()
    job.wait_until(
        lambda: list(job.prefix.glob("heat.20/*")), "the second checkpoint being flushed"
    )
    rig.kill("n1")
    went_on(job, ["n1"])
    assert job.dataset_of_restart()[-1] >= 1


def test_during_the_relaunch(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, nodes=6, settings={"SCR_FLUSH": "1"}).start()
    job.wait_dataset(3)
    rig.kill("n2")
    job.wait_said("run 2: launched on")
    rig.kill("n5")
    went_on(job, ["n2", "n5"])
    assert job.dataset_of_restart()[-1] >= 3


def test_during_the_scavenge(rig: Rig, tmp_path: Path) -> None:
    """The dead node's part of the newest dataset is rebuilt from those of the others."""
    job = HeatJob(rig, tmp_path, size=2048, every=5, pace_s=0.1, steps=400).start()
    job.wait_dataset(2)
    halt = rig.run(["scr_halt", str(job.prefix)])
    assert halt.returncode == 0, halt.stderr
    job.wait_said("saving what is in cache")
    rig.kill("n4")
    assert job.end() == 0, job.said
    saved = job.state()["saved"]
    assert saved, job.said
    listed = rig.run(["scr_index", "--prefix", str(job.prefix), "--list"])
    assert "YES" in listed.stdout, listed.stdout


@pytest.mark.parametrize(
    ("settings", "dead"),
    [
        ({"SCR_COPY_TYPE": "PARTNER"}, ["n1", "n3"]),  # no neighbours: each one's copy is left
        ({"SCR_COPY_TYPE": "RS", "SCR_SET_FAILURES": "2"}, ["n1", "n2"]),
    ],
    ids=["partner", "rs"],
)
def test_with_other_redundancy(
    rig: Rig, tmp_path: Path, settings: dict[str, str], dead: list[str]
) -> None:
    """Two nodes, as many as there are spares, die at once; the newest checkpoint is rebuilt in cache."""
    job = HeatJob(rig, tmp_path, nodes=6, settings=settings).start()
    job.wait_dataset(3)
    rig.kill(*dead)
    went_on(job, dead)
    assert job.dataset_of_restart()[-1] >= 3
    assert "REBUILD_SUCCESS" in job.labels()
    assert not {"REBUILD_FAIL", "FETCH_START"} & set(job.labels()), job.labels()


def test_two_in_different_sets(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, nodes=6, settings={"SCR_SET_SIZE": "2"}).start()
    job.wait_dataset(3)
    rig.kill("n1", "n3")  # of the sets n1, n2 and n3, n4
    went_on(job, ["n1", "n3"])
    assert job.dataset_of_restart()[-1] >= 3
    assert not any(label.startswith("FETCH") for label in job.labels())


def test_two_in_one_set(rig: Rig, tmp_path: Path) -> None:
    """What redundancy cannot restore falls back to the older checkpoint in the prefix, and it is said."""
    job = HeatJob(rig, tmp_path, nodes=6, settings={"SCR_FLUSH": "3"}).start()
    job.wait_dataset(4)
    rig.kill("n1", "n2")
    went_on(job, ["n1", "n2"])
    assert "from step 30 " in job.printed, job.printed
    assert {"REBUILD_FAIL", "FETCH_SUCCESS"} <= set(job.labels()), job.labels()
    assert "dataset 4 is lost from the cache" in job.said, job.said
