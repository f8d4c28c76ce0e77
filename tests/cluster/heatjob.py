# SPDX-License-Identifier: BSD-3-Clause
"""The heat equation under scr_run in an allocation of the rig, as the scenarios need it."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Optional, Sequence

from rig import Rig
from rigjob import LIMIT_S, LOGGED, RigJob
from scrjob.formats import flush, kvtree, paths

HEAT2D = Path(__file__).parents[2] / "examples" / "heat2d" / "heat2d.py"
USED = 4
RANKS = 8

SETTINGS = {
    "SCR_CACHE_BYPASS": "0",
    "SCR_CACHE_SIZE": "2",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_RUNS": "4",
    **LOGGED,
    "SCR_HALT_GRACE": "20",
}


def heat2d(
    output: str, *, steps: int, every: int, pace_s: float = 0.0, size: int = 128
) -> list[str]:
    """Return the command line of the program.

    Coverage is not measured in its ranks: starting it costs each of them a tenth of a second of CPU.
    """
    return [
        *("env", "-u", "COVERAGE_PROCESS_CONFIG"),
        *(sys.executable, "-m", "mpi4py", str(HEAT2D), "--output", output),
        *("--size", str(size), "--steps", str(steps), "--every", str(every), "--pace", str(pace_s)),
    ]


class HeatJob(RigJob):
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
        self.output = directory / "field.npy"
        self.nodes = nodes
        self.program = {"steps": steps, "every": every, "size": size}
        command = [
            *("scr_run", "srun", "-N", str(USED), "-n", str(RANKS), "--mpi=pmix"),
            *heat2d(str(self.output), pace_s=pace_s, **self.program),
        ]
        prefix = directory / "prefix"
        super().__init__(rig, directory, prefix, command, {**SETTINGS, **(settings or {})})
        prefix.mkdir(parents=True, exist_ok=True)

    def start(self, options: Sequence[str] = ()) -> HeatJob:
        """Start it in an allocation of its own, under salloc."""
        self.under_salloc(self.nodes, ["--exclusive", *options], self.prefix, "out")
        return self

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

    def labels(self) -> list[str]:
        """Return the labels of the events in SCR's log."""
        return [record["label"] for record in self.records() if record.get("type") == "event"]

    def dataset_of_restart(self) -> list[int]:
        """Return the datasets from which runs restarted, in order."""
        return [r["dset"] for r in self.records() if r.get("label") == "RESTART_SUCCESS"]

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
