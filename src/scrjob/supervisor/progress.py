# SPDX-License-Identifier: BSD-3-Clause
"""Where a program's progress shows: SCR's files, files that it touches, its output.

Each source is asked twice a second, so it costs a ``stat`` and reads a file only when that has changed.
What costs more, the growth of files in cache, is in ``growth``.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple, Optional, Protocol, Sequence

from scrjob.errors import FormatError
from scrjob.formats import flush, kvtree
from scrjob.formats.index import Index

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

SCR_FILES = ("flush.scr", "index.scr", "nodes.scr", "log")
OUTPUT_READ_BYTES = 1 << 16  # so much new output at once is not from us
_OWN_LINE = re.compile(rb"scr_\w+: \d\d:\d\d:\d\d ")


class Source(Protocol):
    """One place where progress shows.

    Attributes:
        name: what it is, for messages.
        is_work: a change shows that the program does its work, so that its start-up is over.
        is_promised: the user says that it will change as long as all is well.
    """

    name: str
    is_work: bool
    is_promised: bool

    def changed(self) -> bool:
        """Tell whether there was progress since the last call, at first since it was made."""
        ...


class Files:
    """Any change of some files, their coming and going included.

    Args:
        name: what they are.
        paths: where they are; they need not exist.
        named: the user named them, so that they are work, and promised.
    """

    def __init__(self, name: str, paths: Sequence[str], *, named: bool) -> None:
        self.name = name
        self.is_work = self.is_promised = named
        self._paths = list(paths)
        self._seen = [_look(path) for path in self._paths]

    def changed(self) -> bool:
        """Tell whether any file has another time of change or size than at the last call."""
        before, self._seen = self._seen, [_look(path) for path in self._paths]
        return self._seen != before


class Datasets:
    """New datasets, by the ids in the flush file and in the index.

    Args:
        directory: ``<prefix>/.scr``.

    Attributes:
        newest: the largest id, 0 for none.
        flushing: a dataset is on its way to the prefix, and the program waits for it.
    """

    name = "a dataset"
    is_work = True
    is_promised = False

    def __init__(self, directory: str) -> None:
        self._flush_file = os.path.join(directory, "flush.scr")
        self._index_file = os.path.join(directory, "index.scr")
        self._seen: dict[str, _Look] = {}
        self._flushed = 0
        self._indexed = 0
        self._marked: set[int] = set()
        self._left_over: set[int] = set()
        self.flushing = False
        self.changed()
        self._left_over = self._marked
        self.flushing = False

    @property
    def newest(self) -> int:
        """Return the largest id known, 0 for none."""
        return max(self._flushed, self._indexed)

    def changed(self) -> bool:
        """Tell whether there is a larger id than at the last call."""
        before = self.newest
        if self._is_new(self._flush_file):
            self._read_flush_file()
        if self._is_new(self._index_file):
            self._read_index()
        return self.newest > before

    def _is_new(self, path: str) -> bool:
        look = _look(path)
        if self._seen.get(path) == look:
            return False
        self._seen[path] = look
        return True

    def _read_flush_file(self) -> None:
        try:
            tree = kvtree.read(self._flush_file)
        except FileNotFoundError:
            tree = kvtree.KVTree()
        except (OSError, FormatError):
            del self._seen[self._flush_file]  # it is being rewritten in place: read it again
            return
        self._flushed = flush.latest(tree) or 0
        marked = {n for n in flush.ids(tree) if flush.location(tree, n) == flush.SYNC_FLUSHING}
        # The mark of a run that was ended in a flush remains; only the newest may be flushed again.
        self._marked = marked
        self._left_over &= marked
        self.flushing = bool(marked - self._left_over) or self._flushed in marked

    def _read_index(self) -> None:
        try:
            self._indexed = max(Index.read(self._index_file, to_change=False).ids(), default=0)
        except FileNotFoundError:
            self._indexed = 0
        except (OSError, FormatError):
            del self._seen[self._index_file]


class Output:
    """Growth of the files to which the program's output goes. Lines of our own do not count.

    Args:
        descriptors: open files; those that are no regular files are passed over.
    """

    name = "output"
    is_work = False  # a greeting at the start is none
    is_promised = True

    def __init__(self, descriptors: Sequence[int] = (1, 2)) -> None:
        self._sizes: dict[int, int] = {}
        files = set()
        for descriptor in descriptors:
            try:
                status = os.fstat(descriptor)
            except OSError:
                continue  # closed
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in files:
                files.add((status.st_dev, status.st_ino))
                self._sizes[descriptor] = status.st_size

    def __bool__(self) -> bool:
        """Tell whether there is anything to watch."""
        return bool(self._sizes)

    def changed(self) -> bool:
        """Tell whether somebody else than this command has written since the last call."""
        found = False
        for descriptor, before in self._sizes.items():
            size = os.fstat(descriptor).st_size
            self._sizes[descriptor] = size
            found = found or (size != before and not _is_own(descriptor, before, size))
        return found


def sources(jobenv: JobEnvironment, datasets: Datasets) -> list[Source]:
    """Return what there is to look at for a job.

    Args:
        jobenv: the job.
        datasets: those of its prefix.
    """
    scr, prefix = jobenv.dir_scr(), jobenv.dir_prefix()
    found: list[Source] = [
        datasets,
        Files("SCR's files", [os.path.join(scr, name) for name in SCR_FILES], named=False),
    ]
    named = (jobenv.param.get("SCR_WATCHDOG_FILE") or "").split(":")
    paths = [os.path.join(prefix, name) for name in named if name]
    if paths:
        found.append(Files("SCR_WATCHDOG_FILE", paths, named=True))
    if jobenv.param.get_bool("SCR_WATCHDOG_OUTPUT"):
        output = Output()
        if output:
            found.append(output)
        else:
            logger.warning(
                "SCR_WATCHDOG_OUTPUT: neither stdout nor stderr is a regular file, so the output "
                "cannot be watched"
            )
    return found


class _Look(NamedTuple):
    """What ``stat`` shows of a file, (0, -1) for one that is not there."""

    changed_ns: int
    size: int


def _look(path: str) -> _Look:
    try:
        status = os.stat(path)
    except OSError:
        return _Look(0, -1)
    return _Look(status.st_mtime_ns, status.st_size)


def _is_own(descriptor: int, start: int, end: int) -> bool:
    """Tell whether what was appended to an open file are lines of ours only."""
    if not 0 < end - start <= OUTPUT_READ_BYTES:
        return False
    added = _read_again(descriptor, start, end)
    return added is not None and all(_OWN_LINE.match(line) for line in added.splitlines())


def _read_again(descriptor: int, start: int, end: int) -> Optional[bytes]:
    """Return a part of a file that is open for writing only; None if it cannot be read."""
    try:
        # Opened anew, so that neither its offset nor its flags are touched, which others share.
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.pread(again, end - start, start)
    except OSError:
        return None
    finally:
        os.close(again)
