# SPDX-License-Identifier: BSD-3-Clause
"""filemap_<rank>: the files of one rank in a cached dataset, and where they belong in the prefix.

An empty tree means that the rank has no files.

Source: docs/formats/cache.md, "filemap".
"""

from __future__ import annotations

import os
import re
from typing import Dict, Mapping, NamedTuple, Optional

from scrjob.formats import _stat
from scrjob.formats._stat import FileStat
from scrjob.formats.kvtree import KVTree, as_key, as_text, crc_text

__all__ = ["FileMeta", "FileStat", "build", "file_name", "parse", "rank_of"]

EMPTY_BYTES = 28
"""Size of the filemap of a rank without files: header, no keys, checksum."""

_NAME = re.compile(r"filemap_([0-9]+)")


class FileMeta(NamedTuple):
    """What is recorded of one file; None: not recorded.

    ``complete``: the application said so and the file was readable. ``ranks``: size of the job.
    ``orig``: path as the application gave it. ``directory`` and ``name``: where it belongs in the
    prefix, absolute. ``crc``: CRC32 of the content.
    """

    complete: Optional[bool] = None
    ranks: Optional[int] = None
    orig: Optional[str] = None
    directory: Optional[str] = None
    name: Optional[str] = None
    stat: FileStat = FileStat()
    crc: Optional[int] = None

    @property
    def destination(self) -> Optional[str]:
        """Return the file's path in the prefix, None if the record does not say."""
        if self.directory is None or self.name is None:
            return None
        return os.path.join(self.directory, self.name)


def file_name(rank: int) -> str:
    """Return the name of a rank's filemap."""
    return f"filemap_{rank}"


def rank_of(name: str) -> Optional[int]:
    """Return the rank in a filemap's name, None for another name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def parse(tree: KVTree) -> Dict[str, Optional[FileMeta]]:
    """Return cache path -> record in list order; None for a path that has no record."""
    found: Dict[str, Optional[FileMeta]] = {}
    for path, entry in (tree.child("FILE") or KVTree()).items():
        meta = entry.child("META")
        found[as_text(path)] = None if meta is None else _meta(meta)
    return found


def _meta(tree: KVTree) -> FileMeta:
    complete = tree.integer("COMPLETE")
    return FileMeta(
        complete=None if complete is None else complete == 1,
        ranks=tree.integer("RANKS"),
        orig=tree.text("ORIG"),
        directory=tree.text("PATH"),
        name=tree.text("NAME"),
        stat=_stat.parse(tree),
        crc=tree.unsigned("CRC"),
    )


def build(files: Mapping[str, FileMeta]) -> KVTree:
    """Return the tree for cache path -> record, given in the order in which the files were routed."""
    tree = KVTree()
    for path, meta in files.items():
        tree.add("FILE", as_key(path)).set("META", _tree(meta))
    return tree


def _tree(meta: FileMeta) -> KVTree:
    fields = {
        "RANKS": meta.ranks,
        "ORIG": meta.orig,
        "PATH": meta.directory,
        "NAME": meta.name,
        "SIZE": meta.stat.size_bytes,
        "COMPLETE": None if meta.complete is None else int(meta.complete),
        **_stat.fields(meta.stat),
        "CRC": None if meta.crc is None else crc_text(meta.crc),
    }
    return KVTree.of({key: value for key, value in fields.items() if value is not None})
