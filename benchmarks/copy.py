# SPDX-License-Identifier: BSD-3-Clause
"""The copy of one rank of a dataset of 4 x 200 MB with XOR: its file, and its redundancy of 67 MB.

``python -m benchmarks copy`` measures in /dev/shm and in the directory for temporary files;
``python -m benchmarks.copy --help`` elsewhere. The copy, with its checksums, takes turns with ``cp`` and one
``sync FILE`` for each file; from and to the same file system, the source in memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Sequence

from scrjob.formats import filemap, kvtree
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.formats.kvtree import KVTree
from scrjob.node.command import node_command

ROOT = Path(__file__).resolve().parent.parent
RANK_BYTES = 200_000_000
PARITY_BYTES = RANK_BYTES // 3
PARITY = "reddesc.er.0.xor.grp_1_of_1.mem_1_of_4.redset"
MIB = 1 << 20


class Cached(NamedTuple):
    """A rank in a cache, and the prefix that it belongs to."""

    control: Path
    data: Path
    prefix: Path

    def files(self) -> Sequence[tuple[Path, Path]]:
        """Return source and destination of the two large files."""
        hidden = self.prefix / ".scr" / "scr.dataset.1"
        return [
            (self.data / "rank_0", self.prefix / "rank_0"),
            (self.data / ".scr" / PARITY, hidden / PARITY),
        ]


def make_cache(root: Path, size: int) -> Cached:
    """Write the rank below ``root``."""
    made = Cached(root / "control", root / "cache" / "scr.dataset.1", root / "prefix")
    made.control.mkdir(mode=0o700)
    (made.data / ".scr").mkdir(parents=True)
    made.prefix.mkdir()
    rng = random.Random(1)
    for (path, _), length in zip(made.files(), (size, size // 3)):
        with path.open("wb") as file:
            for start in range(0, length, 8 * MIB):
                file.write(rng.randbytes(min(8 * MIB, length - start)))
    path = made.data / "rank_0"
    stat = FileStat.from_os(path.stat())
    meta = FileMeta(True, 4, path.name, str(made.prefix), path.name, stat)
    kvtree.write(str(made.data / ".scr" / "filemap_0"), filemap.build({str(path): meta}))
    index = KVTree.of({"DSET": {"1": {"PATH": str(made.data)}}})
    kvtree.write(str(made.control / "cindex.scrinfo"), index)
    return made


def packed_programs(directory: Path) -> Path:
    """Make the file that a wheel has."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    if spec is None or spec.loader is None:
        raise SystemExit("copy: no build hook here")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    path = directory / "scrjob-node.pyz"
    hook.pack_node(ROOT / "src", path)
    return path


def _empty(cached: Cached) -> None:
    """Empty the prefix, and let no work of the last measurement be done in the next."""
    shutil.rmtree(cached.prefix)
    (cached.prefix / ".scr" / "scr.dataset.1").mkdir(parents=True)
    subprocess.run(["sync", "-f", str(cached.prefix)], check=True)


def copy(cached: Cached, packed: Path) -> tuple[float, float]:
    """Copy as a scavenge does; returns seconds and peak memory in MiB."""
    argv = node_command(
        *("copy", "--cntldir", str(cached.control), "--id", "1", "--prefix", str(cached.prefix)),
        *("--resume", "--json", "--progress"),
        packed=str(packed),
    )
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("copy: the copy failed")
    return seconds, usage.ru_maxrss * 1024 / MIB


def plain(cached: Cached) -> float:
    """Copy by ``cp``, with a ``sync`` for each file; returns seconds."""
    began = time.perf_counter()
    for source, target in cached.files():
        subprocess.run(["cp", str(source), str(target)], check=True)
        subprocess.run(["sync", str(target)], check=True)
    return time.perf_counter() - began


def start(packed: Path) -> tuple[float, float]:
    """Return the seconds of a start of the copy that does nothing, and of a bare interpreter."""
    taken = []
    for argv in (
        node_command("copy", "-h", packed=str(packed)),
        [sys.executable, "-c", "pass"],
    ):
        began = time.perf_counter()
        subprocess.run(argv, check=False)
        taken.append(time.perf_counter() - began)
    return taken[0], taken[1]


def measure(directory: Path, repeat: int, size: int = RANK_BYTES) -> dict[str, float]:
    """Return medians: seconds of copy and cp, the ratio of each two neighbours, the most memory."""
    ours, theirs, peaks = [], [], []
    with tempfile.TemporaryDirectory(prefix="scrjob-copy-", dir=directory) as name:
        cached = make_cache(Path(name), size)
        packed = packed_programs(Path(name))
        for _ in range(repeat):
            _empty(cached)
            seconds, peak = copy(cached, packed)
            ours.append(seconds)
            peaks.append(peak)
            for source, target in cached.files():
                if target.stat().st_size != source.stat().st_size:
                    raise SystemExit("copy: a file is incomplete")
            _empty(cached)
            theirs.append(plain(cached))
    return {
        "copy with CRC32": statistics.median(ours),
        "cp and sync FILE": statistics.median(theirs),
        "times cp": statistics.median(a / b for a, b in zip(ours, theirs)),
        "memory": max(peaks),
    }


def measure_start(repeat: int) -> dict[str, float]:
    """Return the medians of ``start``."""
    with tempfile.TemporaryDirectory(prefix="scrjob-copy-") as name:
        packed = packed_programs(Path(name))
        taken = [start(packed) for _ in range(repeat)]
    return {
        "start": statistics.median(one for one, _ in taken),
        "bare interpreter": statistics.median(bare for _, bare in taken),
    }


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(prog="benchmarks.copy", description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--bytes", type=int, default=RANK_BYTES, help="of the rank's file")
    parser.add_argument("directories", nargs="*", type=Path, metavar="DIR")
    options = parser.parse_args()
    for name, value in measure_start(options.repeat).items():
        print(f"{name:45} {value:10.4f}")
    for directory in options.directories or [Path("/dev/shm"), Path(tempfile.gettempdir())]:
        for name, value in measure(directory, options.repeat, options.bytes).items():
            print(f"{f'{directory}: {name}':45} {value:10.3f}")


if __name__ == "__main__":
    main()
