# SPDX-License-Identifier: BSD-3-Clause
"""Measure: ``make bench``, or ``.venv/bin/python -m benchmarks [--quick] [GROUP ...]``.

Prints a table and writes the same figures to ``benchmarks/results/``; docs/benchmarks.md says what they
mean.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
PHASES = HERE.parent / "demo-out" / "phases.json"
MIB = 1 << 20
QUICK = 3  # repetitions


class Figure(NamedTuple):
    """One measured value; ``aim`` is a text, "" for none."""

    group: str
    name: str
    value: float
    unit: str
    aim: str = ""


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Return the median of ``repeat`` runs of ``work``."""
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# --- start-up ---


def sample_prefix(prefix: str) -> None:
    """Make a prefix directory with a halt file and ten datasets in the index."""
    from scrjob.formats.index import Index

    os.mkdir(os.path.join(prefix, ".scr"))
    index = Index()
    for number in range(1, 11):
        index.mark_flushed(number, f"ckpt.{number}", "2026-01-02T03:04:05")
    index.write(os.path.join(prefix, ".scr", "index.scr"))
    argv = [str(BIN / "scr_halt"), "-c", "10", prefix]
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def bench_startup(repeat: int) -> list[Figure]:
    """Commands alternate with a bare interpreter, so that both meet the same load."""
    commands = {
        "scr_should_exit": ["scr_should_exit"],
        "scr_halt -l": ["scr_halt", "-l"],
        "scr_index --list": ["scr_index", "--list"],
    }
    with tempfile.TemporaryDirectory(prefix="scrjob-bench-") as prefix:
        sample_prefix(prefix)
        environ = {**os.environ, "SCR_PREFIX": prefix, "SCR_NODELIST": "node[1-4]"}
        argvs = {"bare interpreter": [sys.executable, "-c", "pass"]}
        argvs.update({name: [str(BIN / argv[0]), *argv[1:]] for name, argv in commands.items()})
        taken: dict[str, list[float]] = {name: [] for name in argvs}
        for _ in range(repeat):
            for name, argv in argvs.items():
                began = time.perf_counter()
                subprocess.run(
                    argv,
                    cwd=prefix,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
                taken[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    bare = medians.pop("bare interpreter")
    figures = [Figure("start-up", "bare interpreter", bare * 1e3, "ms")]
    for name, median in medians.items():
        figures.append(Figure("start-up", name, median * 1e3, "ms"))
        figures.append(Figure("start-up", f"{name}, times bare", median / bare, "x", "<= 6"))
    return figures


# --- data ---


def bench_kvtree(repeat: int) -> list[Figure]:
    """A tree of 1,000 keys with 100 values each."""
    from scrjob.formats import kvtree

    tree = kvtree.KVTree()
    for i in range(1000):
        for j in range(100):
            tree.add(f"FILE{i}", f"/p/scratch/alice/run/ckpt.{i}/rank_{j}.ckpt")
    image = kvtree.encode(tree)
    megabytes = len(image) / MIB
    return [
        Figure(
            "kvtree", "decode", megabytes / seconds(lambda: kvtree.decode(image), repeat), "MiB/s"
        ),
        Figure(
            "kvtree", "encode", megabytes / seconds(lambda: kvtree.encode(tree), repeat), "MiB/s"
        ),
        Figure("kvtree", "size", megabytes, "MiB"),
    ]


def bench_hostlist(repeat: int) -> list[Figure]:
    """100,000 shuffled names, ours and ClusterShell's."""
    from ClusterShell.NodeSet import NodeSet

    from scrjob import hostlist

    names = [f"node{i:06d}" for i in range(100_000)]
    folded = hostlist.compress_hosts(names)
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    comma = ",".join(shuffled)
    measured = {
        "expand": lambda: hostlist.expand_hosts(folded),
        "fold, sorted": lambda: hostlist.compress_hosts(names),
        "fold, shuffled": lambda: hostlist.compress_hosts(shuffled),
        "difference": lambda: hostlist.diff_hosts(names, shuffled[:50_000]),
        "ClusterShell expand": lambda: list(NodeSet(folded)),
        "ClusterShell fold, shuffled": lambda: str(NodeSet(comma)),
    }
    aim = {name: "" if name.startswith("Cluster") else "< 1" for name in measured}
    return [
        Figure("hostlist 100,000", name, seconds(work, repeat), "s", aim[name])
        for name, work in measured.items()
    ]


def bench_redundancy(repeat: int) -> list[Figure]:
    """A lost rank of four made again, from memory and from files."""
    from benchmarks.redundancy import measure

    return [Figure("redundancy", *row) for row in measure(repeat)]


def bench_client(repeat: int) -> list[Figure]:
    """The client's redundancy over messages, by real MPI."""
    from benchmarks import client

    size = client.SIZE if repeat > QUICK else client.SIZE // 50
    return [
        Figure("client", name, value, "MiB" if "memory" in name else "s")
        for name, value in client.measure(size, min(repeat, 5)).items()
    ]


def bench_copy(repeat: int) -> list[Figure]:
    """The copy on a node: one rank of 267 MB, and the start; a fiftieth of it when it is to be quick."""
    from benchmarks import copy

    units = {"times cp": "x", "memory": "MiB"}
    aims = {"start": "< 0.08", "memory": "< 64"}
    started = copy.measure_start(repeat)
    figures = [
        Figure("copy", name, value, "s", aims.get(name, "")) for name, value in started.items()
    ]
    size = copy.RANK_BYTES if repeat > QUICK else copy.RANK_BYTES // 50
    for place, most in ((Path("/dev/shm"), "<= 1.3"), (Path(tempfile.gettempdir()), "<= 1.15")):
        for name, value in copy.measure(place, min(repeat, 9), size).items():
            aim = most if name == "times cp" else aims.get(name, "")
            figures.append(Figure("copy", f"{place}: {name}", value, units.get(name, "s"), aim))
    return figures


def bench_remoteexec(repeat: int) -> list[Figure]:
    """One command on 1,000 nodes, and the tools beneath our back ends alone."""
    from benchmarks.remoteexec import measure

    return [
        Figure("1,000 nodes over ssh", name, value, "s", "" if " " in name else "< 5")
        for name, value in measure(min(repeat, 5)).items()
    ]


def bench_manyfiles(repeat: int) -> list[Figure]:
    """Very many files, ranks and datasets; a hundredth of them when it is to be quick."""
    from benchmarks import manyfiles

    few = 1 if repeat > QUICK else 100
    to = Path(tempfile.gettempdir())
    measured = manyfiles.measure_index(10_000 // few, min(repeat, 5))
    measured.update(manyfiles.measure_files(100_000 // few, to, min(repeat, 5)))
    measured.update(manyfiles.measure_ranks(100_000 // few, to))
    aims = {"memory": ("MiB", "< 500"), "times cp": ("x", "<= 1.5"), "scr_index": ("s", "< 0.5")}
    return [
        Figure("very many", name, value, *next((aims[k] for k in aims if k in name), ("s", "")))
        for name, value in measured.items()
    ]


def bench_demo(repeat: int) -> list[Figure]:
    """Read what the last demo wrote."""
    del repeat
    if not PHASES.exists():
        print(f"bench: no {PHASES}; run make demo for its phases", file=sys.stderr)
        return []
    phases = json.loads(PHASES.read_text("utf-8"))
    return [Figure("demo", name, value, "s") for name, value in phases.items()]


GROUPS = {
    "startup": bench_startup,
    "kvtree": bench_kvtree,
    "hostlist": bench_hostlist,
    "redundancy": bench_redundancy,
    "client": bench_client,
    "copy": bench_copy,
    "remoteexec": bench_remoteexec,
    "manyfiles": bench_manyfiles,
    "demo": bench_demo,
}


def show(figures: Sequence[Figure]) -> None:
    """Print one line for each figure."""
    width = max(len(figure.name) for figure in figures)
    group = None
    for figure in figures:
        if figure.group != group:
            group = figure.group
            print(f"\n{group}")
        print(f"  {figure.name:{width}}  {figure.value:12.3f} {figure.unit:6} {figure.aim}")


def keep(figures: Sequence[Figure], results: Path) -> Path:
    """Write the figures and where they come from into a directory; returns the file."""
    now = dt.datetime.now(dt.timezone.utc)
    results.mkdir(exist_ok=True)
    path = results / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    about = {
        "when": now.isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "figures": [figure._asdict() for figure in figures],
    }
    path.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return path


def main() -> None:
    """Measure the groups that are named, all by default."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="measure scrjob")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="DIR")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}")
    repeat = QUICK if options.quick else 15
    figures = [f for name in options.groups or GROUPS for f in GROUPS[name](repeat)]
    if figures:
        show(figures)
        print(f"\nwritten to {keep(figures, options.results)}")


if __name__ == "__main__":
    main()
