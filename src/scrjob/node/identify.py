# SPDX-License-Identifier: BSD-3-Clause
"""Which cache is this? Nodes that share a cache directory give the same token, so one of them copies it.

The token is made of what is in the dataset's hidden directory: names, sizes, times and inode numbers. Each
rank's filemap lies in one cache only, so two caches never have the same names. Numbers of devices are left
out: nodes number the same file system differently.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple


class Identity(NamedTuple):
    """A dataset in a cache: its token, and bytes and number of its files, metadata included."""

    token: str
    bytes: int
    files: int


def identify(directory: str) -> Identity:
    """Return what a dataset's directory in cache is.

    Raises:
        OSError: it cannot be read.
    """
    hidden = os.path.join(directory, ".scr")
    digest = hashlib.sha256(repr(os.stat(directory).st_ino).encode("ascii"))
    size = files = 0
    for place in (directory, hidden):
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            size += status.st_size
            files += 1
            if place == hidden:
                key = (entry.name, status.st_ino, status.st_size, status.st_mtime_ns)
                digest.update(ascii(key).encode("ascii"))
    return Identity(digest.hexdigest()[:32], size, files)
