# SPDX-License-Identifier: BSD-3-Clause
"""The batch scripts of examples/slurm, submitted as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from heatjob import SETTINGS, heat2d, newest_dataset

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

EXAMPLES = Path(__file__).parents[2] / "examples" / "slurm"
FAIL_ONCE = """
if mkdir "failed.$SLURM_PROCID" 2>/dev/null && [ "$SLURM_PROCID" = 0 ]; then exit 7; fi
exec "$@"
"""


def submit(rig: Rig, script: str, prefix: Path, program: list[str], **settings: str) -> str:
    environ = {**SETTINGS, "SCR_PREFIX": str(prefix), **settings}
    argv = ["sbatch", "--parsable", f"--output={prefix}/out", str(EXAMPLES / script)]
    done = rig.run([*argv, "--mpi=pmix", *program], cwd=str(prefix), environ=environ, check=True)
    return done.stdout.strip()


def ended(rig: Rig, job: str) -> str:
    """Return the exit code of a job, "" as long as it runs. On a dead node it goes on completing."""
    shown = rig.run(["scontrol", "-o", "show", "job", job], check=True).stdout
    state = shown.partition("JobState=")[2].split()[0]
    over = state not in ("PENDING", "RUNNING", "CONFIGURING")
    return shown.partition("ExitCode=")[2].split()[0] if over else ""


def requeued(rig: Rig, job: str) -> None:
    """Wait until a job is in the queue again, and let it start in seconds in place of two minutes.

    Not at once: slurmd counts in whole seconds, and starts no job that was killed in the same one.
    """

    def pending() -> bool:
        shown = rig.run(["scontrol", "show", "job", job]).stdout
        return "Restarts=1" in shown and "JobState=PENDING" in shown

    rig.wait_for(pending, "requeued", 60)
    rig.run(["scontrol", "update", f"JobId={job}", "StartTime=now+3"], check=True)
    rig.wait_for(lambda: not pending(), "started again", 60)


def test_a_node_dies_under_the_batch_script(rig: Rig, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    output = tmp_path / "field.npy"
    program = heat2d(str(output), steps=120, every=10, pace_s=0.04)
    job = submit(rig, "scr_run.sbatch", prefix, program)
    rig.wait_for(lambda: (found := newest_dataset(prefix)) and found.id >= 3, "dataset 3", 60)
    rig.kill("n3")  # not n1, on which the batch script runs
    how = rig.wait_for(lambda: ended(rig, job), "the job's end", 90)
    said = (prefix / "out").read_text()
    assert how == "0:0", said
    assert "n3 is out" in said
    assert output.exists()


def test_out_of_time_it_is_requeued_and_goes_on(rig: Rig, tmp_path: Path) -> None:
    """Lesson B8, and exit code 75: the second start of the same job goes on where the first stopped."""
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    output = tmp_path / "field.npy"
    program = heat2d(str(output), steps=200, every=10, pace_s=0.05)
    job = submit(rig, "scr_run.sbatch", prefix, program)
    rig.wait_for(lambda: (found := newest_dataset(prefix)) and found.id >= 3, "dataset 3", 60)
    # What --signal=B:USR1@300 sends when the time has come.
    rig.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    requeued(rig, job)
    how = rig.wait_for(lambda: ended(rig, job), "the job's end", 90)
    said = (prefix / "out").read_text()
    assert how == "0:0", said
    assert "USR1" in said
    state = json.loads(next((prefix / ".scr").glob("scrjob.*/state.json")).read_text())
    assert [run["cause"] for run in state["runs"]][-1] == "success"
    assert output.exists()
    assert said.count("from step 0 ") == 1, said


def test_the_loop_of_small_commands(rig: Rig, tmp_path: Path) -> None:
    """Lesson B9: one's own job script out of the small commands."""
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    output = tmp_path / "field.npy"
    program = ["sh", "-c", FAIL_ONCE, "sh", *heat2d(str(output), steps=40, every=10)]
    job = submit(rig, "own_loop.sbatch", prefix, program)
    how = rig.wait_for(lambda: ended(rig, job), "the job's end", 90)
    said = (prefix / "out").read_text()
    assert how == "0:0", said
    assert output.exists()
    index = rig.run(["scr_index", "--prefix", str(prefix), "--list"]).stdout
    assert "heat.40" in index, said + index


def test_the_batch_host_dies(rig: Rig, tmp_path: Path) -> None:
    """Started again elsewhere, the script says what happened; it goes on at least from the last flush."""
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    output = tmp_path / "field.npy"
    program = heat2d(str(output), steps=120, every=10, pace_s=0.04)
    job = submit(rig, "scr_run.sbatch", prefix, program, SCR_FLUSH="2")
    rig.wait_for(lambda: (found := newest_dataset(prefix)) and found.id >= 5, "dataset 5", 60)
    rig.kill("n1")
    # With --no-kill Slurm keeps the other nodes, without the script, until somebody says so.
    rig.run(["scontrol", "requeue", job], check=True)
    # It completes on the dead node first, which the controller would take for dead after 300 s.
    rig.run(["scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=dead"], check=True)
    requeued(rig, job)
    how = rig.wait_for(lambda: ended(rig, job), "the job's end", 90)
    said = (prefix / "out").read_text()
    assert how == "0:0", said
    assert "n1" in said.partition("requeued")[2], said
    _, again = re.findall(r"from step ([0-9]+) to", said)
    assert int(again) >= 40, said
