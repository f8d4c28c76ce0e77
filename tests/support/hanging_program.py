# SPDX-License-Identifier: BSD-3-Clause
"""Six checkpoints; in its first run it hangs after two: ``hanging_program.py all|one|slow|long``.

``slow`` hangs nowhere, it only takes its time before the first checkpoint; nor does ``long``, whose third
checkpoint takes long to write.
"""

from __future__ import annotations

import os
import sys
import time

from mpi4py import MPI

import scrjob.client as scr

COUNT = 6
SLOW_S = 4.0
LONG_S = 5.0


def stuck_here() -> None:
    time.sleep(1000)


def write(path: str, number: int, seconds: float) -> None:
    """Write a file bit by bit, all the time until so many seconds are over."""
    end = time.monotonic() + seconds
    with open(path, "wb", buffering=0) as file:
        file.write(bytes([number]) * 1000)
        while time.monotonic() < end:
            file.write(bytes([number]))
            time.sleep(0.05)


def main() -> int:
    how = sys.argv[1]
    prefix = os.environ["SCR_PREFIX"]
    comm = MPI.COMM_WORLD
    first_run = not os.path.exists(os.path.join(prefix, "ran"))
    comm.Barrier()
    if comm.rank == 0:
        with open(os.path.join(prefix, "ran"), "w", encoding="ascii"):
            pass
    scr.init()
    done = 0
    name = scr.have_restart()
    if name:
        scr.start_restart()
        done = int(name.partition(".")[2])
        path = scr.route_file(os.path.join(prefix, f"{name}.{comm.rank}"))
        scr.complete_restart(os.path.exists(path))
    elif how == "slow":
        time.sleep(SLOW_S)
    for number in range(done + 1, COUNT + 1):
        scr.start_output(f"ckpt.{number}")
        path = scr.route_file(os.path.join(prefix, f"ckpt.{number}.{comm.rank}"))
        write(path, number, LONG_S if how == "long" and number == 3 else 0.0)
        scr.complete_output(True)
        if first_run and number == 2 and (how == "all" or (how == "one" and comm.rank == 1)):
            stuck_here()
    scr.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
