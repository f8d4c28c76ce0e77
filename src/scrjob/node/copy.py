# SPDX-License-Identifier: BSD-3-Clause
"""scr_copy: bring what this node holds of one dataset from its cache to the prefix directory.

What the C tool does, with the same answers on stdout and the same exit codes. Where that tool is
plainly wrong this one does what is right: it creates the dataset's directory in the prefix, writes
nothing outside of the prefix, gives no file its name before it is whole, drops a copy whose checksum
is not the recorded one, and says that a damaged filemap is one.

Runs on every compute node at once, so its imports are few.

Source: docs/scavenge.md, "the copy on a node".
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple, Optional, Union

from scrjob._crc import crc32
from scrjob._fsio import read_bounded
from scrjob.errors import FormatError
from scrjob.formats import filemap, paths
from scrjob.formats.filemap import FileMeta
from scrjob.formats.places import Reader
from scrjob.node._batch import Batch
from scrjob.node._cached_files import (
    NOTHING_CACHED,
    UntrustedError,
    is_copied,
    locate,
    open_trusted,
    reason,
)
from scrjob.node._crew import Crew
from scrjob.node._lock import BusyError, only_copy
from scrjob.node._meter import Meter, Progress, cache_extent
from scrjob.node._transfer import CrcMismatchError, Source, StoppedError, Transfer
from scrjob.node.journal import Journal
from scrjob.redundancy.paths import PrefixGuard, Relocation, check_name, make_dirs, relocate

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileStat
    from scrjob.node._transfer import Place
    from scrjob.protocols import Clock

__all__ = ["NOTHING_CACHED", "CopyOptions", "CopyResult", "copy_dataset", "error_line", "one_line"]

PROG = "scr_copy"
DEFAULT_BUFFER_BYTES = (
    1 << 20
)  # per thread; what stays in the processor's cache from reading to writing
MAX_BUFFER_BYTES = 8 << 20  # larger ones only cost memory on the node
APP_DIR_MODE = 0o700  # SCR's choice for directories of application files
SCR_DIR_MODE = 0o777
WATCH_S = 1.0
HANGING_S = 5.0  # how long a thread is waited for when the copy is given up


class CopyResult(NamedTuple):
    """What was done on one node.

    Attributes:
        rc: 0 all well, 1 something is missing or failed; the exit code.
        files: application files that are now complete in the prefix.
        bytes: their sizes together.
        skipped: files of any kind that an earlier call had copied already.
        errors: one line for each thing that went wrong.
        crcs: path relative to the prefix -> CRC32, of all files that were copied and checksummed; empty
            if a journal has them.
    """

    rc: int
    files: int
    bytes: int
    skipped: int
    errors: tuple[str, ...]
    crcs: dict[str, int]


class CopyOptions(NamedTuple):
    """How to copy.

    Attributes:
        buffer_bytes: memory for copying, for each of a few threads.
        moves: relocations of recorded paths.
        checksum: compute the CRC32 of each file.
        resume: keep a journal in the prefix, and do not copy again what it proves to be there; end a copy
            of the same dataset that is at work on this node.
        shared: other nodes see this cache, too: with ``resume``, what their journals prove counts as well.
        created_us: when the dataset was created, microseconds since the epoch; a node that was away may
            hold an older one under a number that was used again, which is not copied.
        bytes_per_s: copy so much a second at most; None: no limit.
        progress: keep ``scrjob.progress.<host>`` in the dataset's directory in the prefix.
        is_alone: tells whether nobody waits for the answer any more; asked about once a second.
    """

    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    moves: Iterable[Relocation] = ()
    checksum: bool = True
    resume: bool = False
    shared: bool = False
    created_us: Optional[int] = None
    bytes_per_s: Optional[int] = None
    progress: bool = False
    is_alone: Callable[[], bool] = lambda: False


def copy_dataset(
    cntldir: str,
    dataset_id: int,
    prefix: str,
    *,
    host: str,
    clock: Clock,
    emit: Callable[[str], None],
    options: CopyOptions = CopyOptions(),  # noqa: B008 - never changed
) -> CopyResult:
    """Copy a dataset's files, filemaps and redundancy files of this node to the prefix.

    Args:
        cntldir: control directory with the cache index.
        dataset_id: which dataset, > 0.
        prefix: absolute prefix directory.
        host: name of this node, for messages and for names of temporary files.
        clock: for the limit, the progress and the waiting for a predecessor.
        emit: gets each line of the C tool's stdout.
        options: how.

    Returns:
        What was done; a failure of one file does not keep the others from being copied.
    """
    return _Copier(dataset_id, PrefixGuard(prefix, options.moves), host, clock, emit, options).run(
        cntldir
    )


class _Copier:
    def __init__(
        self,
        dataset_id: int,
        guard: PrefixGuard,
        host: str,
        clock: Clock,
        emit: Callable[[str], None],
        options: CopyOptions,
    ) -> None:
        self.dataset_id = dataset_id
        self.guard = guard
        self.host = host
        self.clock = clock
        self.emit = emit
        self.options = options
        # The names of temporary files are unlike those of any other process; the build removes what killed
        # ones leave. A copy that holds the lock of its node replaces what its predecessors left.
        self.temporary = f".scrjob-copy.{dataset_id}.{host}.{os.urandom(4).hex()}"
        self.number = 0
        self.target = paths.dataset_dir(guard.prefix, dataset_id)
        self.journal = (
            Journal(self.target, host, heeds_others=options.shared) if options.resume else None
        )
        self.directories: dict[str, tuple[str, str]] = {}
        self.reader = Reader()
        self.files = self.bytes = self.skipped = 0
        self.errors: list[str] = []
        self.crcs: dict[str, int] = {}
        self.pending: list[
            Union[_Line, Transfer]
        ] = []  # to be told, in order, when all of it is known
        self.looked = float("-inf")

    def run(self, cntldir: str) -> CopyResult:
        options = self.options
        cache = locate(cntldir, self.dataset_id, options.moves, options.created_us)
        if cache.damage:
            self._error(cache.damage)
        if cache.path is None:
            self._not_here(cache.problem)
            return self._result()
        with contextlib.ExitStack() as stack:
            try:
                self._lock(cntldir, stack)
                self._copy_from(cache.path)
            except (BusyError, StoppedError) as error:
                self.pending = [item for item in self.pending if isinstance(item, _Line)]
                self._error(str(error))
        self._tell()
        result = self._result()
        self.emit(f"{PROG}: {self.host}: Return code: {result.rc}")
        return result

    def _not_here(self, problem: str) -> None:
        if problem.startswith(NOTHING_CACHED):
            self._say(problem)
        else:
            self._error(problem)
        self._tell()

    def _lock(self, cntldir: str, stack: contextlib.ExitStack) -> None:
        """Be the only copy of this dataset on this node, if there may be others."""
        if not self.options.resume:
            return
        name = f"scrjob.copy.{self.dataset_id}.{self.host}.lock"
        with contextlib.suppress(OSError):  # nowhere to lock: the names keep two copies apart
            stack.enter_context(only_copy(cntldir, name, self.clock))
            mark = f"{_mark(cntldir):08x}"
            self.temporary = f".scrjob-copy.{self.dataset_id}.{self.host}.{mark}"

    def _copy_from(self, cache: str) -> None:
        hidden = os.path.join(cache, ".scr")
        try:
            names = sorted(os.listdir(hidden))
        except OSError as error:
            self._say(
                f"Failed to open directory {hidden} in dataset id {self.dataset_id}",
                reason(error, hidden),
            )
            return
        if not names or not self._make_target():
            return
        self.meter = Meter(
            self.clock,
            bytes_per_s=self.options.bytes_per_s,
            report=self._progress(cache) if self.options.progress else None,
        )
        piece = self.meter.piece(min(self.options.buffer_bytes, MAX_BUFFER_BYTES))
        crew = Crew(self.meter, piece, self._watch)
        self.batch = Batch(crew, self.guard, self.journal)
        try:
            for name in names:
                self._entry(hidden, name)
            self._commit()
        finally:
            self.meter.stop()
            if crew.close(HANGING_S):
                self.batch.abandon(StoppedError("the copy was given up"))
            self.meter.close()
            if self.journal is not None:
                self.journal.close()

    def _progress(self, cache: str) -> Progress:
        size, files = cache_extent(cache)
        temporary = f"{self.temporary}.progress.tmp"
        return Progress(self.target, self.host, temporary, total_bytes=size, total_files=files)

    def _watch(self) -> None:
        """Stop when nobody waits for the answer: who starts the copy anew does not want two of them."""
        now = self.clock.monotonic()
        if now - self.looked >= WATCH_S:
            self.looked = now
            if self.options.is_alone():
                self.meter.stop()

    def _commit(self) -> None:
        self.batch.commit()
        self._tell()

    def _result(self) -> CopyResult:
        return CopyResult(
            int(bool(self.errors)),
            self.files,
            self.bytes,
            self.skipped,
            tuple(self.errors),
            self.crcs,
        )

    def _make_target(self) -> bool:
        try:
            self.guard.check_real(os.path.join(self.target, "."))
            make_dirs(self.target, SCR_DIR_MODE)
        except (FormatError, OSError) as error:
            self._failed(f"Failed to create directory {self.target}", error)
            return False
        return True

    def _entry(self, hidden: str, name: str) -> None:
        path = os.path.join(hidden, name)
        rank = filemap.rank_of(name)
        if rank is not None:
            if not self._filemap(path, rank):
                return
            name = filemap.file_name(rank)
        elif not is_copied(name):
            return
        try:
            place = self._place(self.target, SCR_DIR_MODE)
            source = Source.open(path)
        except (FormatError, OSError) as error:
            target = os.path.join(self.target, name)
            self._failed(_copying(path, target, is_counted=False), error)
            return
        self._add(source, place, name, FileMeta(), is_counted=False)

    def _filemap(self, path: str, rank: int) -> bool:
        """Copy the files of one rank; tells whether its filemap is worth copying."""
        try:
            files = self.reader.read_metas(read_bounded(path), path)
        except (FormatError, OSError) as error:
            self._failed("Failed to read filemap", error)
            return False
        for recorded, meta in files.items():
            source = relocate(recorded, self.guard.moves)
            try:
                found, trusted = open_trusted(recorded, source, meta)
            except UntrustedError as problem:
                self._error(str(problem))
                self._error(
                    f"File is unreadable or incomplete: CheckpointID {self.dataset_id}, "
                    f"Rank {rank}, File: {recorded}"
                )
                continue
            if not self._application_file(recorded, source, found, trusted):
                self.pending.append(_Line(f"{PROG}: {self.host}: Return code: 1", ""))
                return False
        return True

    def _application_file(
        self, recorded: str, path: str, found: Union[Source, Exception], meta: FileMeta
    ) -> bool:
        """Copy one file; False if its place in the prefix cannot be had."""
        place = None
        try:
            if meta.directory is None:
                self._error(f"Failed to read directory from meta data for file: {recorded}")
                return False
            name = recorded.rpartition("/")[2]
            check_name(name)
            directory, start = self._directory(meta.directory)
            target = start + name
            if path == target:  # bypass: the application wrote it there
                self._count(meta.stat)
                return True
            place = self._place(directory, APP_DIR_MODE)
        except (FormatError, OSError) as error:
            self._failed(f"Failed to create path for file {recorded}", error)
            return False
        finally:
            if place is None and isinstance(found, Source):
                found.close()
        if isinstance(found, Source):
            self._add(found, place, name, meta, is_counted=True)
        else:
            self._failed(_copying(path, target, is_counted=True), found)
        return True

    def _directory(self, recorded: str) -> tuple[str, str]:
        """Return where a recorded directory is in the prefix, and how paths in it begin."""
        found = self.directories.get(recorded)
        if found is None:
            directory = self.guard.directory(recorded)
            found = self.directories[recorded] = directory, os.path.join(directory, "")
        return found

    def _place(self, directory: str, mode: int) -> Place:
        if self.batch.is_full:
            self._commit()
        return self.batch.place(directory, mode)

    def _add(
        self,
        source: Source,
        place: Place,
        name: str,
        meta: FileMeta,
        *,
        is_counted: bool,
    ) -> None:
        """Have a file copied, if it is not there already."""
        self.number += 1
        if self.journal is not None:
            known = self.journal.find(place, name, source)
            if known is not None and self._is_proof(known.crc, meta.crc):
                source.close()
                self.skipped += 1
                self.meter.count_files(1, known.size)
                if is_counted:
                    self._count(meta.stat)
                return
        transfer = Transfer(
            source,
            place,
            name,
            f"{self.temporary}.{self.number}.tmp",
            attributes=meta.stat,
            crc=meta.crc,
            checksum=self.options.checksum,
            is_counted=is_counted,
        )
        self.pending.append(transfer)
        self.batch.add(transfer)

    def _is_proof(self, known: Optional[int], recorded: Optional[int]) -> bool:
        """Tell whether a copy with this checksum need not be made again."""
        if known is None:
            return recorded is None and not self.options.checksum
        return recorded in (None, known)

    def _count(self, stat: FileStat) -> None:
        self.files += 1
        self.bytes += stat.size_bytes or 0

    def _say(self, text: str, detail: str = "") -> None:
        """Report a failure in the words that the C tool has for it."""
        line = f"{PROG}: {self.host}: {one_line(text)}"
        self.pending.append(_Line(line, f"{text}: {detail}" if detail else text))

    def _error(self, text: str) -> None:
        self.pending.append(self._error_line(text))

    def _failed(self, what: str, error: Exception) -> None:
        self._error(f"{what}: {reason(error, what)}")

    def _error_line(self, text: str) -> _Line:
        return _Line(error_line(self.host, f"{PROG}: {text}"), text)

    def _tell(self) -> None:
        """Say what became of all that was done so far."""
        pending, self.pending = self.pending, []
        for item in pending:
            lines: Iterable[_Line]
            if isinstance(item, _Line):
                lines = (item,)
            elif item.error is None and not item.complaints:
                self._done(item)
                continue
            else:
                lines = self._lines_of(item)
            for line, error in lines:
                self.emit(line)
                if error:
                    self.errors.append(error)

    def _lines_of(self, transfer: Transfer) -> Iterator[_Line]:
        """Yield what is to be said of a file that is done with, not all being well."""
        source = transfer.source.path
        for complaint in transfer.complaints:
            yield self._error_line(f"Failed to set attributes of {transfer.target}: {complaint}")
        if isinstance(transfer.error, CrcMismatchError):
            yield self._error_line(
                f"CRC32 mismatch detected when flushing file {source} to {transfer.target}"
            )
        elif transfer.error is not None:
            what = _copying(source, transfer.target, is_counted=transfer.is_counted)
            yield self._error_line(f"{what}: {reason(transfer.error, what)}")
        else:
            self._done(transfer)

    def _done(self, transfer: Transfer) -> None:
        """Take account of a file that is there for good."""
        if transfer.is_counted:
            self._count(transfer.attributes)
        if transfer.found is not None and not (self.journal and self.journal.is_whole):
            self.crcs[transfer.place.relative(transfer.name)] = transfer.found


def _mark(directory: str) -> int:
    """Return what tells a directory from those of the same path on other nodes, even of one host name.

    Two copies that use the same temporary names would give each other's bytes their own files' names.

    Raises:
        OSError: it cannot be had.
    """
    status = os.stat(directory)
    boot = read_bounded("/proc/sys/kernel/random/boot_id", limit=64)
    place = f"{status.st_dev}:{status.st_ino}:{os.path.realpath(directory)}"
    return crc32(boot + os.fsencode(place))


class _Line(NamedTuple):
    """A line of stdout, and the error that it tells of, "" for none."""

    line: str
    error: str


def _copying(path: str, target: str, *, is_counted: bool) -> str:
    """Return how a message about a copy that failed begins."""
    return f"Failed to copy {'file ' if is_counted else ''}{path} to {target}"


def error_line(host: str, text: str) -> str:
    """Return an error as SCR's serial tools print it on stdout."""
    return f"SCR v3.1.0 ERROR: {host}: {one_line(text)}"


def one_line(text: str) -> str:
    """Return the text with everything escaped that could break or garble the line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
