# SPDX-License-Identifier: BSD-3-Clause
"""How fast redundancy is computed: one lost rank of four made again, from memory and from files.

What is compared takes turns, so that all meet the same load.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from scrjob.formats.redset_header import Descriptor
from scrjob.redundancy import combine, isal, kernels
from scrjob.redundancy.schemes import scheme_for
from scrjob.redundancy.shape import Outputs, Shape, Share

MEMBERS = 4
MB = 1_000_000


class Memory:
    """Bytes in memory as a source and a sink. Copies by NumPy, which lets other threads run."""

    def __init__(self, size: int, seed: int = -1) -> None:
        """Make ``size`` bytes, random ones for a seed."""
        if seed < 0:
            self.data = np.zeros(size, dtype=np.uint8)
        else:
            self.data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)

    def readinto(self, offset: int, view: memoryview) -> None:
        """Copy from ``offset``; past the end there are zeros."""
        part = self.data[offset : offset + len(view)]
        target = np.frombuffer(view, dtype=np.uint8)
        np.copyto(target[: len(part)], part)
        target[len(part) :] = 0

    def write(self, offset: int, view: memoryview) -> None:
        """Keep what is written; past the end it is dropped."""
        part = self.data[offset : offset + len(view)]
        np.copyto(part, np.frombuffer(view[: len(part)], dtype=np.uint8))


class Group:
    """A group in memory with its first ``lost`` members lost."""

    def __init__(self, kind: str, size: int, *, parity: int = 1, lost: int = 1) -> None:
        """Make the members' data and parity."""
        place = Descriptor(kind, 1, 0, MEMBERS, 0, 0, MEMBERS, parity=parity)
        self.scheme = scheme_for(kind)
        sizes = [size] * MEMBERS
        self.shape = Shape(place, sizes, self.scheme.chunk_bytes(sizes, place))
        members = {i: Memory(size, i) for i in range(MEMBERS)}
        payload = self.scheme.payload_bytes(self.shape, 0)
        self.whole = {i: Share(data, Memory(payload)) for i, data in members.items()}
        for i, share in self.whole.items():
            combine.run(self.scheme.encode(self.shape, members, i, share.payload))
        self.shares = {i: share for i, share in self.whole.items() if i >= lost}
        self.outputs = {i: Outputs(Memory(size), Memory(payload)) for i in range(lost)}

    def rebuild(self, workers: int, multiplier: Any = None) -> None:
        """Make the lost members again."""
        tasks = self.scheme.restore(self.shape, self.shares, self.outputs)
        combine.run(tasks, workers=workers, multiplier=multiplier)

    def check(self) -> None:
        """Stop if what was made is not what was lost."""
        for i, out in self.outputs.items():
            for made, true in zip(out, self.whole[i]):
                if not (made.data == true.data).all():
                    sys.exit(f"benchmark: member {i} was restored wrongly")


def passes(group: Group) -> Callable[[], None]:
    """Return the same number of passes of ``numpy.bitwise_xor`` over buffers of the same size."""
    buffers = [share.data.data for share in group.shares.values()]
    total = np.empty_like(buffers[0])

    def work() -> None:
        # A rank's data and its parity: one chunk more than the data has.
        for part in (total, total[: group.shape.chunk]):
            np.bitwise_xor(buffers[0][: len(part)], buffers[1][: len(part)], out=part)
            np.bitwise_xor(part, buffers[2][: len(part)], out=part)

    return work


def alternately(works: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Return the median seconds of each work; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def measure_memory(size: int, repeat: int) -> dict[str, float]:
    """Return the median seconds to make a lost rank of four again, without I/O."""
    xor = Group("xor", size)
    rs = Group("rs", size, parity=2)
    works: dict[str, Callable[[], Any]] = {"numpy.bitwise_xor, same passes": passes(xor)}
    multipliers: dict[str, Any] = {"NumPy": kernels.NumpyMultiplier}
    if isal.load() is not None:
        multipliers["ISA-L"] = kernels.fastest_multiplier()
    for workers in (1, 2):
        threads = f"{workers} thread{'s'[: workers - 1]}"
        works[f"XOR, {threads}"] = lambda workers=workers: xor.rebuild(workers)
        for name, multiplier in multipliers.items():
            works[f"RS k=2, one lost, {name}, {threads}"] = (
                lambda workers=workers, make=multiplier: rs.rebuild(workers, make)
            )
    found = alternately(works, repeat)
    xor.check()
    rs.check()
    return found


def measure_files(size: int, repeat: int, scratch: str) -> dict[str, float]:
    """Return the median seconds to make a lost rank of four again, files and all."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from groupmaker import make_dataset
    from scrjob.redundancy.groups import form_groups
    from scrjob.redundancy.paths import PrefixGuard
    from scrjob.redundancy.rebuild import rebuild_files

    works: dict[str, Callable[[], Any]] = {}
    for kind in ("xor", "rs", "partner"):
        prefix = Path(scratch) / kind
        made = make_dataset(prefix, [[size]] * MEMBERS, form_groups(range(MEMBERS), 8), kind=kind)
        names = sorted(path.name for path in made.hidden.glob(f"reddesc.er.*.{kind}.*"))

        def work(made: Any = made, names: list[str] = names) -> None:
            made.parts[1][0].unlink()
            rebuild_files(str(made.hidden), names, PrefixGuard(str(made.prefix)))

        works[kind.upper()] = work
    return alternately(works, repeat)


def measure(repeat: int) -> list[tuple[str, float, str, str]]:
    """Return name, value, unit and aim of each figure; small sizes for very few repetitions."""
    size = 200 * MB if repeat > 3 else 20 * MB
    repeat = min(repeat, 9)
    seconds = measure_memory(size, repeat)
    base = seconds["numpy.bitwise_xor, same passes"]
    rows = [(name, size / taken / MB, "MB/s", "") for name, taken in seconds.items()]
    xor = seconds["XOR, 1 thread"]
    rows.append(("XOR, of numpy.bitwise_xor", base / xor, "x", ">= 0.7"))
    for name, aim in (("NumPy", ">= 0.1"), ("ISA-L", ">= 0.5")):
        if f"RS k=2, one lost, {name}, 1 thread" in seconds:
            one = seconds[f"RS k=2, one lost, {name}, 1 thread"]
            two = seconds[f"RS k=2, one lost, {name}, 2 threads"]
            rows.append((f"RS by {name}, of XOR", xor / one, "x", aim))
            rows.append((f"RS by {name}, second processor", one / two, "x", ">= 1.6"))
    rows.append(("XOR, second processor", xor / seconds["XOR, 2 threads"], "x", ">= 1.6"))
    aims = {"XOR": "< 1.1", "RS": "< 1.3", "PARTNER": ""}
    for place, parent in (("disk", None), ("tmpfs", "/dev/shm")):
        if parent is not None and not os.path.isdir(parent):
            continue
        scratch = tempfile.mkdtemp(prefix="scrjob-bench-", dir=parent)
        try:
            for kind, taken in measure_files(size, repeat, scratch).items():
                rows.append((f"{kind}, files on {place}", taken, "s", aims[kind]))
        finally:
            shutil.rmtree(scratch)
    return rows
