# SPDX-License-Identifier: BSD-3-Clause
"""A dataset in the caches of the nodes of an allocation of the rig, and commands that bring it home."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence, Tuple

from groupmaker import Made, make_dataset
from rig import LOGIN, Rig, Running
from rigworld import RigWorld
from scrjob.formats import flush as flushes
from scrjob.formats import kvtree
from scrjob.formats.index import Index
from scrjob.redundancy.groups import form_groups

NODES = ("n1", "n2", "n3", "n4")
CACHE = "/dev/shm/cache"
# A batch of the copy is done when it has files in so many directories; what a filemap lists last
# is copied first, so the large file, number 0, is not in the first batch.
JOURNALED = 256
LARGE = 20 << 20
SIZES = (LARGE, *(7,) * 300)
MIDDLE = 1 << 20
Place = Callable[[str], str]


class CachedJob:
    """A held allocation of four nodes. What ``put`` puts there lies in their caches, and nowhere else.

    Args:
        rig: where.
        place: a new directory on the shared file system.
        prefix: SCR's; by default in ``place``.
        seen: where this process finds what is on a host at a path below the prefix.
        settings: of the commands' environment.
    """

    def __init__(
        self, rig: Rig, place: Path, prefix: Path, seen: Place = str, **settings: str
    ) -> None:
        self.rig = rig
        self.prefix = prefix
        self.seen = seen
        self._place = place
        job = RigWorld(rig, place, len(NODES)).job_id
        self._cntldir = f"/dev/shm/alice/scr.{job}"
        self._cindex = kvtree.KVTree()
        self._environ = {
            "SLURM_JOB_ID": job,
            "SLURM_JOB_NODELIST": f"n[1-{len(NODES)}]",
            "SCR_PREFIX": str(prefix),
            "SCR_USER_NAME": "alice",
            "SCR_CNTL_BASE": "/dev/shm",
            **settings,
        }

    def put(
        self, sizes: Sequence[int], kind: str = "xor", *, dataset_id: int = 1
    ) -> Tuple[Made, Mapping[str, Any]]:
        """Put a checkpoint into the caches, whose rank on each node has files of about these sizes.

        Returns:
            Where its files are to be, and what is to be found there.
        """
        cache = f"{CACHE}/scr.dataset.{dataset_id}"
        made = make_dataset(
            self.prefix,
            [[size + rank for size in sizes] for rank in range(len(NODES))],
            form_groups(range(len(NODES)), len(NODES)),
            kind=kind,
            dataset_id=dataset_id,
            name=f"ckpt.{dataset_id}",
            cache=cache,
            folder=lambda rank, number: f"ckpt.{dataset_id}/{rank}/{number}",
        )
        flush = self.prefix / ".scr" / "flush.scr"
        entry = flushes.entry(kvtree.read(str(flush)), dataset_id)
        assert entry is not None
        assert entry.descriptor is not None
        cindex = self._cindex.add("DSET", dataset_id)
        cindex.put("PATH", cache)
        cindex.set("DSETDESC", entry.descriptor.copy())
        for rank, node in enumerate(NODES):
            self._put_on(node, cache, made, rank)
        os.makedirs(self.seen(str(flush.parent)), exist_ok=True)
        with contextlib.suppress(shutil.SameFileError):
            shutil.copy(flush, self.seen(str(flush)))
        truth = self._contents(made, str)
        made.lose(*made.parts)
        return made, truth

    def _put_on(self, node: str, cache: str, made: Made, rank: int) -> None:
        root = f"/proc/{self.rig.init_of(node)}/root"
        for directory in (f"{root}{self._cntldir}", f"{root}{cache}/.scr"):
            os.makedirs(directory, exist_ok=True)
        kvtree.write(f"{root}{self._cntldir}/cindex.scrinfo", self._cindex)
        for path in made.parts[rank]:
            hidden = ".scr/" if path.parent == made.hidden else ""
            shutil.copy2(path, f"{root}{cache}/{hidden}{path.name}")

    def found(self, made: Made) -> Mapping[str, Any]:
        """Return what is there of a dataset: mode and time (of the application's files) and bytes."""
        return self._contents(made, self.seen)

    def _contents(self, made: Made, seen: Place) -> Mapping[str, Any]:
        found = {}
        for path in (path for paths in made.parts.values() for path in paths):
            there = Path(seen(str(path)))
            status = there.stat()
            time = 0 if path.parent == made.hidden else status.st_mtime_ns
            found[str(path)] = (status.st_mode, time, there.read_bytes())
        return found

    def start(self, *command: str, **settings: str) -> Running:
        """Start a command of ours on the login host."""
        return self.rig.start(LOGIN, command, environ={**self._environ, **settings})

    def run(self, *command: str, **settings: str) -> Tuple[int, str]:
        """Run it; returns exit code and stderr."""
        done = self.rig.run(command, environ={**self._environ, **settings})
        return done.returncode, done.stderr

    def hidden(self, dataset_id: int = 1) -> Path:
        """Return the dataset's directory in the prefix, as this process sees it."""
        return Path(self.seen(str(self.prefix / ".scr" / f"scr.dataset.{dataset_id}")))

    def report(self, dataset_id: int = 1) -> Any:
        """Return the journal of the scavenge."""
        return json.loads((self.hidden(dataset_id) / "scrjob.scavenge.json").read_text())

    def progress(self, node: str, dataset_id: int = 1) -> int:
        """Return the bytes that a node says to have copied, 0 none."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.hidden(dataset_id) / f"scrjob.progress.{node}").read_text()
            return int(json.loads(text)["done_bytes"])
        return 0

    def noted(self, node: str) -> Mapping[str, int]:
        """Return the paths in a node's journal, with their inode numbers."""
        lines = (self.hidden() / f"scrjob.copy.{node}.jsonl").read_text().split("\n")
        paths = [self.prefix / json.loads(line)["path"] for line in lines if line]
        return {str(path): os.stat(self.seen(str(path))).st_ino for path in paths}

    def wait_copying(self, nodes: Iterable[str] = NODES, dataset_id: int = 1) -> None:
        """Wait until these nodes are in the middle of their large file."""
        self.rig.wait_for(
            lambda: all(self.progress(node, dataset_id) > MIDDLE for node in nodes), "the copies"
        )

    @property
    def _index(self) -> str:
        return self.seen(str(self.prefix / ".scr" / "index.scr"))

    def index(self) -> Index:
        """Return the index."""
        return Index.read(self._index)

    def index_bytes(self) -> bytes:
        """Return the file of the index."""
        return Path(self._index).read_bytes()

    def is_there(self) -> bool:
        """Tell whether there is an index."""
        return os.path.exists(self._index)

    def is_listed(self, dataset_id: int = 1) -> bool:
        """Tell whether the index calls the dataset complete."""
        entry = self.index().entry(dataset_id)
        return entry is not None and entry.is_valid

    def copies(self) -> Mapping[int, str]:
        """Return the processes on all hosts that have to do with a copy: id outside, command line."""
        found = {}
        for host in (LOGIN, *NODES):
            for pid in self.rig.processes(host):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if "--cntldir" in words:
                        found[pid] = f"{host}: {words}"
        return found

    def temporaries(self) -> Sequence[str]:
        """Return what a copy that was broken off has left in the prefix."""
        root = self.seen(str(self.prefix))
        names = (name for _, _, names in os.walk(root) for name in names)
        return [name for name in names if name.endswith(".tmp") or ".progress." in name]
