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

import os
import re
from typing import Callable, Iterable, NamedTuple, Optional

from scrjob._fsio import check_private_dir
from scrjob.errors import FormatError, ScrError, UnsafePathError
from scrjob.formats import cindex, filemap, kvtree, paths
from scrjob.formats.filemap import FileMeta, FileStat
from scrjob.node._transfer import CrcMismatchError, copy_file
from scrjob.node.journal import Journal
from scrjob.redundancy.paths import PrefixGuard, Relocation, make_dirs, relocate

PROG = "scr_copy"
DEFAULT_BUFFER_BYTES = 32 << 20
MAX_BUFFER_BYTES = 64 << 20  # larger ones only cost memory on the node
APP_DIR_MODE = 0o700  # SCR's choice for directories of application files
SCR_DIR_MODE = 0o777

_REDSET = re.compile(
    r"reddesc(?:map)?\.er\.[0-9]+(?:\.[a-z]+\.grp_[0-9]+_of_[0-9]+\.mem_[0-9]+_of_[0-9]+)?\.redset"
)


class CopyResult(NamedTuple):
    """What was done on one node.

    Attributes:
        rc: 0 all well, 1 something is missing or failed; the exit code.
        files: application files that are now complete in the prefix.
        bytes: their sizes together.
        skipped: files of any kind that an earlier call had copied already.
        errors: one line for each thing that went wrong.
        crcs: path relative to the prefix -> CRC32, of all files that were copied and checksummed.
    """

    rc: int
    files: int
    bytes: int
    skipped: int
    errors: tuple[str, ...]
    crcs: dict[str, int]


def copy_dataset(
    cntldir: str,
    dataset_id: int,
    prefix: str,
    *,
    host: str,
    emit: Callable[[str], None],
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    moves: Iterable[Relocation] = (),
    checksum: bool = True,
    resume: bool = False,
    created_us: Optional[int] = None,
) -> CopyResult:
    """Copy a dataset's files, filemaps and redundancy files of this node to the prefix.

    Args:
        cntldir: control directory with the cache index.
        dataset_id: which dataset, > 0.
        prefix: absolute prefix directory.
        host: name of this node, for messages and for names of temporary files.
        emit: gets each line of the C tool's stdout.
        buffer_bytes: memory for copying.
        moves: relocations of recorded paths.
        checksum: compute the CRC32 of each file.
        resume: keep a journal in the prefix, and do not copy again what it proves to be there.
        created_us: when the dataset was created, microseconds since the epoch; a node that was away may
            hold an older one under a number that was used again, which is not copied.

    Returns:
        What was done; a failure of one file does not keep the others from being copied.
    """
    return _Copier(
        dataset_id,
        PrefixGuard(prefix, moves),
        host,
        emit,
        min(buffer_bytes, MAX_BUFFER_BYTES),
        checksum=checksum,
        resume=resume,
        created_us=created_us,
    ).run(cntldir)


NOTHING_CACHED = "Failed to find cache directory"
"""What the C tool says on a node that holds no part of the dataset: a spare, most of the time."""


class _UntrustedError(ScrError):
    """A file in cache is not what its record says."""


