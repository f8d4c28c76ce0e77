# SPDX-License-Identifier: BSD-3-Clause
"""A node with one cached dataset of one rank, made by hand, and its copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrjob._clock import SystemClock
from scrjob.formats import filemap, kvtree
from scrjob.node.copy import CopyOptions, CopyResult, copy_dataset

if TYPE_CHECKING:
    from pathlib import Path


class Node:
    """A node with one cached dataset of one rank, made by hand."""

    def __init__(self, base: Path) -> None:
        self.prefix = base / "pre fix"
        self.prefix.mkdir()
        self.cntl = base / "cntl"
        self.cache = base / "cache" / "scr.dataset.5"
        (self.cache / ".scr").mkdir(parents=True)
        self.cntl.mkdir()
        index = kvtree.KVTree()
        index.add("DSET", 5, "PATH", str(self.cache))
        kvtree.write(str(self.cntl / "cindex.scrinfo"), index)
        self.meta: dict[str, filemap.FileMeta] = {}
        self.lines: list[str] = []

    def add(self, name: str, data: bytes = b"data", *, flush: bool = True, **changes: Any) -> Path:
        path = self.cache / name
        path.write_bytes(data)
        meta = filemap.FileMeta(
            complete=True,
            ranks=1,
            orig=name,
            directory=str(self.prefix / "out"),
            name=name,
            stat=filemap.FileStat.from_os(path.stat()),
        )
        self.meta[str(path)] = meta._replace(**changes)
        if flush:
            self.write()
        return path

    def write(self) -> None:
        kvtree.write(str(self.cache / ".scr" / "filemap_0"), filemap.build(self.meta))

    def copy(self, **options: Any) -> CopyResult:
        self.lines = []
        return copy_dataset(
            str(self.cntl),
            5,
            str(self.prefix),
            host="n1",
            clock=SystemClock(),
            emit=self.lines.append,
            options=CopyOptions(**options),
        )

    def target(self, name: str) -> Path:
        return self.prefix / "out" / name
