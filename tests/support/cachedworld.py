# SPDX-License-Identifier: BSD-3-Clause
"""Nodes with made-up datasets in cache: what a copy brings, how long it takes, what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence

from scripted_cluster import Cluster
from scrjob.formats import filemap, flush, kvtree
from scrjob.formats.dataset import Descriptor, build
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.jobenv import JobEnv
from scrjob.remoteexec import RemoteExec, RemoteExecResult


class Cached(NamedTuple):
    """One dataset of one rank on the first node, whose one file has so many bytes.

    ``seconds``: how long its copy takes; ``lost``: no node has it any more.
    """

    id: int
    kind: str = "checkpoint"
    size: int = 10
    seconds: float = 0.0
    lost: bool = False
    name: str = ""
    files: int = 1

    @property
    def descriptor(self) -> kvtree.KVTree:
        return build(
            Descriptor(
                self.id,
                self.name or f"{self.kind}.{self.id}",
                is_ckpt="checkpoint" in self.kind,
                is_output="output" in self.kind,
                ckpt=self.id,
                created_us=self.id * 1_000_000,
                files=self.files,
                size_bytes=self.size,
                complete=True,
            )
        )


class CachedNodes(RemoteExec):
    """Remote execution that copies these datasets when it is told to, and notes what was copied."""

    name = "cached"
    knows_its_nodes = True

    def __init__(self, cluster: Cluster, datasets: Sequence[Cached]) -> None:
        super().__init__()
        self.cluster = cluster
        self.datasets = {dataset.id: dataset for dataset in datasets}
        self.copies: list[int] = []
        self.copiers: list[list[str]] = []
        self.argv: list[str] = []
        self.token: Callable[[str], str] = lambda node: f"{node}'s"
        self.silent: set[str] = set()

    @classmethod
    def available(cls, context: Any) -> Optional[str]:
        return None

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
        result = RemoteExecResult(argv, nodes)
        if "copy" in argv:
            self.argv[:] = argv
            self.copies.append(int(argv[argv.index("--id") + 1]))
            self.copiers.append(list(nodes))
        for node in nodes:
            if "cached" in argv:
                self._answer(result, node, json.dumps(self._rows(node)))
            elif "inspect" in argv:
                self._answer(result, node, json.dumps({"datasets": self._inspected(node)}))
            elif node in self.silent:
                result.set_failure(node, "no answer")
            elif "copy" in argv:
                self._answer(result, node, self._copy(node, self.copies[-1]))
            else:
                self._answer(result, node, str(argv[-1]))
        return result

    def _answer(self, result: RemoteExecResult, node: str, text: str) -> None:
        result.append_stdout(node, text)
        result.set_rc(node, 0)

    def _rows(self, node: str) -> list[dict[str, Any]]:
        return [
            {
                "id": dataset.id,
                "descriptor": kvtree.encode(dataset.descriptor).hex(),
                "path": f"/cache/scr.dataset.{dataset.id}",
                "token": self.token(node),
            }
            for dataset in self.datasets.values()
            if not dataset.lost
        ]

    def _inspected(self, node: str) -> list[dict[str, Any]]:
        rank = {"rank": 0, "job": 1, "filemap": True, "whole": True, "sets": {}}
        return [
            {
                "id": dataset.id,
                "descriptor": kvtree.encode(dataset.descriptor).hex(),
                "bypass": False,
                "ranks": [] if dataset.lost or node != self.cluster.nodes[0] else [rank],
            }
            for dataset in self.datasets.values()
        ]

    def _copy(self, node: str, number: int) -> str:
        dataset = self.datasets[number]
        told: dict[str, Any] = {
            "rc": 0,
            "files": 0,
            "bytes": 0,
            "skipped": 0,
            "errors": [],
            "crc": {},
        }
        holder = next(name for name in self.cluster.nodes if name not in self.silent)
        if node == holder:
            self.cluster.clock.advance(dataset.seconds)
        if node == holder and not dataset.lost:
            write_rank(self.cluster.prefix, dataset)
            told.update(files=1, bytes=dataset.size)
        return json.dumps(told)


def write_rank(prefix: Path, dataset: Cached) -> None:
    """Do what a copy does: the file, then its filemap."""
    home = prefix / f"d{dataset.id}"
    hidden = prefix / ".scr" / f"scr.dataset.{dataset.id}"
    for place in (home, hidden):
        place.mkdir(exist_ok=True, parents=True)
    path = home / "file"
    path.write_bytes(b"x" * dataset.size)
    meta = FileMeta(
        complete=True,
        ranks=1,
        orig="file",
        directory=str(home),
        name="file",
        stat=FileStat.from_os(path.stat()),
    )
    kvtree.write(str(hidden / "filemap_0"), filemap.build({"/cache/file": meta}))


def cached_job(
    cluster: Cluster, datasets: Sequence[Cached], **environ: str
) -> tuple[JobEnv, CachedNodes]:
    """Return a job whose flush file lists these datasets, and its nodes."""
    tree = kvtree.KVTree()
    for dataset in datasets:
        flush.put_dataset(tree, dataset.id, dataset.descriptor)
    (cluster.prefix / ".scr").mkdir(exist_ok=True)
    kvtree.write(str(cluster.prefix / ".scr" / "flush.scr"), tree)
    env = cluster.jobenv(SCR_HEARTBEAT="0", SCR_BIN_DIR="", **environ)
    nodes = CachedNodes(cluster, datasets)
    env.rexec = nodes
    return env, nodes
