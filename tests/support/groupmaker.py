# SPDX-License-Identifier: BSD-3-Clause
"""Scavenged datasets made by our own encoder: any number of ranks, files and sizes."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence

from scrjob.formats import filemap, flush, kvtree
from scrjob.formats.filemap import FileMeta
from scrjob.formats.redset_header import (
    DATA_SET,
    MAP_SET,
    Descriptor,
    FileStat,
    Member,
    ProtectedFile,
)
from scrjob.redundancy.encode import encode_group
from scrjob.redundancy.groups import Group


class Made(NamedTuple):
    """A complete scavenged dataset; what a node that died would have taken is in ``parts``."""

    prefix: Path
    hidden: Path
    parts: Dict[int, List[Path]]

    def lose(self, *ranks: int) -> None:
        """Remove everything of these ranks."""
        for rank in ranks:
            for path in self.parts[rank]:
                path.unlink()

    def state(self) -> Dict[str, tuple]:
        """Return path -> (mode, mtime, bytes) of all files of ranks."""
        found = {}
        for paths in self.parts.values():
            for path in paths:
                status = path.lstat()
                times = 0 if path.name.endswith(".redset") else status.st_mtime_ns
                found[str(path)] = (status.st_mode, times, path.read_bytes())
        return found


def make_dataset(
    prefix: Path,
    sizes: Sequence[Sequence[int]],
    groups: Sequence[Group],
    *,
    dataset_id: int = 1,
    kind: str = "xor",
    copies: int = 0,
    seed: int = 0,
    name: str = "it",
    cache: str = "/cache",
    folder: Callable[[int, int], str] = lambda _rank, _number: "out",
    record_crcs: bool = False,
) -> Made:
    """Write files of these sizes for each rank, filemaps and redundancy, as after a perfect copy.

    ``copies``: parity blocks of rs (2 by default), replicas of partner (1 by default). ``cache``: where
    the files were before that. ``folder``: where in the prefix a file of a rank is, by its number.
    ``record_crcs``: in the filemaps, as a later SCR may do.
    """
    rng = random.Random(seed)
    hidden = prefix / ".scr" / f"scr.dataset.{dataset_id}"
    hidden.mkdir(parents=True)
    parts: Dict[int, List[Path]] = {}
    data: Dict[int, List[ProtectedFile]] = {}
    places: Dict[str, str] = {}
    for rank, lengths in enumerate(sizes):
        metas: Dict[str, FileMeta] = {}
        parts[rank], data[rank] = [], []
        for number, length in enumerate(lengths):
            base = f"r{rank}.{number} ü\n"
            home = prefix / folder(rank, number)
            home.mkdir(parents=True, exist_ok=True)
            path = home / base
            path.write_bytes(rng.randbytes(length))
            path.chmod(0o640 if number % 2 else 0o600)
            stat = FileStat.from_os(path.stat())
            cached = f"{cache}/{base}"
            metas[cached] = FileMeta(
                complete=True,
                ranks=len(sizes),
                orig=base,
                directory=str(home),
                name=base,
                stat=stat,
                crc=zlib.crc32(path.read_bytes()) if record_crcs else None,
            )
            data[rank].append(ProtectedFile(cached, stat))
            places[cached] = str(path)
            parts[rank].append(path)
        path = hidden / f"filemap_{rank}"
        kvtree.write(str(path), filemap.build(metas))
        parts[rank].append(path)
    for group in groups:
        for set_name in (MAP_SET, DATA_SET):
            members = []
            for i, rank in enumerate(group.ranks):
                place = Descriptor(
                    type=kind,
                    groups=len(groups),
                    group=group.number,
                    ranks=len(group.ranks),
                    rank=i,
                    world_rank=rank,
                    world_ranks=len(sizes),
                    replicas=(copies or 1) if kind == "partner" else None,
                    parity=(copies or 2) if kind == "rs" else None,
                )
                protected = data[rank]
                if set_name == MAP_SET:
                    path = hidden / f"filemap_{rank}"
                    cached = f"{cache}/.scr/{path.name}"
                    places[cached] = str(path)
                    protected = [ProtectedFile(cached, FileStat.from_os(path.stat()))]
                members.append(Member(place, tuple(protected)))
            made = encode_group(
                members, set_name, locate=places.__getitem__, directory=lambda _i: str(hidden)
            )
            for rank, path in zip(group.ranks, made):
                parts[rank].append(Path(path))
    tree = kvtree.KVTree()
    everything = [size for lengths in sizes for size in lengths]
    flush.put_dataset(
        tree,
        dataset_id,
        kvtree.KVTree.of(
            {
                "ID": dataset_id,
                "NAME": name,
                "FLAG_CKPT": 1,
                "CKPT": dataset_id,
                "FILES": len(everything),
                "SIZE": sum(everything),
                "COMPLETE": 1,
            }
        ),
    )
    kvtree.write(str(prefix / ".scr" / "flush.scr"), tree)
    return Made(prefix, hidden, parts)
