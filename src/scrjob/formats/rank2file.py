# SPDX-License-Identifier: BSD-3-Clause
"""rank2file: which files of a dataset belong to which rank, split over several files.

The map is a root file ``P`` and parts ``P.<level>.<writer>``. Level 0 holds the ranks' subtrees for a
block of ranks; a higher level points at files of the level below. A rank's subtree has ``FILE`` (paths
relative to the prefix) and, when a build made it, ``FILES`` (how many there should be).

Source: docs/formats/summary-rank2file.md, "rank2file".
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from scrjob.errors import FormatError
from scrjob.formats import kvtree
from scrjob.formats.kvtree import KVTree, as_text

RANKS_PER_PART = 8192
MAX_RANKS = 1 << 24  # no machine has so many cores; a damaged number may
MAX_LEVELS = 16
MAX_RANK_DIGITS = 10
_SUFFIX = re.compile(r"\.([0-9]+)\.([0-9]+)")


class Rank2File(NamedTuple):
    """``ranks``: size of the job; ``entries``: world rank -> subtree, not necessarily for all ranks."""

    ranks: int
    entries: Dict[int, KVTree]

    def missing(self) -> List[int]:
        """Return the ranks without an entry, ascending."""
        return [rank for rank in range(self.ranks) if rank not in self.entries]


def entry(paths: Iterable[str], expected: Optional[int] = None) -> KVTree:
    """Return a rank's subtree: its files, relative to the prefix, and how many there should be."""
    tree = KVTree()
    if names := list(paths):
        tree.set("FILE").extend(names)
    if expected is not None:
        tree.put("FILES", expected)
    return tree


def files(tree: KVTree) -> List[str]:
    """Return the paths in a rank's subtree, in the order in which they were added."""
    return [as_text(path) for path in reversed(tree.values("FILE"))]


def expected(tree: KVTree) -> Optional[int]:
    """Return how many files the rank should have, None if the subtree does not say."""
    return tree.integer("FILES")


def write(
    base: str,
    entries: Mapping[int, KVTree],
    ranks: int,
    *,
    ranks_per_part: int = RANKS_PER_PART,
) -> None:
    """Write the map as one root file and parts; parts of an older map that are not used any more go.

    Args:
        base: path of the root file.
        entries: world rank -> subtree.
        ranks: size of the job; recorded in every file, or the library refuses to fetch.
        ranks_per_part: at most so many entries per part.

    Raises:
        OSError: parts may have been written already; a reader then finds old or new ones.
    """
    root = KVTree.of({"LEVEL": 1})
    order = sorted(entries)
    suffixes = set()
    for first in range(0, len(order), ranks_per_part):
        block = order[first : first + ranks_per_part]
        suffix = f".0.{first}"
        part = KVTree.of({"LEVEL": 0})
        for rank in block:
            part.add("RANK").set(rank, entries[rank])
        part.put("RANKS", ranks)
        kvtree.write(base + suffix, part)
        link = root.add("RANK", first)
        link.put("FILE", suffix)
        link.put("OFFSET", 0)
        suffixes.add(suffix)
    root.put("RANKS", ranks)
    kvtree.write(base, root)
    for suffix in _parts(base):
        if suffix not in suffixes:
            os.unlink(base + suffix)


def _parts(base: str) -> List[str]:
    directory, name = os.path.split(base)
    return [
        found[len(name) :]
        for found in sorted(os.listdir(directory or "."))
        if found.startswith(name) and _SUFFIX.fullmatch(found[len(name) :])
    ]


def read(base: str) -> Rank2File:
    """Return the whole map, following the links from the root file down to level 0.

    Raises:
        FormatError: a file contradicts the others, or links leave the set.
        OSError: a file cannot be read; FileNotFoundError if one is absent.
    """
    root = kvtree.read(base)
    ranks = _number(root, "RANKS", base)
    if ranks > MAX_RANKS:
        raise FormatError(f"a job of {ranks} ranks is impossible", path=base)
    entries: Dict[int, KVTree] = {}
    todo: List[Tuple[str, KVTree, int]] = [(base, root, _number(root, "LEVEL", base))]
    while todo:
        path, tree, level = todo.pop()
        below = tree.child("RANK") or KVTree()
        if level == 0:
            _check_part(path, tree, below, ranks)
            _take(path, below, ranks, entries)
            continue
        if level > MAX_LEVELS:
            raise FormatError(f"map of level {level}, expected at most {MAX_LEVELS}", path=path)
        todo.extend(_follow(base, path, link, level) for _, link in below.items())
    return Rank2File(ranks, entries)


def _follow(base: str, path: str, link: KVTree, level: int) -> Tuple[str, KVTree, int]:
    suffix = link.text("FILE") or ""
    if not _SUFFIX.fullmatch(suffix):
        raise FormatError(f"link to {suffix!r}, expected .<level>.<rank>", path=path)
    if link.unsigned("OFFSET") not in (None, 0):
        raise FormatError(f"link with offset {link.unsigned('OFFSET')}, expected 0", path=path)
    part = kvtree.read(base + suffix)
    found = _number(part, "LEVEL", base + suffix)
    if found != level - 1:
        raise FormatError(f"expected level {level - 1}, got {found}", path=base + suffix)
    return base + suffix, part, found


def _number(tree: KVTree, key: str, path: str) -> int:
    value = tree.integer(key)
    if value is None or value < 0:
        raise FormatError(f"expected a number under {key}, got {value}", path=path)
    return value


def _check_part(path: str, tree: KVTree, below: KVTree, ranks: int) -> None:
    # scr_index of SCR 3.1 records the number of entries of the part in place of the job's size.
    found = _number(tree, "RANKS", path)
    if found not in (ranks, len(below)):
        raise FormatError(f"expected {ranks} ranks, got {found}", path=path)


def _take(path: str, below: KVTree, ranks: int, entries: Dict[int, KVTree]) -> None:
    for key, tree in below.items():
        rank = int(key) if key.isdigit() and len(key) <= MAX_RANK_DIGITS else -1
        if not 0 <= rank < ranks:
            raise FormatError(f"rank {as_text(key)!r} in a job of {ranks}", path=path)
        if rank in entries:
            raise FormatError(f"rank {rank} for the second time", path=path)
        entries[rank] = tree
