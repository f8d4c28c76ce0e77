# SPDX-License-Identifier: BSD-3-Clause
"""The dataset that is being written: which files this rank has named, and their filemap."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Iterable

from scrjob.client import layout
from scrjob.errors import DatasetError, UsageError
from scrjob.formats import filemap, kvtree
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.redundancy.paths import make_dirs

if TYPE_CHECKING:
    from scrjob.formats.cindex import CachedDataset

DIRECTORY_MODE = 0o777  # of directories in the prefix, before the umask


class Output:
    """One rank's part of an open dataset.

    Args:
        entry: the dataset in cache.
        rank: this rank.
        size: number of ranks.
        prefix: the prefix directory.
        started: Unix seconds.
    """

    def __init__(
        self, entry: CachedDataset, *, rank: int, size: int, prefix: str, started: float
    ) -> None:
        self.entry = entry
        self.started = started
        self._rank = rank
        self._size = size
        self._prefix = prefix
        self._files: dict[str, FileMeta] = {}

    @property
    def dataset(self) -> str:
        """Return the dataset's directory in cache."""
        return self.entry.path or ""

    @property
    def filemap(self) -> str:
        """Return the path of this rank's filemap."""
        return layout.filemap_path(self.dataset, self._rank)

    @property
    def paths(self) -> list[str]:
        """Return where this rank's files are to be written, in the order in which they were named."""
        return list(self._files)

    @property
    def targets(self) -> list[str]:
        """Return where they belong in the prefix."""
        return [
            os.path.join(meta.directory or "", meta.name or "") for meta in self._files.values()
        ]

    @property
    def size_bytes(self) -> int:
        """Return the size of all files, once ``finish`` has looked."""
        return sum(meta.stat.size_bytes or 0 for meta in self._files.values())

    def route(self, path: str, cwd: str) -> str:
        """Return where to write a file, and note it; the filemap may get it with later ones only.

        Raises:
            UsageError: it is outside of the prefix, or another file of this rank has its base name.
            OSError: the filemap cannot be written.
        """
        target = layout.absolute_in_prefix(path, self._prefix, cwd)
        directory, name = os.path.split(target)
        if self.entry.is_bypass:
            place = target
            make_dirs(directory, DIRECTORY_MODE)
        else:
            place = os.path.join(self.dataset, name)
        known = self._files.get(place)
        if known is not None and known.directory != directory:
            raise UsageError(f"{path!r}: another file of this dataset is called {name!r}")
        if name == layout.HIDDEN and not self.entry.is_bypass:
            raise UsageError(f"{path!r}: this name is taken by SCR's own directory")
        self._files[place] = FileMeta(
            complete=False, ranks=self._size, orig=path, directory=directory, name=name
        )
        count = len(self._files)
        if count & (count - 1) == 0:  # at powers of two, or thousands of files take minutes
            self._write()
        return place

    def sync(self) -> None:
        """Make files durable that this rank has written to the prefix itself, in bypass mode.

        They are about to be called complete, and the node may die with what it has not sent yet.

        Raises:
            OSError: one cannot be made durable.
        """
        for path in self._files if self.entry.is_bypass else ():
            with contextlib.suppress(
                FileNotFoundError, PermissionError
            ):  # told by finish; not ours
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if stat.S_ISREG(os.fstat(fd).st_mode):
                        os.fsync(fd)
                finally:
                    os.close(fd)

    def disown(self, paths: Iterable[str]) -> None:
        """Leave files to another rank that wrote them too; they are listed once in a dataset."""
        for path in paths:
            del self._files[path]

    def finish(self) -> None:
        """Record the files as they are now.

        Raises:
            DatasetError: one is missing or no regular file.
            OSError: one cannot be looked at, or the filemap cannot be written.
        """
        for path, meta in self._files.items():
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise DatasetError(f"{path}: not a regular file")
            self._files[path] = meta._replace(complete=True, stat=FileStat.from_os(status))
        self._write()

    def _write(self) -> None:
        kvtree.write(self.filemap, filemap.build(self._files))


def shared_paths(paths: list[list[str]]) -> list[set[str]]:
    """Return for each rank those of its paths that a lower rank has named too."""
    seen: set[str] = set()
    shared = []
    for own in paths:
        shared.append(seen.intersection(own))
        seen.update(own)
    return shared
