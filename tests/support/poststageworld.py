# SPDX-License-Identifier: BSD-3-Clause
"""A real prefix as a job leaves it whose flushes go on without it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Iterable

from archives import unpack
from scrjob.formats import flush, kvtree
from scrjob.formats.index import Index

RECORDED = "p/scr/alice/meta_async"


def left_behind(case: Path, target: Path, unfinished: Iterable[int]) -> Path:
    """Unpack the case ``meta_async`` and put its datasets back to where their flush was going on.

    Datasets 2, 4 and 6 are in the prefix, 5 in cache only; 2 is in no flush file any more.
    """
    with tarfile.open(case / "prefix.tar") as archive:
        unpack(archive, target)
    prefix = target / RECORDED
    tree = kvtree.read(str(prefix / ".scr/flush.scr"))
    index = Index.read(str(prefix / ".scr/index.scr"))
    for number in unfinished:
        flush.remove_location(tree, number, flush.PFS)
        flush.add_location(tree, number, flush.FLUSHING)
        index.remove(f"ckpt.{number}")
        (prefix / f".scr/scr.dataset.{number}/summary.scr").unlink()
    kvtree.write(str(prefix / ".scr/flush.scr"), tree)
    index.write(str(prefix / ".scr/index.scr"))
    return prefix
