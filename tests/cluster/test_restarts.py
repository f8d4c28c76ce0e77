# SPDX-License-Identifier: BSD-3-Clause
"""scr_run itself is killed, the controller is restarted, authentication stops for a while."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from heatjob import HeatJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

AGAIN = """
"$@" & echo $! > first; wait $!
echo "first: $?" >&2
exec "$@"
"""


def test_scr_run_is_killed_and_started_again(rig: Rig, tmp_path: Path) -> None:
    """The second supervisor ends the step that the first one left, and goes on from its checkpoint."""
    job = HeatJob(rig, tmp_path)
    job.command = ["sh", "-c", AGAIN, "sh", *job.command]
    job.start()
    job.wait_dataset(3)
    rig.run(["kill", "-KILL", (job.prefix / "first").read_text().strip()], check=True)
    assert job.end() == 0, job.said
    assert "first: 137" in job.said
    lost, last = job.runs()
    assert lost["cause"] == "supervisor lost"
    assert last["cause"] == "success"
    assert job.dataset_of_restart()[-1] >= 3
    assert job.is_right()


def test_the_controller_is_restarted(rig: Rig, tmp_path: Path) -> None:
    """Lesson A12: a controller that does not answer is unknown, not healthy, and nobody's death."""
    job = HeatJob(rig, tmp_path, steps=200).start()
    job.wait_dataset(2)
    rig.stop_service("slurmctld", sudden=True)
    job.wait_dataset(5)
    rig.start_service("slurmctld")
    assert job.end() == 0, job.said
    assert [run["cause"] for run in job.runs()] == ["success"]
    assert job.is_right()


def test_a_node_dies_while_the_controller_is_away(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, steps=200).start()
    job.wait_dataset(2)
    rig.stop_service("slurmctld", sudden=True)
    rig.kill("n2")
    job.wait_until(lambda: job.runs()[0]["ended"], "the death being noticed", 60.0)
    rig.start_service("slurmctld")
    assert job.end(90) == 0, job.said
    assert "n2" not in job.runs()[-1]["nodes"]
    assert job.is_right()


def test_munge_stops_for_a_while(rig: Rig, tmp_path: Path) -> None:
    job = HeatJob(rig, tmp_path, steps=200).start()
    job.wait_dataset(2)
    rig.stop_service("munged")
    job.wait_dataset(5)
    rig.start_service("munged")
    assert job.end(90) == 0, job.said
    assert [run["cause"] for run in job.runs()] == ["success"]
    assert not glob.glob("core*", root_dir=job.prefix)
