# SPDX-License-Identifier: BSD-3-Clause
"""A program that makes four checkpoints ckpt.1 to ckpt.4 and ends: ``four_checkpoints.py [COUNT]``."""

from __future__ import annotations

import os
import sys

from mpi4py import MPI

import scrjob.client as scr


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    rank = MPI.COMM_WORLD.rank
    scr.init()
    for number in range(1, count + 1):
        scr.start_output(f"ckpt.{number}", scr.SCR_FLAG_CHECKPOINT)
        path = scr.route_file(
            os.path.join(os.environ["SCR_PREFIX"], f"ckpt.{number}", f"rank_{rank}.ckpt")
        )
        with open(path, "wb") as file:
            file.write(bytes([rank, number]) * 2048)
        scr.complete_output(True)
    scr.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
