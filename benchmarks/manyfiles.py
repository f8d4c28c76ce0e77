# SPDX-License-Identifier: BSD-3-Clause
"""A dataset of very many small files, or of very many ranks, and an index of very many datasets.

``python -m benchmarks manyfiles`` measures all; ``python -m benchmarks.manyfiles --help`` parts of it.
The copy of the files, on four nodes at once, and the build take turns with one ``cp -r`` of all and one
``sync -f``, from tmpfs to ``--to``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

from benchmarks.copy import packed_programs

from scrjob.formats import cindex, filemap, flush, kvtree
from scrjob.formats.filemap import FileMeta
from scrjob.formats.index import Index
from scrjob.formats.kvtree import KVTree
from scrjob.formats.redset_header import (
    DATA_SET,
    MAP_SET,
    Descriptor,
    FileStat,
    Header,
    Member,
    ProtectedFile,
)
from scrjob.formats.redset_header import encode as encode_header
from scrjob.node.command import node_command
from scrjob.redundancy.encode import encode_group
from scrjob.redundancy.groups import form_groups

BIN = Path(sys.executable).parent
NODES = 4
RANKS = 8
FILE_BYTES = 4096
MIB = 1 << 20


class Cached(NamedTuple):
    """A dataset in the caches of nodes: control directories and dataset directories, and its prefix."""

    prefix: Path
    control: Sequence[Path]
    data: Sequence[Path]


def _descriptor(files: int, size: int) -> KVTree:
    return KVTree.of(
        {"ID": 1, "NAME": "ckpt.1", "FLAG_CKPT": 1, "FLAG_OUTPUT": 0, "CREATED": 1, "USER": "me"}
        | {"JOBID": "7", "CKPT": 1, "FILES": files, "SIZE": size, "COMPLETE": 1}
    )


def _flush_file(prefix: Path, files: int, size: int) -> None:
    (prefix / ".scr").mkdir(parents=True, exist_ok=True)
    tree = KVTree()
    flush.put_dataset(tree, 1, _descriptor(files, size))
    kvtree.write(str(prefix / ".scr" / "flush.scr"), tree)


def make_cache(root: Path, prefix: Path, files: int) -> Cached:
    """Write a dataset of ``files`` files of 8 ranks on 4 nodes, with XOR, below ``root``."""
    control = [root / f"node{node}" for node in range(NODES)]
    data = [directory / "scr.dataset.1" for directory in control]
    nodes = [rank * NODES // RANKS for rank in range(RANKS)]
    rng = random.Random(1)
    block = rng.randbytes(2 * FILE_BYTES)
    protected: dict[int, list[ProtectedFile]] = {}
    size = 0
    for directory in data:
        (directory / ".scr").mkdir(parents=True)
        directory.parent.chmod(0o700)
    for rank in range(RANKS):
        metas = {}
        protected[rank] = []
        for number in range(files // RANKS):
            path = data[nodes[rank]] / f"rank{rank}.{number}"
            start = rng.randrange(FILE_BYTES)
            path.write_bytes(block[start : start + FILE_BYTES - number % 100])
            stat = FileStat.from_os(path.stat())
            size += stat.size_bytes or 0
            protected[rank].append(ProtectedFile(str(path), stat))
            metas[str(path)] = FileMeta(
                *(True, RANKS, path.name, f"{prefix}/ckpt.1/rank{rank}", path.name, stat)
            )
        kvtree.write(str(data[nodes[rank]] / ".scr" / f"filemap_{rank}"), filemap.build(metas))
    groups = form_groups(nodes, NODES)
    for group in groups:
        for set_name in (MAP_SET, DATA_SET):
            members = []
            for i, rank in enumerate(group.ranks):
                files_of = protected[rank]
                if set_name == MAP_SET:
                    path = data[nodes[rank]] / ".scr" / f"filemap_{rank}"
                    files_of = [ProtectedFile(str(path), FileStat.from_os(path.stat()))]
                place = Descriptor(
                    *("xor", len(groups), group.number, len(group.ranks), i, rank, RANKS)
                )
                members.append(Member(place, tuple(files_of)))
            homes = [str(data[nodes[rank]] / ".scr") for rank in group.ranks]
            encode_group(members, set_name, locate=str, directory=homes.__getitem__)
    for directory, dataset in zip(control, data):
        tree = KVTree()
        cindex.put_dataset(
            tree, 1, path=str(dataset), is_bypass=False, descriptor=_descriptor(files, size)
        )
        kvtree.write(str(directory / "cindex.scrinfo"), tree)
    return Cached(prefix, control, data)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _settle(directory: Path) -> None:
    """Let no work of the last measurement be done in the next."""
    subprocess.run(["sync", "-f", str(directory)], check=True)


def fresh(cached: Cached) -> None:
    """Empty the prefix."""
    shutil.rmtree(cached.prefix, ignore_errors=True)
    files = sum(1 for data in cached.data for entry in os.scandir(data) if entry.is_file())
    size = sum(
        entry.stat().st_size
        for data in cached.data
        for entry in os.scandir(data)
        if entry.is_file()
    )
    _flush_file(cached.prefix, files, size)
    _settle(cached.prefix)


def copy(cached: Cached, packed: Path) -> None:
    """Copy as a scavenge does: on all nodes at once."""
    running = []
    for control in cached.control:
        argv = node_command(
            *("copy", "--cntldir", str(control), "--id", "1", "--prefix", str(cached.prefix)),
            *("--resume", "--json"),
            packed=str(packed),
        )
        running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("manyfiles: a copy failed")


def build(cached: Cached) -> None:
    """Build as a scavenge does."""
    argv = [str(BIN / "scr_index"), "--prefix", str(cached.prefix), "--build", "1", "--force"]
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def plain(cached: Cached, target: Path) -> None:
    """Do what a user without any tool would do."""
    target.mkdir()
    subprocess.run(["cp", "-r", *map(str, cached.control), str(target)], check=True)
    subprocess.run(["sync", "-f", str(target)], check=True)


def lose_rank(cached: Cached, rank: int) -> None:
    """Remove what a node that died would have taken of one rank."""
    hidden = cached.prefix / ".scr" / "scr.dataset.1"
    shutil.rmtree(cached.prefix / "ckpt.1" / f"rank{rank}")
    (hidden / f"filemap_{rank}").unlink()
    for path in hidden.glob(f"*.er.{rank}.*"):
        path.unlink()


def measure_files(files: int, to: Path, repeat: int) -> dict[str, float]:
    """Return the seconds of copy, build, both, ``cp -r`` with a sync, and a build with one rank lost."""
    taken: dict[str, list[float]] = {}
    with _scratch(Path("/dev/shm")) as source, _scratch(to) as target:
        cached = make_cache(source, target / "prefix", files)
        packed = packed_programs(target)
        for _ in range(repeat):
            fresh(cached)
            copying = _timed(lambda: copy(cached, packed))
            building = _timed(lambda: build(cached))
            _settle(target)
            lose_rank(cached, 2)
            rebuilding = _timed(lambda: build(cached))
            _settle(target)
            simply = _timed(lambda: plain(cached, target / "plain"))
            shutil.rmtree(target / "plain")
            for name, value in (
                ("copy", copying),
                ("build", building),
                ("copy and build", copying + building),
                ("build with one of 8 ranks lost", rebuilding),
                ("cp -r and sync -f", simply),
            ):
                taken.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    ratios = [a / b for a, b in zip(taken["copy and build"], taken["cp -r and sync -f"])]
    return {**medians, "copy and build, times cp": statistics.median(ratios)}


# --- very many ranks ---


def make_ranks(prefix: Path, ranks: int, *, group_size: int = 8) -> None:
    """Write the metadata of ``ranks`` ranks with one file each, as after a copy; no parity bytes."""
    hidden = prefix / ".scr" / "scr.dataset.1"
    hidden.mkdir(parents=True)
    groups = ranks // group_size
    members: list[Member] = []
    for rank in range(ranks):
        directory = prefix / "ckpt.1" / f"d{rank // 1000}"
        if rank % 1000 == 0:
            directory.mkdir(parents=True)
        path = directory / f"rank{rank}"
        path.touch()
        stat = FileStat.from_os(path.stat())
        cached = f"/dev/shm/me/scr.7/scr.dataset.1/{path.name}"
        meta = FileMeta(True, ranks, path.name, str(directory), path.name, stat)
        image = kvtree.encode(filemap.build({cached: meta}))
        (hidden / f"filemap_{rank}").write_bytes(image)
        place = Descriptor(
            *("xor", groups, rank // group_size, group_size, rank % group_size, rank, ranks)
        )
        members.append(Member(place, (ProtectedFile(cached, stat),)))
    for rank, member in enumerate(members):
        first = rank - rank % group_size
        left = first + (rank - 1) % group_size
        header = Header(
            rank=rank % group_size,
            members={m.descriptor.rank: m for m in (member, members[left])},
            chunk_bytes=1,
            world_ranks={i: first + i for i in range(group_size)},
        )
        image = kvtree.encode(encode_header(header)) + b"\0"
        for set_name in (MAP_SET, DATA_SET):
            (hidden / member.descriptor.file_name(set_name)).write_bytes(image)
    _flush_file(prefix, ranks, 0)


def peak_of_build(prefix: Path) -> tuple[float, float]:
    """Build in a child; returns seconds and its peak memory in MiB."""
    # Not ru_maxrss, which begins with the memory of who has started the child.
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from scrjob.commands.scr_index import main\n"
        "code = main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
        "sys.exit(code)"
    )
    argv = [sys.executable, "-c", code, "--prefix", str(prefix), "--build", "1", "--force"]
    began = time.perf_counter()
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, int(done.stdout.split()[-1]) * 1024 / MIB


def measure_ranks(ranks: int, to: Path) -> dict[str, float]:
    """Return seconds and MiB of a build of ``ranks`` ranks."""
    with _scratch(to) as target:
        make_ranks(target, ranks)
        seconds, peak = peak_of_build(target)
    return {f"build of {ranks} ranks": seconds, f"build of {ranks} ranks, memory": peak}


# --- very many datasets ---


def make_index(prefix: Path, datasets: int) -> None:
    """Write an index of ``datasets`` checkpoints."""
    (prefix / ".scr").mkdir(parents=True)
    index = Index()
    for number in range(1, datasets + 1):
        fields = {"ID": number, "NAME": f"ckpt.{number}", "FLAG_CKPT": 1, "FLAG_OUTPUT": 0}
        fields |= {"CREATED": 1_700_000_000_000_000 + number, "USER": "alice", "JOBID": "1234567"}
        fields |= {"CKPT": number, "FILES": 512, "SIZE": 1 << 40, "COMPLETE": 1}
        index.set_dataset(number, f"ckpt.{number}", KVTree.of(fields), complete=True)
        index.mark_flushed(number, f"ckpt.{number}", "2026-01-02T03:04:05")
    index.set_current(f"ckpt.{datasets}")
    index.write(str(prefix / ".scr" / "index.scr"))


def measure_index(datasets: int, repeat: int) -> dict[str, float]:
    """Return the seconds of ``scr_index --list`` and ``--json``."""
    taken: dict[str, list[float]] = {}
    with _scratch(Path("/dev/shm")) as prefix:
        make_index(prefix, datasets)
        for _ in range(repeat):
            for option in ("--list", "--json"):
                argv = [str(BIN / "scr_index"), "--prefix", str(prefix), option]
                run = lambda argv=argv: subprocess.run(  # noqa: E731
                    argv, stdout=subprocess.DEVNULL, check=True
                )
                taken.setdefault(option, []).append(_timed(run))
    return {
        f"scr_index {name} of {datasets} datasets": statistics.median(values)
        for name, values in taken.items()
    }


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="scrjob-manyfiles-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(prog="benchmarks.manyfiles", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="0: do not measure")
    parser.add_argument("--ranks", type=int, default=100_000, help="0: do not measure")
    parser.add_argument("--datasets", type=int, default=10_000, help="0: do not measure")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    if options.datasets:
        figures.update(measure_index(options.datasets, options.repeat))
    if options.files:
        figures.update(measure_files(options.files, options.to, options.repeat))
    if options.ranks:
        figures.update(measure_ranks(options.ranks, options.to))
    for name, value in figures.items():
        print(f"{name:45} {value:10.3f}")


if __name__ == "__main__":
    main()
