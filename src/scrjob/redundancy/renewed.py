# SPDX-License-Identifier: BSD-3-Clause
"""Which redundancy files of a dataset a build has written, for builds and audits after this one.

Members that were rebuilt repeat what the others said, so they are no witnesses; and a build that was
killed between a member's last file and its redundancy file has left that one to the next build.

``scrjob.rebuilt`` in the dataset's directory, appended before anything of a member gets its name: a line
for each redundancy file, its name and the nanoseconds of its last change. A file with another time is not
the one that was written, e.g. the original, copied after all.

Source: docs/scavenge.md, "journals".
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Set

from scrjob._fsio import fsync_dir, read_bounded
from scrjob.errors import FormatError
from scrjob.formats import redset_header
from scrjob.redundancy.logical import write_exactly

if TYPE_CHECKING:
    from scrjob.formats.redset_header import RedsetName

NAME = "scrjob.rebuilt"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DIGITS = 20


class Renewed:
    """The redundancy files that this build and those before it have written.

    Attributes:
        paths: those that are there as they were written.
        unwritten: the names of those that were to be, and are not there.

    Args:
        directory: the dataset's; what is noted there counts, if it can be read.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, NAME)
        self.paths: Set[str] = set()
        self.unwritten: Set[RedsetName] = set()
        for name, times in self._noted().items():
            path = os.path.join(directory, str(name))
            time_ns = _changed(path)
            if time_ns is None:
                self.unwritten.add(name)
            elif time_ns in times:
                self.paths.add(path)

    def _noted(self) -> Dict[RedsetName, Set[int]]:
        try:
            lines = read_bounded(self._path).decode("ascii", "replace").splitlines()
        except (FormatError, OSError):
            return {}
        found: Dict[RedsetName, Set[int]] = {}
        for line in lines:
            text, _, time_ns = line.partition(" ")
            name = redset_header.parse_name(text)
            if name is not None and time_ns.isdigit() and len(time_ns) < _MAX_DIGITS:
                found.setdefault(name, set()).add(int(time_ns))
        return found

    def note(self, written: Mapping[str, int]) -> None:
        """Note redundancy files that are about to get their names: path -> time of the last change, ns.

        Raises:
            OSError: that cannot be made durable.
        """
        lines = [f"{os.path.basename(path)} {time_ns}\n" for path, time_ns in written.items()]
        fd = os.open(self._path, _FLAGS, 0o666)
        try:
            # One that was killed may have left half a line.
            size = os.fstat(fd).st_size
            write_exactly(fd, size, memoryview("".join(["\n", *lines]).encode("ascii")))
            os.fsync(fd)
        finally:
            os.close(fd)
        fsync_dir(os.path.dirname(self._path))
        self.paths.update(written)

    def remove(self) -> None:
        """Forget all."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _changed(path: str) -> Optional[int]:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return None
