# SPDX-License-Identifier: BSD-3-Clause
"""Long repetitions, for ``make soak``: twenty deaths in one allocation, and the seconds of each fault."""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

from heatjob import USED, HeatJob
from scrjob.hostlist import expand_hosts

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.soak

DEATHS = 20
REPETITIONS = 5
RELAUNCH_S = 10.0
SLURMD_TIMEOUT_S = 300.0
FIGURES = Path(__file__).parents[2] / "benchmarks" / "results" / "soak.json"


def keep(name: str, figures: Any) -> None:
    """Write figures where those of the benchmarks are."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    FIGURES.write_text(json.dumps({**known, name: figures}, indent=1))
    print(f"{name}: {json.dumps(figures)}")


@pytest.mark.timeout(1800)
def test_twenty_deaths_in_one_allocation(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = make_rig(USED + DEATHS, cpus=2)
    chance = random.Random(os.environ.get("SOAK_SEED", "1"))
    settings = {"SCR_RUNS": "-1", "SCR_FLUSH": "5"}
    job = HeatJob(
        rig, tmp_path, nodes=USED + DEATHS, settings=settings, steps=3000, every=10, pace_s=0.04
    ).start()
    job.wait_dataset(1)
    dead: list[str] = []
    seconds: list[float] = []
    while len(dead) < DEATHS:
        runs = len(job.runs())
        job.wait_until(lambda: job.runs()[-1]["nodes"], "ranks running")
        time.sleep(chance.uniform(0.0, 8.0))  # the moment is what chance decides
        victim = chance.choice([node for node in job.runs()[-1]["nodes"] if node not in dead])
        rig.kill(victim)
        died = time.time()
        dead.append(victim)
        job.wait_until(
            lambda: (
                len(job.runs()) > runs  # noqa: B023 - called in this round
                and set(job.runs()[-1]["nodes"]) - set(dead)
                and not set(job.runs()[-1]["nodes"]) & set(dead)
            ),
            f"ranks running without {victim}",
        )
        seconds.append(round(time.time() - died, 2))
    assert job.end(900) == 0, job.said
    assert job.is_right()
    assert set(job.state()["bad_nodes"]) == set(dead)
    for run in job.runs():
        assert not set(run["nodes"]) & set(run["avoided"])
    keep("twenty deaths, seconds to ranks on the spare", sorted(seconds))
    alive = [host for host in rig.plan.names if host not in dead]
    left = {host: rig.exec(host, ["pgrep", "-fa", "heat2d|scr_|srun"]).stdout for host in alive}
    assert not any(left.values()), left
    wait_until_steps_are_gone(rig, dead)


def wait_until_steps_are_gone(rig: Rig, dead: list[str]) -> None:
    """Slurm keeps a step listed while a node of it is silent and SlurmdTimeout has not passed."""
    began = time.monotonic()
    while True:
        listed = rig.run(["squeue", "-h", "--steps", "-o", "%i %N"], check=True).stdout.split()
        steps = dict(zip(listed[::2], listed[1::2]))
        if not steps:
            return
        leaked = [step for step, nodes in steps.items() if not set(expand_hosts(nodes)) & set(dead)]
        waited = time.monotonic() - began
        assert waited < 10.0 or not leaked, steps
        assert waited < SLURMD_TIMEOUT_S + 120.0, steps
        time.sleep(2.0)


def newest_step(rig: Rig) -> str:
    """Return the step of the job's ranks; remote commands are named otherwise."""
    listed = rig.run(["squeue", "-h", "--steps", "-o", "%i %j"], check=True).stdout.splitlines()
    return next(line.split()[0] for line in listed if line.endswith("python"))


FAULTS: dict[str, Callable[[Any, str], Any]] = {
    "kill": lambda rig, host: rig.kill(host),
    "cut": lambda rig, host: rig.cut(host),
    "hang": lambda rig, host: rig.hang(host),
    "rank killed": lambda rig, host: rig.exec(host, ["pkill", "-KILL", "-o", "-f", "heat2d"]),
    "step cancelled": lambda rig, _: rig.run(["scancel", newest_step(rig)], check=True),
}


def seconds_of(rig: Rig, directory: Path, fault: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Break a node under a run; return what it took to go on without it."""
    job = HeatJob(rig, directory, steps=400).start()
    job.wait_dataset(2)
    fault(rig, "n2")
    when = time.time()
    job.wait_until(lambda: len(job.runs()) > 1 and job.runs()[-1]["launched"], "a relaunch", 180)
    job.wait_until(job.dataset_of_restart, "ranks running on the spare")
    running = time.time() - when
    first, last = job.runs()[:2]
    rig.run(["scr_halt", "--immediate", str(job.prefix)])
    job.end()
    return {
        "noticed and ended": round(first["ended"] - when, 2),
        "relaunched": round(last["launched"] - when, 2),
        "ranks restarted": round(running, 2),
        "cause": first["cause"],
        "evidence": first["evidence"],
    }


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
def test_seconds_from_a_fault_to_the_relaunch(
    make_rig: Callable[..., Rig], tmp_path: Path, fault: str
) -> None:
    rig = make_rig(USED + 1)
    rows = []
    for repetition in range(REPETITIONS):
        rows.append(seconds_of(rig, tmp_path / str(repetition), FAULTS[fault]))
        rig.renew()
    keep(f"{fault}, seconds from the fault", rows)
    median = statistics.median(row["ranks restarted"] for row in rows)
    keep(f"{fault}, median to ranks on the spare", median)
    if fault == "kill":
        assert median <= RELAUNCH_S
