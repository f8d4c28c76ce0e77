# SPDX-License-Identifier: BSD-3-Clause
"""The program that tests run on nodes: restarts, writes checkpoints, checks every byte it reads.

    client_program.py FIRST COUNT [--bytes N] [--old-bytes N] [--fail RANK] [--report PATH] [--alike]

Writes checkpoints ckpt.FIRST, ckpt.FIRST+1, ...; FIRST 0 goes on after the one that it restarted from.
Rank 0 reports as JSON where it restarted and which writes were good. Files differ in number and size
from rank to rank; the last rank has none. ``--alike``: ranks use the same base names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys

from mpi4py import MPI

import scrjob.client as scr


def names(checkpoint: str, rank: int, size: int, alike: bool = False) -> list[str]:
    count = 0 if rank == size - 1 else 1 + rank % 3
    if alike:
        return [f"{checkpoint}/rank_{rank}/{number}.dat" for number in range(count)]
    return [f"{checkpoint}/rank_{rank}.{number}.dat" for number in range(count)]


def content(name: str, most: int) -> bytes:
    seed = hashlib.sha256(name.encode()).digest()
    length = (most * (1 + seed[0] % 7)) // 7 + seed[1] if seed[2] % 8 else 0
    return (seed * (length // len(seed) + 1))[:length]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--bytes", type=int, default=5000)
    parser.add_argument("--old-bytes", type=int, default=5000)
    parser.add_argument("--fail", type=int, default=-1)
    parser.add_argument("--report", default="report.json")
    parser.add_argument("--alike", action="store_true")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    scr.init()
    prefix = scr.config("SCR_PREFIX") or ""
    found = None
    with scr.restart() as old:
        if old:
            found = old.name
            for name in names(old.name, comm.rank, comm.size, options.alike):
                with open(old.route(os.path.join(prefix, name)), "rb") as file:
                    if file.read() != content(name, options.old_bytes):
                        print(f"rank {comm.rank}: {name} is wrong", file=sys.stderr)
                        old.valid = False
    if found is not None and not old.valid:
        print(f"restart from {found} failed", flush=True)
    if options.first == 0:
        options.first = 1 if found is None else int(found.rpartition(".")[2]) + 1
        if comm.rank == 0:
            print(f"restart: {options.first - 1}", flush=True)
    good = []
    for number in range(options.first, options.first + options.count):
        with scr.checkpoint(f"ckpt.{number}") as new:
            for name in names(new.name, comm.rank, comm.size, options.alike):
                try:
                    with open(new.route(os.path.join(prefix, name)), "wb") as file:
                        file.write(content(name, options.bytes))
                except OSError:
                    new.valid = False
            if options.fail == comm.rank:
                raise RuntimeError("as asked")
        good.append(new.valid)
    if comm.rank == 0:
        with open(os.path.join(prefix, options.report), "w", encoding="utf-8") as file:
            json.dump({"restart": found, "valid": old.valid, "good": good}, file)
    scr.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