class _Copier:
    def __init__(
        self,
        dataset_id: int,
        guard: PrefixGuard,
        host: str,
        emit: Callable[[str], None],
        buffer_bytes: int,
        *,
        checksum: bool,
        resume: bool,
        created_us: Optional[int],
    ) -> None:
        self.dataset_id = dataset_id
        self.guard = guard
        self.host = host
        self.emit = emit
        # Unlike that of any other process: a predecessor that lost its caller may still be at work. The
        # build removes what killed ones leave.
        self.temporary = f".scrjob-copy.{dataset_id}.{host}.{os.urandom(4).hex()}.tmp"
        self.buffer = memoryview(bytearray(buffer_bytes))
        self.checksum = checksum
        self.created_us = created_us
        self.target = paths.dataset_dir(guard.prefix, dataset_id)
        self.journal = Journal(self.target, host) if resume else None
        self.files = self.bytes = self.skipped = 0
        self.errors: list[str] = []
        self.crcs: dict[str, int] = {}

    def run(self, cntldir: str) -> CopyResult:
        cache = self._cache_directory(cntldir)
        if cache is None:
            return self._result()
        hidden = os.path.join(cache, ".scr")
        try:
            names = sorted(os.listdir(hidden))
        except OSError as error:
            self._say(
                f"Failed to open directory {hidden} in dataset id {self.dataset_id}", str(error)
            )
            names = []
        if names and self._make_target():
            for name in names:
                self._entry(hidden, name)
            if self.journal is not None:
                self.journal.close()
        result = self._result()
        self.emit(f"{PROG}: {self.host}: Return code: {result.rc}")
        return result

    def _result(self) -> CopyResult:
        return CopyResult(
            int(bool(self.errors)),
            self.files,
            self.bytes,
            self.skipped,
            tuple(self.errors),
            self.crcs,
        )

    def _cache_directory(self, cntldir: str) -> Optional[str]:
        """Return where the cache index says that the dataset is; None, and an error, if it does not."""
        tree = kvtree.KVTree()
        try:
            # In a shared place somebody else could have made it, to have files of his taken for ours.
            check_private_dir(cntldir, uid=os.geteuid())
            tree = kvtree.read(os.path.join(cntldir, paths.CINDEX_NAME))
        except FileNotFoundError:
            pass  # nothing was ever cached here
        except (UnsafePathError, FormatError, OSError) as error:
            self._error(f"Failed to read cache index: {error}")
        entry = cindex.datasets(tree).get(self.dataset_id)
        if entry is None or entry.path is None:
            self._say(f"{NOTHING_CACHED} for dataset id {self.dataset_id}")
            return None
        held = None if entry.details is None else entry.details.created_us
        if None not in (held, self.created_us) and held != self.created_us:
            self._error(f"Another dataset of id {self.dataset_id} is cached here: it is not copied")
            return None
        return relocate(entry.path, self.guard.moves)

    def _make_target(self) -> bool:
        try:
            self.guard.check_real(os.path.join(self.target, "."))
            make_dirs(self.target, SCR_DIR_MODE)
        except (FormatError, OSError) as error:
            self._error(f"Failed to create directory {self.target}: {error}")
            return False
        return True

    def _entry(self, hidden: str, name: str) -> None:
        source = os.path.join(hidden, name)
        rank = filemap.rank_of(name)
        if rank is not None:
            if not self._filemap(source, rank):
                return
            name = filemap.file_name(rank)
        elif _REDSET.fullmatch(name) is None:
            return
        try:
            self._transfer(source, os.path.join(self.target, name), FileStat())
        except (ScrError, OSError) as error:
            self._error(f"Failed to copy {source}: {error}")

    def _filemap(self, path: str, rank: int) -> bool:
        """Copy the files of one rank; tells whether its filemap is worth copying."""
        try:
            files = filemap.parse(kvtree.read(path))
        except (FormatError, OSError) as error:
            self._error(f"Failed to read filemap: {error}")
            return False
        for recorded, meta in files.items():
            try:
                trusted = self._trusted(recorded, meta)
            except _UntrustedError as problem:
                self._error(str(problem))
                self._error(
                    f"File is unreadable or incomplete: CheckpointID {self.dataset_id}, "
                    f"Rank {rank}, File: {recorded}"
                )
                continue
            if not self._application_file(recorded, trusted):
                self.emit(f"{PROG}: {self.host}: Return code: 1")
                return False
        return True

    def _trusted(self, recorded: str, meta: Optional[FileMeta]) -> FileMeta:
        """Return the record of a file that is complete in cache.

        Raises:
            _UntrustedError: it is not, or there is no record.
        """
        path = relocate(recorded, self.guard.moves)
        if not os.access(path, os.R_OK):
            raise _UntrustedError(f"Do not have read access to file: {recorded}")
        if meta is None:
            raise _UntrustedError(f"Failed to read meta data for file: {recorded}")
        if not meta.complete:
            raise _UntrustedError(f"File is marked as incomplete: {recorded}")
        actual = os.stat(path).st_size
        if meta.stat.size_bytes != actual:
            raise _UntrustedError(f"Filesize is incorrect, currently {actual} for {recorded}")
        return meta

    def _application_file(self, recorded: str, meta: FileMeta) -> bool:
        """Copy one file; False if its place in the prefix cannot be had."""
        if meta.directory is None:
            self._error(f"Failed to read directory from meta data for file: {recorded}")
            return False
        source = relocate(recorded, self.guard.moves)
        try:
            target = self.guard.destination(meta.directory, os.path.basename(recorded))
            if source == target:  # bypass: the application wrote it there
                self._count(meta)
                return True
            self.guard.check_real(target)
            make_dirs(os.path.dirname(target), APP_DIR_MODE)
        except (FormatError, OSError) as error:
            self._error(f"Failed to create path for file {recorded}: {error}")
            return False
        try:
            self._transfer(source, target, meta.stat, crc=meta.crc)
        except CrcMismatchError:
            self._error(f"CRC32 mismatch detected when flushing file {source} to {target}")
        except (ScrError, OSError) as error:
            self._error(f"Failed to copy file {source} to {target}: {error}")
        else:
            self._count(meta)
        return True

    def _transfer(
        self,
        source: str,
        target: str,
        attributes: FileStat,
        *,
        crc: Optional[int] = None,
    ) -> None:
        relative = self.guard.relative(target)
        status = os.stat(source)
        if self.journal is not None:
            known = self.journal.find(relative, target, status)
            if known is not None and crc in (None, known):
                self.crcs[relative] = known
                self.skipped += 1
                return
        temporary = os.path.join(os.path.dirname(target), self.temporary)
        copied = copy_file(
            source,
            target,
            temporary,
            buffer=self.buffer,
            attributes=attributes,
            crc=crc,
            checksum=self.checksum,
        )
        for complaint in copied.complaints:
            self._error(f"Failed to set attributes of {target}: {complaint}")
        if copied.crc is not None:
            self.crcs[relative] = copied.crc
            if self.journal is not None:
                self.journal.add(relative, copied.size, copied.mtime_ns, status, copied.crc)

    def _count(self, meta: FileMeta) -> None:
        self.files += 1
        self.bytes += meta.stat.size_bytes or 0

    def _say(self, text: str, detail: str = "") -> None:
        """Report a failure in the words that the C tool has for it."""
        self.errors.append(f"{text}: {detail}" if detail else text)
        self.emit(f"{PROG}: {self.host}: {one_line(text)}")

    def _error(self, text: str) -> None:
        self.errors.append(text)
        self.emit(error_line(self.host, f"{PROG}: {text}"))


def error_line(host: str, text: str) -> str:
    """Return an error as SCR's serial tools print it on stdout."""
    return f"SCR v3.1.0 ERROR: {host}: {one_line(text)}"


def one_line(text: str) -> str:
    """Return the text with everything escaped that could break or garble the line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
