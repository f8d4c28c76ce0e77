# SPDX-License-Identifier: BSD-3-Clause
"""The heat equation under scr_run in an allocation of the rig, as the scenarios need it."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from rig import Rig, Running
from scrjob import scrlog
from scrjob.formats import flush, kvtree, paths

HEAT2D = Path(__file__).parents[2] / "examples" / "heat2d" / "heat2d.py"
USED = 4
RANKS = 8
LIMIT_S = 60.0
POLL_S = 0.02

SETTINGS = {
    "SCR_CACHE_BYPASS": "0",
    "SCR_CACHE_SIZE": "2",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_RUNS": "4",
    "SCR_LOG_ENABLE": "1",
    "SCR_LOG_SYSLOG_ENABLE": "0",
    "SCR_HALT_GRACE": "20",
}


def heat2d(
    output: str, *, steps: int, every: int, pace_s: float = 0.0, size: int = 128
) -> list[str]:
    """Return the command line of the program."""
    return [
        *(sys.executable, "-m", "mpi4py", str(HEAT2D), "--output", output),
        *("--size", str(size), "--steps", str(steps), "--every", str(every), "--pace", str(pace_s)),
    ]


class HeatJob:
    """One allocation with one scr_run in it.

    Args:
        rig: where.
        directory: new, on the shared file system; the prefix is below it.
        nodes: of the allocation.
        settings: on top of SETTINGS.
        steps, every, pace_s, size: of the program.
    """

    def __init__(
        self,
        rig: Rig,
        directory: Path,
        *,
        nodes: int = 5,
        settings: Optional[Mapping[str, str]] = None,
        steps: int = 120,
        every: int = 10,
        pace_s: float = 0.04,
        size: int = 128,
    ) -> None:
        self.rig = rig
        self.directory = directory
        self.prefix = directory / "prefix"
        self.prefix.mkdir(parents=True)
        self.output = directory / "field.npy"
        self.nodes = nodes
        self.program = {"steps": steps, "every": every, "size": size}
        self.settings = {**SETTINGS, "SCR_PREFIX": str(self.prefix), **(settings or {})}
        self.command = [
            *("scr_run", "srun", "-N", str(USED), "-n", str(RANKS), "--mpi=pmix"),
            *heat2d(str(self.output), pace_s=pace_s, **self.program),
        ]
        self.running: Optional[Running] = None

    def start(self, options: Sequence[str] = ()) -> HeatJob:
        """Start it in an allocation of its own, under salloc."""
        with open(self.directory / "out", "wb") as out, open(self.directory / "err", "wb") as err:
            self.running = self.rig.salloc_start(
                *(self.nodes, self.command, ("--exclusive", *options)),
                cwd=str(self.prefix),
                environ=self.settings,
                stdout=out,
                stderr=err,
            )
        return self

    @property
    def said(self) -> str:
        """What scr_run and the programs have said on stderr so far."""
        return (self.directory / "err").read_text("utf-8", "replace")

    @property
    def printed(self) -> str:
        """What the programs have said on stdout so far."""
        return (self.directory / "out").read_text("utf-8", "replace")

    def wait_until(self, question: Any, what: str, limit_s: float = 60.0) -> Any:
        """Return the first true answer; fail when it takes too long or the job ends before."""
        assert self.running is not None
        end = time.monotonic() + limit_s
        while True:
            over = self.running.popen.poll() is not None
            answer = question()
            if answer:
                return answer
            assert not over, f"ended before {what}:\n{self.said}"
            assert time.monotonic() < end, f"not within {limit_s} s: {what}\n{self.said}"
            time.sleep(POLL_S)

    def wait_said(self, text: str, limit_s: float = 60.0) -> None:
        """Wait until scr_run has said something."""
        self.wait_until(lambda: text in self.said, text, limit_s)

    def wait_dataset(self, number: int, location: str = "") -> None:
        """Wait until a dataset is complete, and where it is to be."""

        def there() -> bool:
            newest = newest_dataset(self.prefix)
            return newest is not None and (
                newest.id > number
                or (newest.id == number and (not location or location in newest.locations))
            )

        self.wait_until(there, f"dataset {number} {location}")

    def wait_writing(self, host: str, number: int) -> None:
        """Wait until a node begins to write a dataset."""
        root = f"/proc/{self.rig.init_of(host)}/root/dev/shm"
        pattern = f"{root}/*/scr.*/scr.dataset.{number}"
        self.wait_until(lambda: glob.glob(pattern), f"dataset {number} being written")

    def end(self, limit_s: float = LIMIT_S) -> int:
        """Wait for the end; returns the exit code."""
        assert self.running is not None
        try:
            return int(self.running.wait(limit_s))
        except subprocess.TimeoutExpired:
            self.running.end()
            raise AssertionError(f"not ended within {limit_s} s:\n{self.said}") from None

    def state(self) -> dict[str, Any]:
        """Return what scr_run has written about the job."""
        (path,) = glob.glob(str(self.prefix / ".scr" / "scrjob.*" / "state.json"))
        with open(path, encoding="utf-8") as file:
            state: dict[str, Any] = json.load(file)
        return state

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs so far."""
        runs: list[dict[str, Any]] = self.state()["runs"]
        return runs

    def labels(self) -> list[str]:
        """Return the labels of the events in SCR's log."""
        records = scrlog.iter_file(scrlog.log_path(str(self.prefix)))
        return [record["label"] for record in records if record.get("type") == "event"]

    def dataset_of_restart(self) -> list[int]:
        """Return the datasets from which runs restarted, in order."""
        records = scrlog.iter_file(scrlog.log_path(str(self.prefix)))
        return [record["dset"] for record in records if record.get("label") == "RESTART_SUCCESS"]

    def is_right(self) -> bool:
        """Tell whether the field is bit for bit that of an undisturbed run on one process."""
        reference = self.directory / "reference.npy"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SCR_")}
        subprocess.run(
            heat2d(str(reference), **self.program),
            env={**environ, "SCR_ENABLE": "0"},
            cwd=self.directory,
            check=True,
            timeout=LIMIT_S,
            stdout=subprocess.DEVNULL,
        )
        return reference.read_bytes() == self.output.read_bytes()


def newest_dataset(prefix: Path) -> Optional[flush.FlushEntry]:
    """Return the newest checkpoint in the flush file, None if there is none."""
    try:
        tree = kvtree.read(paths.flush_file(str(prefix)))
    except FileNotFoundError:
        return None
    newest = flush.list_ckpt(tree)
    return flush.entry(tree, newest[0]) if newest else None
