# SPDX-License-Identifier: BSD-3-Clause
"""How fast the client protects and rebuilds over messages: 4 ranks of 100 MB in /dev/shm.

``measure`` starts itself under ``mpiexec``; all ranks share the processors of this machine, and wait for
messages by spinning. The schemes take turns, so that all meet the same load.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from scrjob.client.encode import Place
    from scrjob.client.team import Team

RANKS = 4
MB = 1_000_000
SIZE = 100 * MB  # of each rank's file
PIECE = 1 << 20  # bytes: the default of SCR_MPI_BUF_SIZE
WORKS = {"XOR": (1,), "PARTNER": (1, 3), "RS": (1, 2)}  # the ranks that are lost
LIMIT_S = 600


def measure(size: int, repeat: int) -> dict[str, float]:
    """Return the median seconds to encode and to rebuild with each scheme, and the most memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="scrjob-bench-", dir="/dev/shm") as scratch:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "mpiexec"), "-n", str(RANKS)),
                *(sys.executable, "-m", "mpi4py", "-m", "benchmarks.client"),
                *(scratch, str(size), str(repeat)),
            ],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            timeout=LIMIT_S,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Be one rank; the first prints the figures."""
    from mpi4py import MPI

    from scrjob.client.encode import Place
    from scrjob.client.team import Team

    scratch, size, repeat = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    comm = MPI.COMM_WORLD
    team = Team(comm, f"node{comm.rank}")
    place = Place(f"{scratch}/{team.hostname}/scr.dataset.1", "reddesc")
    taken: dict[str, list[float]] = {}
    for _ in range(repeat):
        for kind, lost in WORKS.items():
            for name, spent in one_round(team, place, kind, lost, size).items():
                taken.setdefault(name, []).append(spent)
    memory = comm.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, MPI.MAX) / 1024
    if comm.rank == 0:
        medians = {name: statistics.median(values) for name, values in taken.items()}
        print(json.dumps({**medians, "memory of a rank": memory}))


def one_round(
    team: Team, place: Place, kind: str, lost: tuple[int, ...], size: int
) -> dict[str, float]:
    """Write a file, protect it, lose the files of some ranks, make them again; return the seconds."""
    from scrjob.client import scheme
    from scrjob.client.encode import protect
    from scrjob.client.rebuild import make_whole

    path = f"{place.dataset}/rank_{team.rank}"
    true = os.urandom(1 << 16)

    def wipe() -> None:
        shutil.rmtree(place.dataset, ignore_errors=True)
        os.makedirs(place.path(""))

    def timed(work: Callable[..., Any], *args: object) -> float:
        team.comm.barrier()
        began = time.perf_counter()
        work(*args)
        team.comm.barrier()
        return time.perf_counter() - began

    wipe()
    with open(path, "wb") as file:
        file.writelines(true[: size - start] for start in range(0, size, len(true)))
    chosen = scheme.form(team, scheme.Wish(kind, RANKS))
    found = {f"{kind}, encode": timed(protect, team, chosen, place, [path], PIECE)}
    chosen.comm.Free()
    if team.rank in lost:
        wipe()
    found[f"{kind}, rebuild {len(lost)}"] = timed(make_whole, team, place, PIECE)
    with open(path, "rb") as file:
        if file.read(len(true)) != true[:size] or os.path.getsize(path) != size:
            sys.exit(f"benchmark: {kind} has restored rank {team.rank} wrongly")
    wipe()
    return found


if __name__ == "__main__":
    main()
