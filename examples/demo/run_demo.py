# SPDX-License-Identifier: BSD-3-Clause
"""A node dies and the job goes on: ``make demo``, or ``.venv/bin/python examples/demo/run_demo.py``.

1. A 2-D heat equation (``examples/heat2d``) runs to its end, undisturbed: the reference.
2. The same program runs under ``scr_run`` on 4 of 5 virtual nodes, with checkpoints in node-local
   storage only. Half way the first process of one node is killed: all its processes and its storage
   are gone. What then happens on the screen is the work of scr_run.
3. Proofs: the result is bit for bit that of the reference, and the restart was a rebuild in cache.

Everything is left in ``demo-out/`` for a look; the times of the phases are in ``phases.json`` there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from scrjob import scrlog
from scrjob.formats import flush, kvtree, paths

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HEAT2D = os.path.join(ROOT, "examples", "heat2d", "heat2d.py")
BIN = os.path.dirname(sys.executable)

RANKS = 8
NODES = 5
USED = 4
VICTIM = "node2"
SIZE = 512  # cells along a side
STEPS = 160
EVERY = 20  # steps between checkpoints
KILL_AFTER = STEPS // EVERY // 2  # checkpoints
PACE_S = 0.04  # a step takes at least that long, so that there is something to watch
LIMIT_S = 60.0
POLL_S = 0.02

SETTINGS = {
    "SCR_CACHE_BYPASS": "0",  # files go to node-local storage ...
    "SCR_CACHE_SIZE": "2",  # ... which holds two checkpoints ...
    "SCR_FLUSH": "0",  # ... and none is copied to the prefix while the program runs
    "SCR_COPY_TYPE": "XOR",
    "SCR_RUNS": "3",
    "SCR_LOG_ENABLE": "1",
    "SCR_LOG_SYSLOG_ENABLE": "0",
}


class DemoError(Exception):
    """Something that the demo promises did not happen."""


class Killed(NamedTuple):
    """What was killed, when (Unix seconds), and the newest checkpoint then."""

    when: float
    checkpoint: int
    location: str


def say(text: str = "") -> None:
    """Tell the user something, between the lines of the programs."""
    print(f"\n>>> {text}" if text else "", flush=True)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the demo's commands: no foreign settings, our commands on PATH."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SCR_") or "LOCAL" in k}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", **extra}


def heat2d(output: str, pace_s: float) -> list[str]:
    """Return the command line of the program."""
    return [
        *(sys.executable, "-m", "mpi4py", HEAT2D),
        *("--size", str(SIZE), "--steps", str(STEPS), "--every", str(EVERY)),
        *("--pace", str(pace_s), "--output", output),
    ]


def outside(directory: str) -> dict[str, float]:
    """Do all of it; returns the seconds of each phase.

    Raises:
        DemoError: something did not happen as promised.
    """
    shutil.rmtree(directory, ignore_errors=True)
    prefix = os.path.join(directory, "prefix")
    os.makedirs(prefix)
    began = time.time()

    say(f"1. The reference: heat2d, {RANKS} ranks, {STEPS} steps, no checkpoints, no disturbance.")
    reference = os.path.join(directory, "reference.npy")
    call(
        [os.path.join(BIN, "mpiexec"), "-n", str(RANKS), *heat2d(reference, 0.0)],
        environment({"SCR_ENABLE": "0"}),
        directory,
    )
    phases = {"reference": time.time() - began}

    say(
        f"2. The same under scr_run, on {USED} of {NODES} virtual nodes. Checkpoints stay in the nodes' "
        "own storage."
    )
    start = time.time()
    settings = {**SETTINGS, "SCR_PREFIX": prefix}
    inner = [sys.executable, os.path.abspath(__file__), "--inside", "--directory", directory]
    call(
        # both the program and its results may lie below /tmp, of which each node has its own
        [os.path.join(BIN, "scr_local"), "alloc", "-N", str(NODES), "--share", ROOT, "--", *inner],
        environment(settings),
        directory,
    )
    phases["job"] = time.time() - start

    say("3. The proofs.")
    phases.update(prove(directory, prefix, reference))
    phases["total"] = time.time() - began
    return phases


def call(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
    """Run a command on our own terminal.

    Raises:
        DemoError: it failed.
    """
    code = subprocess.run(argv, env=dict(env), cwd=cwd, timeout=LIMIT_S, check=False).returncode
    if code != 0:
        raise DemoError(f"exit code {code}: {' '.join(argv[:6])} ...")


def inside(directory: str) -> int:
    """Run the job in the allocation around us and kill a node on the way; returns scr_run's exit code."""
    prefix = os.environ["SCR_PREFIX"]
    output = os.path.join(directory, "result.npy")
    argv = ["scr_run", "local", "-N", str(USED), "-n", str(RANKS), *heat2d(output, PACE_S)]
    with subprocess.Popen(argv, cwd=prefix) as job:
        killed = kill_half_way(job, prefix)
        if killed is not None:
            watch_rebuild(job, prefix, killed)
        code = job.wait(LIMIT_S)
    if killed is not None:
        with open(os.path.join(directory, "killed.json"), "w", encoding="utf-8") as file:
            json.dump(killed._asdict(), file)
    return code


