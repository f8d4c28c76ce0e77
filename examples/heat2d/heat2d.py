# SPDX-License-Identifier: BSD-3-Clause
"""The 2-D heat equation on a square plate, in parallel, with checkpoints.

The plate is cut into rectangles, one for each MPI rank; neighbours exchange their border rows and
columns before each step (halo exchange). Each cell is computed by the same operations in the same
order whatever the cut, so the final field does not depend on the number of ranks, nor on how often
the program was stopped and started again.

Every ``--every`` steps each rank writes its rectangle through ``scrjob.client``, which keeps it in
node-local storage and protects it against the loss of a node. Started again, the program goes on
from the newest checkpoint that is left anywhere.

    mpiexec -n 4 python -m mpi4py heat2d.py --size 256 --steps 200 --output field.npy

``-m mpi4py`` makes an exception in one rank end all of them; without it the others would wait for
the dead one for ever.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Optional, Sequence

import numpy as np
from mpi4py import MPI

import scrjob.client as scr

DIFFUSION = 0.2  # time step times conductivity over cell size squared; stable below 0.25
HOT = 100.0  # temperature of the upper edge; the other edges are kept at 0


class Plate:
    """One rank's rectangle of the plate, with a border one cell wide for the neighbours' values."""

    def __init__(self, comm: MPI.Intracomm, size: int) -> None:
        self.comm = comm.Create_cart(MPI.Compute_dims(comm.size, 2))
        self.size = size
        (rows, columns), _, (row, column) = self.comm.Get_topo()
        self.top, self.bottom = size * row // rows, size * (row + 1) // rows
        self.left, self.right = size * column // columns, size * (column + 1) // columns
        self.field = np.zeros((self.bottom - self.top + 2, self.right - self.left + 2))
        if row == 0:
            self.field[0, :] = HOT
        self.up, self.down = self.comm.Shift(0, 1)
        self.before, self.after = self.comm.Shift(1, 1)

    @property
    def inner(self) -> np.ndarray:
        """The rank's own cells."""
        return self.field[1:-1, 1:-1]

    def exchange(self) -> None:
        """Fill the border with the neighbours' values; the plate's own edges stay as they are."""
        self._swap(self.field[1, :], self.up, self.field[-1, :], self.down)
        self._swap(self.field[-2, :], self.down, self.field[0, :], self.up)
        self._swap(self.field[:, 1], self.before, self.field[:, -1], self.after)
        self._swap(self.field[:, -2], self.after, self.field[:, 0], self.before)

    def _swap(self, mine: np.ndarray, to: int, theirs: np.ndarray, source: int) -> None:
        received = np.empty_like(theirs)
        self.comm.Sendrecv(np.ascontiguousarray(mine), to, 0, received, source, 0)
        if source != MPI.PROC_NULL:
            theirs[:] = received

    def step(self) -> None:
        """Advance by one time step."""
        self.exchange()
        field = self.field
        sides = (field[:-2, 1:-1] + field[2:, 1:-1]) + (field[1:-1, :-2] + field[1:-1, 2:])
        self.inner[:] += DIFFUSION * (sides - 4.0 * self.inner)

    def save(self, path: str) -> None:
        """Write the rank's own cells."""
        with open(path, "wb") as file:
            np.save(file, self.inner)

    def load(self, path: str) -> None:
        """Read the rank's own cells.

        Raises:
            ValueError: the file is of another plate or another cut.
        """
        cells = np.load(path)
        if cells.shape != self.inner.shape:
            raise ValueError(f"{path}: expected cells {self.inner.shape}, got {cells.shape}")
        self.inner[:] = cells

    def collect(self) -> Optional[np.ndarray]:
        """Return the whole field on rank 0, None on the others."""
        place = (slice(self.top, self.bottom), slice(self.left, self.right))
        parts = self.comm.gather((place, self.inner.copy()))
        if parts is None:
            return None
        whole = np.empty((self.size, self.size))
        for where, cells in parts:
            whole[where] = cells
        return whole


def restart(plate: Plate) -> int:
    """Load the newest checkpoint that every rank can read; returns its step, 0 for a fresh start."""
    while True:
        with scr.restart() as checkpoint:
            if not checkpoint:
                return 0
            step = int(checkpoint.name.rpartition(".")[2])
            try:
                plate.load(checkpoint.route(file_name(checkpoint.name, plate.comm.rank)))
            except (OSError, ValueError) as error:
                print(f"rank {plate.comm.rank}: {error}", file=sys.stderr, flush=True)
                checkpoint.valid = False
        if checkpoint.valid:  # now the answer of all ranks together
            return step


def write_checkpoint(plate: Plate, step: int) -> None:
    """Write a checkpoint. A write that fails costs this checkpoint, not the run."""
    with scr.checkpoint(f"heat.{step}") as checkpoint:
        try:
            plate.save(checkpoint.route(file_name(checkpoint.name, plate.comm.rank)))
        except OSError as error:
            print(f"rank {plate.comm.rank}: {error}", file=sys.stderr, flush=True)
            checkpoint.valid = False


def file_name(checkpoint: str, rank: int) -> str:
    """Return where a rank's file belongs in the prefix directory."""
    return os.path.join(scr.config("SCR_PREFIX") or "", checkpoint, f"rank_{rank}.npy")


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="2-D heat equation with checkpoints")
    parser.add_argument("--size", type=int, default=256, help="cells along one side of the plate")
    parser.add_argument("--steps", type=int, default=200, help="time steps in all")
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints; 0: none")
    parser.add_argument(
        "--pace", type=float, default=0.0, help="least seconds for a step, so that a demo lasts"
    )
    parser.add_argument("--output", default="field.npy", help="file for the final field")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; returns its exit code."""
    options = parse(argv)
    try:
        return simulate(options)
    except scr.ScrError as error:  # the same on all ranks, so all of them end here
        if MPI.COMM_WORLD.rank == 0:
            print(f"heat2d: {error}", file=sys.stderr)
        return error.exit_code


def simulate(options: argparse.Namespace) -> int:
    """Compute from the newest checkpoint to the end; returns the exit code."""
    scr.init(MPI.COMM_WORLD)
    plate = Plate(MPI.COMM_WORLD, options.size)
    step = restart(plate)
    is_first = plate.comm.rank == 0
    if is_first:
        print(f"heat2d: {plate.comm.size} ranks, from step {step} to {options.steps}", flush=True)
    while step < options.steps:
        began = time.monotonic()
        plate.step()
        step += 1
        if options.every and step % options.every == 0 and scr.need_checkpoint():
            write_checkpoint(plate, step)
            if scr.should_exit():
                break
        time.sleep(max(0.0, options.pace - (time.monotonic() - began)))
    if step == options.steps:
        field = plate.collect()
        if field is not None:
            with open(options.output, "wb") as file:
                np.save(file, field)
            print(f"heat2d: step {step}, mean temperature {field.mean():.6f}", flush=True)
    elif is_first:
        print(f"heat2d: asked to stop at step {step}", flush=True)
    scr.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
