# SPDX-License-Identifier: BSD-3-Clause
"""Names and directories on a node, and where a file that the program names belongs.

Source: docs/formats/cache.md.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from scrjob._fsio import make_private_dirs
from scrjob.errors import UsageError
from scrjob.formats import filemap, paths
from scrjob.redundancy.paths import is_below, make_dirs

HIDDEN = ".scr"
BASE_MODE = 0o700


def _levels(user: str, job_id: str) -> list[str]:
    # A job id may hold slashes, as in arrays of jobs: each part is a level of its own.
    return [part for part in f"{user}/scr.{job_id}".split("/") if part not in ("", ".")]


class Layout(NamedTuple):
    """The job's directories on each node: ``control`` for the cache index, ``cache`` for datasets."""

    control: str
    cache: str

    @classmethod
    def create(cls, cntl_base: str, cache_base: str, user: str, job_id: str) -> Layout:
        """Make the directories of this node, private ones below the bases; existing ones are checked.

        Raises:
            UnsafePathError: one is a link or belongs to somebody else.
            OSError: one cannot be made.
        """
        found = []
        for base in (cntl_base, cache_base):
            make_dirs(base, BASE_MODE)
            found.append(make_private_dirs(base, *_levels(user, job_id), uid=os.getuid()))
        return cls(*found)

    @property
    def cindex(self) -> str:
        """Return the path of the node's cache index."""
        return os.path.join(self.control, paths.CINDEX_NAME)

    def dataset(self, dataset_id: int) -> str:
        """Return the directory that a new dataset gets."""
        return os.path.join(self.cache, f"scr.dataset.{dataset_id}")

    def owns(self, path: str) -> bool:
        """Tell whether a recorded dataset directory is one of this job's cache, by its text."""
        return path != self.cache and path == paths.reduce_path(path) and is_below(path, self.cache)


def hidden(dataset: str) -> str:
    """Return the directory of a dataset's metadata in cache."""
    return os.path.join(dataset, HIDDEN)


def filemap_path(dataset: str, rank: int) -> str:
    """Return the path of a rank's filemap in cache."""
    return os.path.join(dataset, HIDDEN, filemap.file_name(rank))


def absolute_in_prefix(path: str, prefix: str, cwd: str) -> str:
    """Return where a file that the program names belongs: absolute, reduced, below the prefix.

    Relative names start at ``cwd``. Where the text alone says outside, real paths decide: the prefix
    may be a symbolic link while the current directory is told by its real name.

    Raises:
        UsageError: it is not below the prefix, or is no name of a file.
    """
    if not path or "\0" in path or path.endswith("/"):
        raise UsageError(f"{path!r} is no name of a file")
    absolute = paths.reduce_path(os.path.join(cwd, path))
    if not is_below(absolute, prefix):
        real = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
        root = os.path.realpath(prefix)
        if is_below(real, root):
            absolute = prefix.rstrip("/") + real[len(root.rstrip("/")) :]
    if absolute == prefix or not is_below(absolute, prefix):
        raise UsageError(f"{path!r} is outside of the prefix directory {prefix!r}")
    return absolute
