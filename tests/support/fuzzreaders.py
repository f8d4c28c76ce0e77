# SPDX-License-Identifier: BSD-3-Clause
"""All readers of SCR's files in one shape, for files of any content: (path, bytes) -> anything.

Also what files that SCR wrote each of them reads, to begin with.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Dict, List

from goldenimages import read_images
from scrjob.formats import (
    cindex,
    er,
    filemap,
    flush,
    halt,
    index,
    kvtree,
    nodes,
    rank2file,
    redset_header,
    summary,
)
from scrjob.formats.places import Reader
from scrjob.redundancy.redset_file import RedsetReader

PER_READER = 12


def _filemap(path: str, data: bytes) -> None:
    found = Reader().read(data, path)
    listed = filemap.parse(kvtree.decode(data, path))
    assert list(found) == list(listed)


def _cindex(path: str, data: bytes) -> None:
    for held in cindex.datasets(kvtree.decode(data, path)).values():
        assert held.details is None or held.details.id is not None


def _flush(path: str, data: bytes) -> None:
    tree = kvtree.decode(data, path)
    for number in [*flush.ids(tree), *flush.list_ckpt(tree), *flush.list_output(tree)]:
        flush.entry(tree, number)
        flush.need_flush(tree, number)
        flush.location(tree, number)


def _index(path: str, data: bytes) -> None:
    del data
    found = index.Index.read(path)
    index.table_text(found)
    found.entries()
    found.max_ids()
    found.latest_usable()
    name = found.current()
    if name is not None:
        found.remove(name)


def _summary(path: str, data: bytes) -> None:
    assert summary.parse(kvtree.decode(data, path)).name is not NotImplemented


def _rank2file(path: str, data: bytes) -> None:
    # Parts of the same content: links to them are followed.
    Path(f"{path}.0.0").write_bytes(data)
    for tree in rank2file.read(path).entries.values():
        rank2file.files(tree)
        rank2file.expected(tree)


def _redset(path: str, data: bytes) -> None:
    del data
    reader = RedsetReader(path)
    reader.close()
    for member in reader.header.members.values():
        assert member.size_bytes >= 0
        assert member.descriptor.copies >= 0
    kvtree.encode(redset_header.encode(reader.header))


def _copies(path: str, data: bytes) -> None:
    redset_header.decode_copies(kvtree.decode(data, path), path)


def _er(path: str, data: bytes) -> None:
    tree = kvtree.decode(data, path)
    er.is_encoded(tree)
    er.parse_shuffile(tree)


def _small(path: str, data: bytes) -> None:
    tree = kvtree.decode(data, path)
    halt.conditions(tree)
    nodes.count(tree)


READERS: Dict[str, Callable[[str, bytes], None]] = {
    "filemap": _filemap,
    "cindex": _cindex,
    "flush": _flush,
    "index": _index,
    "summary": _summary,
    "rank2file": _rank2file,
    "redset": _redset,
    "copies": _copies,
    "er": _er,
    "small": _small,
}

_NAMES = {
    "filemap": r"filemap_\d+",
    "cindex": r"cindex\.scrinfo",
    "flush": r"flush\.scr",
    "index": r"index\.scr",
    "summary": r"summary\.scr",
    "rank2file": r"rank2file(\.\d+\.\d+)?",
    "redset": r"redd.*_of_\d+\.redset",
    "copies": r"redd.*\.er\.\d+\.redset",
    "er": r"redd.*\.er\.(er|shuffile)",
    "small": r"(halt|nodes)\.scr",
}


def golden_images() -> Dict[str, List[bytes]]:
    """Return reader -> some files that SCR wrote for it, small ones, all different."""
    found: Dict[str, List[bytes]] = {name: [] for name in READERS}
    for image in read_images():
        for name, pattern in _NAMES.items():
            if (
                re.fullmatch(pattern, image.name)
                and len(image.data) < 1 << 14
                and len(found[name]) < PER_READER
                and image.data not in found[name]
            ):
                found[name].append(image.data)
    return found
