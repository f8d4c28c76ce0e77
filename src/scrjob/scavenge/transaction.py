# SPDX-License-Identifier: BSD-3-Clause
"""The steps of a scavenge, in their order.

Source: docs/scavenge.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Optional, Sequence, Union

from scrjob._clock import Deadline
from scrjob.errors import FormatError, ScavengeError, UnrecoverableError
from scrjob.formats import dataset, flush, kvtree, paths
from scrjob.redundancy.lock import one_at_a_time, process
from scrjob.redundancy.paths import make_dirs
from scrjob.scavenge import flushes, record
from scrjob.scavenge.answers import NodeCopy, ScavengeResult, problems
from scrjob.scavenge.collect import Collector
from scrjob.scavenge.settings import ScavengeSettings

if TYPE_CHECKING:
    from scrjob.cached import Held
    from scrjob.formats.flush import FlushEntry
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import JobEnvironment
    from scrjob.redundancy.build import Built
    from scrjob.scavenge.progress import Progress

logger = logging.getLogger(__name__)

DIRECTORY_MODE = 0o777

Say = Callable[[str], None]


class Transaction:
    """One dataset on its way to the prefix.

    Args: as ``scrjob.scavenge.scavenge_dataset`` has them.
    """

    def __init__(
        self,
        jobenv: JobEnvironment,
        dataset_id: Union[int, str],
        cntldir: str,
        log: Any,
        say: Say,
        relocations: Sequence[str] = (),
        *,
        verify: Optional[bool] = None,
        flush_ended: bool = False,
        held: Optional[Held] = None,
        progress: Optional[Progress] = None,
    ) -> None:
        self.jobenv = jobenv
        self.dataset_id = int(dataset_id)
        self.cntldir = cntldir
        self.say = say
        self.relocations = list(relocations)
        self.flush_ended = flush_ended
        self.prefix = jobenv.dir_prefix()
        self.directory = paths.dataset_dir(self.prefix, self.dataset_id)
        self.clock = jobenv.context.clock
        self.began = self.clock.monotonic()
        self.started = self.clock.now()
        self.entry = self._flush_entry()
        self.name = (self.entry.name if self.entry else None) or f"dataset {self.dataset_id}"
        settings = ScavengeSettings.from_param(jobenv.param)
        self.settings = settings if verify is None else settings._replace(verify=verify)
        self.copied: set[str] = set()
        self.repaired: set[str] = set()
        self.restored: dict[str, int] = {}
        self.collector = Collector(
            jobenv,
            self.dataset_id,
            self.name,
            cntldir,
            descriptor=self.descriptor,
            settings=self.settings,
            relocations=self.relocations,
            log=log,
            say=say,
            held=held,
            progress=progress,
        )

    def _flush_entry(self) -> Optional[FlushEntry]:
        try:
            tree = kvtree.read(paths.flush_file(self.prefix))
        except FileNotFoundError:
            return None
        except FormatError as error:
            logger.warning("%s", error)
            return None
        return flush.entry(tree, self.dataset_id)

    @property
    def descriptor(self) -> Optional[KVTree]:
        """Return what flush.scr says of the dataset, None if it does not."""
        return None if self.entry is None else self.entry.descriptor

    @property
    def created_us(self) -> Optional[int]:
        """Return when the dataset was made, microseconds since the epoch, None unknown."""
        return None if self.descriptor is None else dataset.parse(self.descriptor).created_us

    def run(self, nodes: Sequence[str], deadline_s: Optional[float]) -> ScavengeResult:
        """Do all of it."""
        self.refuse_running_flush()
        with self.alone():
            self.clear_other_dataset()
            there = self.take_what_is_there()
            return self._bring(nodes, deadline_s) if there is None else there

    def refuse_running_flush(self) -> None:
        """Raise ScavengeError if the dataset is being flushed asynchronously."""
        if self.entry is not None:
            said = flushes.refuse_if_alive(
                self.jobenv, self.entry, self.prefix, flush_ended=self.flush_ended
            )
            if said:
                logger.warning("%s", said)

    def alone(self) -> ContextManager[None]:
        """Return what keeps other scavenges of this dataset out."""
        make_dirs(self.directory, DIRECTORY_MODE)
        who = process(self.jobenv.context.hostname, os.getpid())
        return one_at_a_time(
            self.directory,
            clock=self.clock,
            who=f"a scavenge of job {self.jobenv.job_id()} {who}",
            say=lambda line: self.say(f"scavenge: {line}"),
        )

    def clear_other_dataset(self) -> None:
        """Remove what an older dataset of the same number left."""
        record.clear_other_dataset(self.prefix, self.dataset_id, self.created_us)

    def take_what_is_there(self) -> Optional[ScavengeResult]:
        """List a dataset that is complete in the prefix already; None if it is not."""
        found = record.complete_files(self.prefix, self.dataset_id)
        if found is None and self.entry is not None and flushes.finish(self.prefix, self.entry):
            logger.warning(
                "the flush of dataset %d had finished; it is marked as such", self.dataset_id
            )
            found = record.complete_files(self.prefix, self.dataset_id)
        if found is None:
            return None
        self._list()
        if self.entry is not None and set(flushes.MARKS).intersection(self.entry.locations):
            try:
                flushes.mark_flushed(self.prefix, self.dataset_id)
            except FormatError as error:
                logger.warning("flush.scr does not learn that the flush has ended: %s", error)
        return ScavengeResult(
            self.dataset_id,
            self.name,
            True,
            (),
            (),
            found.files,
            found.bytes,
            self.clock.monotonic() - self.began,
        )

    def _bring(self, nodes: Sequence[str], deadline_s: Optional[float]) -> ScavengeResult:
        """Copy and build; what is found damaged is copied or rebuilt once more."""
        from scrjob.redundancy.survivors import DamagedFilesError  # noqa: PLC0415 - heavy

        self.restored = record.restored(self.directory, self.prefix, self.created_us)
        copies = self.copy(nodes, deadline_s)
        for last in (False, True):
            try:
                return self._build(copies)
            except DamagedFilesError as error:
                self.note("damaged", copies, error=str(error))
                if last or not self.copied.issuperset(error.damaged):
                    raise  # what we did not write is not ours to remove
                # Without them they are copied again, or rebuilt from the other members.
                self.say(f"scavenge: {error}: once more")
                for path in error.damaged:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                copies = self.copy(nodes, deadline_s)
            except (ScavengeError, UnrecoverableError) as error:
                self.note("failed", copies, error=str(error))
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def copy(self, nodes: Sequence[str], deadline_s: Optional[float]) -> list[NodeCopy]:
        """Copy on all nodes and note what each did."""
        make_dirs(self.directory, DIRECTORY_MODE)
        self.note("copying", [])
        limit = self.collector.copy_limit() if deadline_s is None else deadline_s
        copies = self.collector.collect(nodes, Deadline(self.clock, limit))
        self.note("copied", copies)
        return copies

    def _build(self, copies: list[NodeCopy]) -> ScavengeResult:
        """Rebuild, verify, list."""
        from scrjob.cli import SCRIndex  # noqa: PLC0415 - chooses its back end

        self.say(f"scavenge: Checking files for dataset {self.name}")
        index = SCRIndex(self.prefix, context=self.jobenv.context)
        if (
            index.is_native or self.settings.verify
        ):  # the site's tool lists before anybody can verify
            files, size, rebuilt = self._build_here(copies)
        else:
            files, size, rebuilt = self._build_there(index, copies)
        self.note("complete", copies)
        self.say(f"scavenge: Verified files for dataset {self.name}")
        return ScavengeResult(
            self.dataset_id,
            self.name,
            False,
            copies,
            sorted(rebuilt),
            files,
            size,
            self.clock.monotonic() - self.began,
            sum(copy.bytes or 0 for copy in copies),
            self.collector.seconds,
            sorted(self.repaired),
        )

    def _build_here(self, copies: list[NodeCopy]) -> tuple[int, int, dict[str, int]]:
        """Build in this process; returns number and size of the files, and what was rebuilt."""
        from scrjob.redundancy.build import build_dataset  # noqa: PLC0415 - only with data to build
        from scrjob.redundancy.paths import parse_relocation  # noqa: PLC0415 - same

        whole: list[Built] = []
        said: list[str] = []

        def hear(line: str) -> None:
            if line:
                said.append(line)
                self.say(line)

        def verify(built: Built) -> None:
            self._verify(built, crcs, copies)
            whole.append(built)

        why: list[str] = []
        crcs = self._crcs(copies)
        self.copied = set(crcs)
        done = build_dataset(
            self.prefix,
            self.dataset_id,
            now=self.clock.now(),
            host=self.jobenv.context.hostname,
            on_message=hear,
            audit=crcs if self.settings.verify else None,
            moves=[parse_relocation(move) for move in self.relocations],
            force=True,
            descriptor=self.descriptor,
            keep_current=True,
            verify=verify,
            explain=why.append,
            keep_record=not self.settings.verify,
        )
        if not done or not whole:
            if not why and not any(
                copy.rc is not None and not copy.holds_nothing for copy in copies
            ):
                why = [f"no node that answers has it in cache (control directory {self.cntldir})"]
            errors = dict.fromkeys(line for line in said if "ERROR" in line)
            raise self._incomplete("; ".join(why or list(errors)[-2:]), copies)
        files = whole[0].scan.files()
        size = sum(files.values())
        return len(files), size, whole[0].rebuilt

    def _build_there(self, index: Any, copies: list[NodeCopy]) -> tuple[int, int, dict[str, int]]:
        """Have the site's executable build, whose word is checked by what it wrote.

        It lists the dataset before anybody can verify it, and takes ``current`` away from it.
        """
        was_current = record.current(self.prefix) == self.name
        record.drop_failed_summary(self.prefix, self.dataset_id)  # or it would not even look
        done = index.build(self.dataset_id)
        found = record.complete_files(self.prefix, self.dataset_id) if done else None
        if found is None:
            record.drop_failed_summary(self.prefix, self.dataset_id)
            raise self._incomplete("scr_index --build found files missing", copies)
        if was_current and not index.current(self.name):
            logger.warning("the index refuses %s as current, which it was", self.name)
        return found.files, found.bytes, {}

    def _incomplete(self, why: str, copies: Sequence[NodeCopy]) -> UnrecoverableError:
        return UnrecoverableError(
            f"dataset {self.dataset_id} ({self.name}) is not complete in {self.prefix}: "
            f"{why or 'files are missing'}; {problems(copies)}"
        )

    def _crcs(self, copies: Sequence[NodeCopy]) -> dict[str, int]:
        """Return path -> CRC32 of what was copied, by nodes that are gone by now, too."""
        from scrjob.node.journal import known_crcs  # noqa: PLC0415 - only with data to verify

        crcs = known_crcs(self.directory, self.prefix)
        for copy in copies:
            for relative, crc in copy.crcs.items():
                crcs[os.path.join(self.prefix, relative)] = crc
        if self.settings.verify and self.settings.checksum:
            # What an earlier attempt repaired is not what had been copied, and better.
            crcs.update({p: crc for p, crc in self.restored.items() if _is_or_was(p, crc)})
        return crcs

    def _verify(self, built: Built, crcs: dict[str, int], copies: Sequence[NodeCopy]) -> None:
        from scrjob.redundancy.verify import verify_dataset  # noqa: PLC0415 - only with data

        self.copied.update(built.rebuilt)
        verify = self.settings.verify
        done = verify_dataset(
            built, crcs, checksum=verify and self.settings.checksum, parity=verify
        )
        for note in done.notes:
            logger.warning("%s", note)
        self.repaired.update(done.repaired)
        self.restored.update({**built.rebuilt, **done.repaired})
        if done.repaired:  # a KILL before the end must not have it taken for damage
            self.note("copied", copies)

    def _list(self) -> None:
        from scrjob.redundancy.build import build_dataset  # noqa: PLC0415 - only with data

        build_dataset(
            self.prefix,
            self.dataset_id,
            now=self.clock.now(),
            host=self.jobenv.context.hostname,
            on_message=self.say,
            keep_current=True,
        )

    def note(
        self,
        state: str,
        copies: Sequence[NodeCopy],
        *,
        error: str = "",
    ) -> None:
        """Write the journal."""
        record.write(
            self.directory,
            {
                "dataset": self.dataset_id,
                "name": self.name,
                "created": self.created_us,
                "job": self.jobenv.job_id(),
                "state": state,
                "started": self.started,
                "updated": self.clock.now(),
                "error": error,
                "nodes": {copy.node: record.of_node(copy) for copy in copies},
                "rebuilt": {
                    os.path.relpath(path, self.prefix): crc for path, crc in self.restored.items()
                },
                "repaired": sorted(os.path.relpath(path, self.prefix) for path in self.repaired),
            },
        )


def _is_or_was(path: str, crc: int) -> bool:
    """Tell whether a file has this checksum, or is not there any more."""
    from scrjob.redundancy.logical import file_crc  # noqa: PLC0415 - only with data to verify

    try:
        return file_crc(path) == crc
    except FileNotFoundError:
        return True
