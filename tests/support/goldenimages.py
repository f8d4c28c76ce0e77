# SPDX-License-Identifier: BSD-3-Clause
"""All KVTree images of the golden cases."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Iterator, NamedTuple

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MAGIC = b"\x95\x1f\xc3\xf5"


class Image(NamedTuple):
    """A file that begins with KVTree's magic: which case and inner archive, its path there, its bytes."""

    case: str
    archive: str
    path: str
    data: bytes

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def read_images() -> Iterator[Image]:
    """Read them straight from the archives, nothing is unpacked."""
    for outer in sorted(GOLDEN.glob("*.tar.xz")):
        with tarfile.open(outer) as case:
            for inner in case:
                if inner.name.endswith(".tar"):
                    content = case.extractfile(inner)
                    assert content is not None
                    for path, data in _members(content.read()):
                        yield Image(outer.name.split(".")[0], inner.name, path, data)


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            data = b"" if file is None else file.read()
            if data[:4] == MAGIC:
                yield member.name, data
