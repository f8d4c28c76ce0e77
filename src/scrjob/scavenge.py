# SPDX-License-Identifier: BSD-3-Clause
"""Bring a dataset that only exists in the caches of the nodes to the prefix directory, for good.

Copy on every node that is up, rebuild what other nodes held, verify, and only then call the dataset
complete and list it. Whatever fails, or is killed, leaves the datasets that were safe before as they
are, and can be done again: what was copied and is proved by a journal is not copied twice.

Source: docs/scavenge.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence, Union

from scrjob._fsio import atomic_write, read_bounded
from scrjob.errors import FormatError, ScavengeError, ScrError, UnrecoverableError
from scrjob.formats import dataset, filemap, flush, kvtree, paths, redset_header, summary
from scrjob.model import END_UNKNOWN
from scrjob.node.command import node_command
from scrjob.node.copy import NOTHING_CACHED

if TYPE_CHECKING:
    from scrjob.formats.flush import FlushEntry
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import JobEnvironment
    from scrjob.redundancy.build import Built
    from scrjob.remoteexec.remoteexec import RemoteExecResult

logger = logging.getLogger(__name__)

NO_LIMIT_S = 24 * 3600.0  # for the copy, where the end of the allocation is not known
COPY_SHARE = 0.75  # of the time left; the rest is for rebuild and verification
LEAST_COPY_S = 10.0  # an attempt, however late it is
JOURNAL = "scrjob.scavenge.json"
JOURNAL_VERSION = 1

Say = Callable[[str], None]


class NodeCopy(NamedTuple):
    """What one node did.

    Attributes:
        node: its name.
        rc: exit code of the copy, None if the node did not answer in time.
        files: application files of this node that are complete in the prefix.
        bytes: their sizes together.
        skipped: files of any kind that an earlier attempt had copied.
        errors: one line for each thing that went wrong.
        crcs: path relative to the prefix -> CRC32 of what it copied.
    """

    node: str
    rc: Optional[int]
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    errors: Sequence[str] = ()
    crcs: dict[str, int] = {}  # noqa: RUF012 - never changed


class ScavengeResult(NamedTuple):
    """A dataset that is complete, verified and listed.

    Attributes:
        dataset_id: which one.
        name: its name.
        was_there: nothing had to be copied.
        nodes: what each node did.
        rebuilt: paths of the files that were restored from redundancy.
        files: number of all files.
        bytes: their sizes together.
        seconds: how long it took.
    """

    dataset_id: int
    name: str
    was_there: bool
    nodes: Sequence[NodeCopy]
    rebuilt: Sequence[str]
    files: int
    bytes: int
    seconds: float


def scavenge(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    log: Any = None,
    verbose: bool = False,
) -> None:
    """Bring a dataset to the prefix, rebuild what is missing, verify it and list it in the index.

    Args:
        jobenv: the job.
        nodes: the nodes to copy from, those that are up.
        dataset_id: which dataset.
        cntldir: control directory on the nodes.
        log: an SCRLog for its events, or None.
        verbose: log each step as information.

    Raises:
        UnrecoverableError, ScavengeError: the dataset is not safe; what was safe before still is.
    """
    scavenge_dataset(jobenv, nodes, dataset_id, cntldir, log=log, say=_teller(verbose))


def scavenge_files(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    nodes_down: Optional[Sequence[str]] = None,
    log: Any = None,
    verbose: bool = False,
) -> None:
    """Only copy a dataset's files from the nodes to the prefix; ``nodes_down`` are left out.

    Raises:
        ScavengeError: no node could copy anything, or an asynchronous flush is at work.
    """
    down = set(nodes_down or ())
    job = _Scavenge(jobenv, dataset_id, cntldir, log, _teller(verbose))
    job.refuse_running_flush()
    try:
        copies = job.copy([node for node in nodes if node not in down], None)
    except OSError as error:
        raise ScavengeError(f"dataset {dataset_id}: {error}") from error
    if not any(copy.files for copy in copies):
        raise ScavengeError(f"no file of dataset {dataset_id} was copied: {_problems(copies)}")


def scavenge_dataset(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    *,
    log: Any = None,
    say: Say = logger.debug,
    deadline_s: Optional[float] = None,
    relocations: Sequence[str] = (),
) -> ScavengeResult:
    """Do what ``scavenge`` does and return what was done.

    Args:
        jobenv: the job.
        nodes: the nodes to copy from.
        dataset_id: which dataset.
        cntldir: control directory on the nodes.
        log: an SCRLog, or None.
        say: gets each line that the command prints when it is verbose.
        deadline_s: seconds that the copy may take; default: from the end of the allocation.
        relocations: ``OLD=NEW``: recorded paths below OLD are really below NEW.

    Raises:
        UnrecoverableError: more is lost than redundancy covers.
        ScavengeError: the dataset is not safe for another reason.
        NotSupportedError: files are lost and the redundancy scheme is not known.
    """
    job = _Scavenge(jobenv, dataset_id, cntldir, log, say, relocations)
    try:
        return _do(job, nodes, deadline_s)
    except OSError as error:
        raise ScavengeError(
            f"dataset {job.dataset_id} could not be brought to {job.prefix}: {error}"
        ) from error


def _do(job: _Scavenge, nodes: Sequence[str], deadline_s: Optional[float]) -> ScavengeResult:
    from scrjob.redundancy.verify import DamagedFilesError  # noqa: PLC0415 - see build()

    job.refuse_running_flush()
    job.clear_other_dataset()
    there = job.take_what_is_there()
    if there is not None:
        return there
    for last in (False, True):
        copies = job.copy(nodes, deadline_s)
        try:
            return job.build(copies)
        except DamagedFilesError as error:
            job.note("damaged", copies, error=str(error))
            if last or not job.copied.issuperset(error.damaged):
                raise  # what we did not write is not ours to remove
            # Without them the next attempt copies them again, or rebuilds them from the other members.
            job.say(f"scavenge: {error}: once more")
            for path in error.damaged:
                os.unlink(path)
        except (ScavengeError, UnrecoverableError) as error:
            job.note("failed", copies, error=str(error))
            raise
    raise AssertionError("unreachable: the last attempt returns or raises")


class _Scavenge:
    """One dataset on its way; the steps in the order in which they are called."""

    def __init__(
        self,
        jobenv: JobEnvironment,
        dataset_id: Union[int, str],
        cntldir: str,
        log: Any,
        say: Say,
        relocations: Sequence[str] = (),
    ) -> None:
        self.jobenv = jobenv
        self.dataset_id = int(dataset_id)
        self.cntldir = cntldir
        self.log = log
        self.say = say
        self.relocations = list(relocations)
        self.prefix = jobenv.dir_prefix()
        self.directory = paths.dataset_dir(self.prefix, self.dataset_id)
        self.clock = jobenv.context.clock
        self.began = self.clock.monotonic()
        self.started = self.clock.now()
        self.entry = self._flush_entry()
        self.name = (self.entry.name if self.entry else None) or f"dataset {self.dataset_id}"
        self.copied: set[str] = set()
        self.checksum = jobenv.param.get("SCR_CRC_ON_FLUSH") != "0"

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
        return None if self.entry is None else self.entry.descriptor

    def refuse_running_flush(self) -> None:
        if self.entry is not None and flush.FLUSHING in self.entry.locations:
            raise ScavengeError(
                f"dataset {self.dataset_id} is being flushed asynchronously: it is not touched; "
                "when the flush has ended or died, drop FLUSHING from flush.scr and try again"
            )

    def clear_other_dataset(self) -> None:
        """Remove what an older dataset of the same number left in the hidden directory."""
        found = self._created_of_directory()
        mine = None if self.descriptor is None else dataset.parse(self.descriptor).created_us
        if found is None or mine is None or found == mine:
            return
        logger.warning("%s holds an older dataset: its metadata is removed", self.directory)
        for name in os.listdir(self.directory):
            if _is_metadata(name):
                os.unlink(os.path.join(self.directory, name))

    def _created_of_directory(self) -> Optional[int]:
        """Return the time of creation of the dataset that the directory is of, None unknown."""
        with contextlib.suppress(OSError, FormatError):
            tree = summary.parse(kvtree.read(paths.summary_file(self.prefix, self.dataset_id)))
            if tree.descriptor is not None:
                return dataset.parse(tree.descriptor).created_us
        with contextlib.suppress(OSError, FormatError, ValueError, AttributeError):
            created = json.loads(read_bounded(os.path.join(self.directory, JOURNAL))).get("created")
            return created if isinstance(created, int) else None
        return None

    def take_what_is_there(self) -> Optional[ScavengeResult]:
        """List a dataset that is complete in the prefix already; None if it is not."""
        with contextlib.suppress(OSError, FormatError):
            found = summary.parse(kvtree.read(paths.summary_file(self.prefix, self.dataset_id)))
            if found.complete and found.descriptor is not None:
                files, size = self._listed_files()
                wanted = dataset.parse(found.descriptor)
                if wanted.files in (None, files) and wanted.size_bytes in (None, size):
                    self._list()
                    seconds = self.clock.monotonic() - self.began
                    return ScavengeResult(
                        self.dataset_id, self.name, True, (), (), files, size, seconds
                    )
        return None

    def _listed_files(self) -> tuple[int, int]:
        """Return number and total size of the files in rank2file that exist."""
        from scrjob.formats import rank2file  # noqa: PLC0415 - rarely needed

        sizes = []
        for tree in rank2file.read(paths.rank2file(self.prefix, self.dataset_id)).entries.values():
            for name in rank2file.files(tree):
                status = os.stat(os.path.join(self.prefix, name))
                sizes.append(status.st_size)
        return len(sizes), sum(sizes)

    def copy(self, nodes: Sequence[str], deadline_s: Optional[float]) -> list[NodeCopy]:
        """Copy on all nodes at once and note what each did."""
        os.makedirs(self.directory, exist_ok=True)
        self.note("copying", [])
        now = self.clock.now()
        self.say(f"scavenge: Scavenging files for dataset {self.name} to {self.directory}")
        self.say(f"scavenge: start: {int(now)}")
        self.say(f"scavenge: nodes: {list(nodes)}")
        if self.log is not None:
            self.log.event("SCAVENGE_START", dset=self.dataset_id, name=self.name, start=now)
        copies: list[NodeCopy] = []
        if nodes:
            limit = self._copy_limit() if deadline_s is None else deadline_s
            argv = self._argv()
            result = self.jobenv.rexec.bounded(limit).rexec(argv, list(nodes), self.jobenv)
            copies = [_node_copy(result, node) for node in nodes]
            self._keep_output(result, nodes)
        seconds = self.clock.now() - now
        if self.log is not None:
            self.log.event(
                "SCAVENGE_END", dset=self.dataset_id, name=self.name, start=now, secs=seconds
            )
        for copy in copies:
            for error in copy.errors:
                level = logging.DEBUG if error.startswith(NOTHING_CACHED) else logging.WARNING
                logger.log(level, "scavenge: %s: %s", copy.node, error)
        self.note("copied", copies)
        return copies

    def _copy_limit(self) -> float:
        try:
            end = self.jobenv.resmgr.end_time() or END_UNKNOWN
        except ScrError as error:
            logger.warning("the end of the allocation could not be asked: %s", error)
            end = END_UNKNOWN
        if end <= 0:
            return NO_LIMIT_S
        return max(LEAST_COPY_S, COPY_SHARE * (float(end) - self.clock.now()))

    def _argv(self) -> list[str]:
        argv = node_command("copy", "--cntldir", self.cntldir)
        argv += ["--id", str(self.dataset_id), "--prefix", self.prefix, "--resume", "--json"]
        if not self.checksum:
            argv.append("--nocrc")
        created = None if self.descriptor is None else dataset.parse(self.descriptor).created_us
        if created is not None:
            argv += ["--only-created", str(created)]
        for move in self.relocations:
            argv += ["--relocate", move]
        return argv

    def _keep_output(self, result: RemoteExecResult, nodes: Sequence[str]) -> None:
        """Keep what the nodes said, as the established scripts do."""
        job = self.jobenv.job_id().replace("/", "_")
        for kind, said in (
            ("o", {node: _without_json(result.stdout(node)) for node in nodes}),
            ("e", {node: result.stderr(node) for node in nodes}),
        ):
            text = "".join(f"{node}\n{said[node]}\n" for node in nodes)
            path = os.path.join(self.directory, f"scavenge.{kind}{job}")
            atomic_write(path, text.encode("utf-8", "surrogateescape"))
            for line in text.splitlines():
                self.say(line)

    def build(self, copies: list[NodeCopy]) -> ScavengeResult:
        """Rebuild, verify, list."""
        from scrjob.redundancy.build import build_dataset  # noqa: PLC0415 - only with data to build
        from scrjob.redundancy.paths import parse_relocation  # noqa: PLC0415 - same

        self.say(f"scavenge: Checking files for dataset {self.name}")
        whole: list[Built] = []
        said: list[str] = []

        def hear(line: str) -> None:
            if line:
                said.append(line)
                self.say(line)

        def verify(built: Built) -> None:
            self._verify(built, copies)
            whole.append(built)

        done = build_dataset(
            self.prefix,
            self.dataset_id,
            now=self.clock.now(),
            host=self.jobenv.context.hostname,
            on_message=hear,
            moves=[parse_relocation(move) for move in self.relocations],
            force=True,
            descriptor=self.descriptor,
            keep_current=True,
            verify=verify,
        )
        if not done or not whole:
            reasons = "; ".join([line for line in said if "ERROR" in line][-2:])
            raise UnrecoverableError(
                f"dataset {self.dataset_id} ({self.name}) is not complete in {self.prefix}: "
                f"{reasons or 'files are missing'}; {_problems(copies)}"
            )
        files = whole[0].scan.files()
        self.note("complete", copies, rebuilt=whole[0].rebuilt)
        self.say(f"scavenge: Verified files for dataset {self.name}")
        return ScavengeResult(
            self.dataset_id,
            self.name,
            False,
            copies,
            sorted(whole[0].rebuilt),
            len(files),
            sum(meta.stat.size_bytes or 0 for meta in files.values()),
            self.clock.monotonic() - self.began,
        )

    def _verify(self, built: Built, copies: list[NodeCopy]) -> None:
        from scrjob.node.journal import known_crcs  # noqa: PLC0415 - only with data to verify
        from scrjob.redundancy.verify import verify_dataset  # noqa: PLC0415 - same

        crcs = known_crcs(self.directory, self.prefix)  # of nodes that are gone by now, too
        for copy in copies:
            for relative, crc in copy.crcs.items():
                crcs[os.path.join(self.prefix, relative)] = crc
        self.copied = {*crcs, *built.rebuilt}
        verify_dataset(built, crcs, checksum=self.checksum)

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
        copies: list[NodeCopy],
        *,
        error: str = "",
        rebuilt: Optional[dict[str, int]] = None,
    ) -> None:
        """Write the journal; its schema is in docs/scavenge.md."""
        descriptor = self.descriptor
        content = {
            "version": JOURNAL_VERSION,
            "dataset": self.dataset_id,
            "name": self.name,
            "created": None if descriptor is None else dataset.parse(descriptor).created_us,
            "job": self.jobenv.job_id(),
            "state": state,
            "started": self.started,
            "updated": self.clock.now(),
            "error": error,
            "nodes": {
                copy.node: {
                    "rc": copy.rc,
                    "files": copy.files,
                    "bytes": copy.bytes,
                    "skipped": copy.skipped,
                    "errors": list(copy.errors),
                    "crc": copy.crcs,
                }
                for copy in copies
            },
            "rebuilt": {
                os.path.relpath(path, self.prefix): crc for path, crc in (rebuilt or {}).items()
            },
        }
        text = json.dumps(content, indent=1) + "\n"
        atomic_write(os.path.join(self.directory, JOURNAL), text.encode("ascii"))


def _node_copy(result: RemoteExecResult, node: str) -> NodeCopy:
    """Return what a node answered; what is no answer is an error of that node."""
    rc = result.rc(node)
    if rc is None:
        return NodeCopy(node, None, errors=(result.failure(node) or "no answer",))
    lines = result.stdout(node).splitlines()
    try:
        answer = json.loads(lines[-1] if lines else "")
        return NodeCopy(
            node,
            rc,
            int(answer["files"]),
            int(answer["bytes"]),
            int(answer["skipped"]),
            tuple(map(str, answer["errors"])),
            {str(path): int(crc) for path, crc in answer["crc"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        said = (result.stderr(node).strip() or "nothing").splitlines()[-1]
        return NodeCopy(node, rc, errors=(f"exit code {rc} and no report; it said: {said}",))


def _without_json(text: str) -> str:
    head, _, last = text.rstrip("\n").rpartition("\n")
    return (head + "\n" if head else "") if last.startswith("{") else text


def _problems(copies: Sequence[NodeCopy]) -> str:
    """Return in one line what went wrong on the nodes."""
    bad = [f"{copy.node}: {copy.errors[0]}" for copy in copies if copy.errors]
    return "; ".join(bad[:3]) or f"{len(copies)} nodes reported no error"


def _is_metadata(name: str) -> bool:
    """Tell whether a name in the hidden directory is one that a copy or build writes."""
    return (
        name in ("summary.scr", "rank2file", JOURNAL)
        or name.startswith(("rank2file.", "scrjob.copy."))
        or filemap.rank_of(name) is not None
        or redset_header.parse_name(name) is not None
        or redset_header.parse_copies_name(name) is not None
    )


def _teller(verbose: bool) -> Say:
    level = logging.INFO if verbose else logging.DEBUG
    return lambda line: logger.log(level, "%s", line)