def kill_half_way(job: subprocess.Popen[Any], prefix: str) -> Optional[Killed]:
    """Kill a node as soon as the wanted checkpoint is protected; None if the job ended before."""
    while job.poll() is None:
        newest = newest_checkpoint(prefix)
        if newest is not None and newest.id >= KILL_AFTER:
            where = "+".join(newest.locations)
            say(
                f"Checkpoint {newest.id} ({newest.name}) is done; it exists in {where} only. "
                f"Now {VICTIM} dies: its first process is killed."
            )
            when = time.time()
            subprocess.run(["scr_local", "fail", VICTIM], timeout=LIMIT_S, check=True)
            return Killed(when, newest.id, where)
        time.sleep(POLL_S)
    return None


def watch_rebuild(job: subprocess.Popen[Any], prefix: str, killed: Killed) -> None:
    """Say when the checkpoint is whole again in the caches of the nodes; give up when the job ends."""
    while job.poll() is None:
        records = scrlog.parse_file(scrlog.log_path(prefix))
        if any(
            record.get("label") == "REBUILD_SUCCESS" and record.get("dset") == killed.checkpoint
            for record in records
        ):
            say(
                f"Checkpoint {killed.checkpoint} is whole again in cache: {VICTIM}'s part of it, which "
                "existed nowhere any more, was rebuilt from those of the others."
            )
            return
        time.sleep(POLL_S)


def newest_checkpoint(prefix: str) -> Optional[flush.FlushEntry]:
    """Return the newest checkpoint in the flush file, None if there is none."""
    try:
        tree = kvtree.read(paths.flush_file(prefix))
    except FileNotFoundError:
        return None
    newest = flush.list_ckpt(tree)
    return flush.entry(tree, newest[0]) if newest else None


def prove(directory: str, prefix: str, reference: str) -> dict[str, float]:
    """Check what the demo promises and say so; returns the seconds of the job's phases.

    Raises:
        DemoError: something is not as promised.
    """
    with open(os.path.join(directory, "killed.json"), encoding="utf-8") as file:
        killed = Killed(**json.load(file))
    require(killed.location == flush.CACHE, "before the death the checkpoint was in cache only")

    with open(reference, "rb") as one, open(os.path.join(directory, "result.npy"), "rb") as two:
        require(one.read() == two.read(), "the final field is bit for bit that of the reference")

    records = [r for r in scrlog.iter_file(scrlog.log_path(prefix)) if r.get("type") == "event"]
    labels = [record["label"] for record in records]
    require(labels.count("RUN_START") == 2, "there were two runs")
    second = records[labels.index("RUN_END") :]
    rebuilt = [r["dset"] for r in second if r["label"] == "REBUILD_SUCCESS"]
    restarted = [r for r in second if r["label"] == "RESTART_SUCCESS"]
    require(
        [r["dset"] for r in restarted] == [max(rebuilt, default=0)] != [0],
        f"the second run restarted from checkpoint {max(rebuilt, default=0)}, rebuilt in cache",
    )
    require(max(rebuilt) >= killed.checkpoint, "no protected checkpoint was lost")
    require(
        not any(label.startswith(("FETCH", "FLUSH")) for label in labels),
        "nothing was fetched from the prefix, and nothing was ever flushed to it",
    )

    say("What the job left in the prefix directory (scr_index --list):")
    call([os.path.join(BIN, "scr_index"), "--prefix", prefix, "--list"], environment({}), prefix)
    state = job_state(prefix)
    first, last = state["runs"][0], state["runs"][-1]
    require(
        VICTIM in first["nodes"] and VICTIM not in last["nodes"], f"{VICTIM} was not used again"
    )
    require(state["outcome"]["code"] == 0, "scr_run ended with exit code 0")
    return {
        "until_death": killed.when - first["launched"],
        "death_to_control": first["ended"] - killed.when,
        "control_to_relaunch": last["launched"] - first["ended"],
        "rebuild": restarted[0]["secs"],
        "second_run": last["ended"] - last["launched"],
    }


def require(claim: bool, text: str) -> None:
    """Print a claim that holds.

    Raises:
        DemoError: it does not.
    """
    if not claim:
        raise DemoError(f"not true: {text}")
    print(f"    proved: {text}", flush=True)


def job_state(prefix: str) -> dict[str, Any]:
    """Return what scr_run has written about the job."""
    (directory,) = [
        entry.path
        for entry in os.scandir(paths.scr_dir(prefix))
        if entry.name.startswith("scrjob.") and entry.is_dir()
    ]
    with open(os.path.join(directory, "state.json"), encoding="utf-8") as file:
        state: dict[str, Any] = json.load(file)
    return state


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(description="a node dies, the job goes on")
    parser.add_argument("--directory", default=os.path.join(ROOT, "demo-out"), help="where to work")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    directory = os.path.abspath(options.directory)
    if options.inside:
        return inside(directory)
    try:
        phases = outside(directory)
    except (DemoError, OSError, subprocess.TimeoutExpired) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    with open(os.path.join(directory, "phases.json"), "w", encoding="utf-8") as file:
        json.dump({name: round(seconds, 3) for name, seconds in phases.items()}, file, indent=1)
    say("Seconds: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items()))
    print(f"    All of it is left in {directory} for a look.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
