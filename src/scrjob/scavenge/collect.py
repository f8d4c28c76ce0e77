# SPDX-License-Identifier: BSD-3-Clause
"""The copying of a scavenge: which nodes, in which command, for how long, and what each said."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from scrjob._fsio import atomic_write
from scrjob.cached import Held, ask_what_is_held
from scrjob.cli.scr_copy import SCRCopy, without_report
from scrjob.formats import dataset, paths
from scrjob.node.copy import NOTHING_CACHED
from scrjob.redundancy.paths import is_below
from scrjob.remoteexec.remoteexec import RemoteExecResult
from scrjob.scavenge.answers import NodeCopy
from scrjob.scavenge.lanes import run_in_lanes
from scrjob.scavenge.timing import time_left
from scrjob.scavenge.watch import Watch

if TYPE_CHECKING:
    from scrjob._clock import Deadline
    from scrjob.errors import ScrError
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import JobEnvironment
    from scrjob.scavenge.progress import Progress
    from scrjob.scavenge.settings import ScavengeSettings

logger = logging.getLogger(__name__)

NO_LIMIT_S = 24 * 3600.0  # for the copy, where the end of the allocation is not known
COPY_SHARE = 0.75  # of the time left; the rest is for rebuild and verification
LEAST_COPY_S = 10.0  # an attempt, however late it is
INCOMPLETE_LIMIT = (
    2  # nodes that could not copy all of a cache that they share: it is not the nodes
)
LOST = "the node was lost before it was to copy"
TOO_LATE = "its turn did not come in the time for the copy"

Say = Callable[[str], None]


class Collector:
    """Has the nodes copy what they hold of one dataset.

    Args:
        jobenv: the job.
        dataset_id: which dataset.
        name: its name.
        cntldir: control directory on the nodes.
        descriptor: the dataset's, None unknown.
        settings: how many at once, how fast, how patient.
        relocations: ``OLD=NEW`` each.
        log: an SCRLog, or None.
        say: gets lines for people.
        held: what the nodes have in cache; None: they are asked.
        progress: is shown how far the copy is.

    Attributes:
        seconds: how long the copying took, of all calls together.
    """

    def __init__(
        self,
        jobenv: JobEnvironment,
        dataset_id: int,
        name: str,
        cntldir: str,
        *,
        descriptor: Optional[KVTree],
        settings: ScavengeSettings,
        relocations: Sequence[str],
        log: Any,
        say: Say,
        held: Optional[Held],
        progress: Optional[Progress],
    ) -> None:
        self._jobenv = jobenv
        self._dataset_id = dataset_id
        self._name = name
        self._cntldir = cntldir
        self._about = None if descriptor is None else dataset.parse(descriptor)
        self._settings = settings
        self._relocations = list(relocations)
        self._log = log
        self._say = say
        self._held = held
        self._progress = progress
        self._prefix = jobenv.dir_prefix()
        self._directory = paths.dataset_dir(self._prefix, dataset_id)
        self._clock = jobenv.context.clock
        self._program = SCRCopy(self._prefix, context=jobenv.context)
        self._said: dict[str, tuple[str, str]] = {}
        self._tried: dict[str, list[str]] = {}
        self.seconds = 0.0

    def copy_limit(self) -> float:
        """Return the seconds that the copy may take."""
        left = time_left(self._jobenv)
        return NO_LIMIT_S if left is None else max(LEAST_COPY_S, COPY_SHARE * left)

    def collect(self, nodes: Sequence[str], deadline: Deadline) -> list[NodeCopy]:
        """Copy on ``nodes`` and return what each did, in their order.

        Of nodes that see the same cache one copies; if it does not answer, or cannot copy all, the next
        one does, which need not copy again what the first has.

        Raises:
            ScrError: remote execution is broken.
            OSError: the prefix cannot be written.
        """
        now, began = self._clock.now(), self._clock.monotonic()
        self._say(f"scavenge: Scavenging files for dataset {self._name} to {self._directory}")
        self._say(f"scavenge: start: {int(now)}")
        self._say(f"scavenge: nodes: {list(nodes)}")
        if self._log is not None:
            self._log.event("SCAVENGE_START", dset=self._dataset_id, name=self._name, start=now)
        done: dict[str, NodeCopy] = {}
        if nodes:
            groups = self._groups(nodes)
            is_shared = any(len(group) > 1 for group in groups)
            while groups:
                copiers = [group[0] for group in groups]
                for copy in self._copy_on(copiers, deadline, is_shared=is_shared):
                    done[copy.node] = copy
                groups = self._share(groups, done, deadline)
            self._keep_output(nodes)
        copies = [done[node] for node in nodes]
        seconds = self._clock.monotonic() - began
        self.seconds += seconds
        if self._log is not None:
            self._log.event(
                "SCAVENGE_END", dset=self._dataset_id, name=self._name, start=now, secs=seconds
            )
            self._log_transfer(copies, now, seconds)
        for copy in copies:
            for error in copy.errors:
                level = logging.DEBUG if error.startswith(NOTHING_CACHED) else logging.WARNING
                logger.log(level, "scavenge: %s: %s", copy.node, error)
        return copies

    def _groups(self, nodes: Sequence[str]) -> list[list[str]]:
        if len(nodes) > 1 and self._held is None:
            # What is wrong with a node is told when it is to copy.
            self._held = ask_what_is_held(
                self._jobenv, self._cntldir, nodes=nodes, level=logging.DEBUG
            )
        if self._held is None:
            return [[node] for node in nodes]
        return self._held.copiers(self._dataset_id, nodes)

    def _share(
        self, groups: Sequence[list[str]], done: dict[str, NodeCopy], deadline: Deadline
    ) -> list[list[str]]:
        """Enter those for whom another node has copied; returns the groups for which none has all."""
        again = []
        for group in groups:
            first, *others = group
            rc = done[first].rc
            tried = self._tried.setdefault(group[-1], [])
            tried.append(first)
            faults = sum(bool(done[node].rc) for node in tried)
            if others and rc != 0 and faults < INCOMPLETE_LIMIT and not deadline.passed():
                again.append(others)
                continue
            _count_once([node for node in tried if done[node].bytes is not None], done)
            for node in others:
                done[node] = NodeCopy(node, rc, 0, 0, shares=first)
        return again

    def _copy_on(
        self, nodes: Sequence[str], deadline: Deadline, *, is_shared: bool
    ) -> list[NodeCopy]:
        argv = self._command(len(nodes), is_shared=is_shared)
        watch = Watch(
            self._directory,
            dataset_id=self._dataset_id,
            name=self._name,
            nodes=len(nodes),
            total_bytes=(self._about.size_bytes if self._about else None) or 0,
            clock=self._clock,
            # SCR's own tool keeps no such file: it is never heard of.
            stall_s=self._settings.stall_s if self._program.is_native else 0.0,
            progress=self._progress,
        )
        lost = self._jobenv.rexec.lost or tuple
        interrupted = threading.Event()
        rexec = self._jobenv.rexec.heeding(
            lambda: nodes if interrupted.is_set() else {*lost(), *watch.stalled}
        )

        def call(group: Sequence[str]) -> RemoteExecResult:
            gone = {*lost()}
            there = [node for node in group if node not in gone]
            left = deadline.left()
            if not there or (began and left <= 0) or interrupted.is_set():
                return RemoteExecResult(argv, ())
            watch.begin(there)
            began.update(dict.fromkeys(there, self._clock.monotonic()))
            result: RemoteExecResult = rexec.bounded(left).rexec(argv, there, self._jobenv)
            return result

        def enter(result: RemoteExecResult, group: Sequence[str]) -> Sequence[NodeCopy]:
            moment = self._clock.monotonic()
            copies = []
            for node in group:
                if node not in began:
                    why = LOST if node in lost() else TOO_LATE
                    copies.append(NodeCopy(node, None, errors=(why,)))
                    continue
                copy = self._of_node(result, node, watch.stalled.get(node))
                copies.append(copy._replace(seconds=moment - began[node]))
            watch.end(copies)
            return copies

        def fail(group: Sequence[str], error: ScrError) -> Sequence[NodeCopy]:
            copies = [NodeCopy(node, None, errors=(str(error),)) for node in group]
            watch.end(copies)
            return copies

        began: dict[str, float] = {}
        with watch.looking():
            return run_in_lanes(
                nodes,
                self._settings.width,
                call=call,
                enter=enter,
                fail=fail,
                stop=interrupted.set,
            )

    def _command(self, nodes: int, *, is_shared: bool) -> list[str]:
        hints = ["--resume", "--progress", *(["--shared"] if is_shared else [])]
        bandwidth = self._settings.node_bandwidth(nodes)
        if bandwidth is not None:
            hints += ["--bw", str(bandwidth)]
        if self._about is not None and self._about.created_us is not None:
            hints += ["--only-created", str(self._about.created_us)]
        return self._program.command(
            self._cntldir,
            self._dataset_id,
            checksum=self._settings.checksum,
            relocations=self._relocations,
            hints=hints,
        )

    def _of_node(self, result: RemoteExecResult, node: str, stalled: Optional[str]) -> NodeCopy:
        """Return what a node answered; a copy that failed its checksum goes."""
        self._said[node] = (without_report(result.stdout(node)), result.stderr(node))
        told = self._program.report(result, node)
        errors = (stalled,) if stalled and told.rc is None else told.errors
        for path in told.damaged:
            if is_below(os.path.realpath(path), os.path.realpath(self._prefix)):
                logger.warning("scavenge: %s has other bytes than were recorded: removed", path)
                with contextlib.suppress(FileNotFoundError):  # another node said so, too
                    os.unlink(path)
        return NodeCopy(
            node,
            told.rc,
            told.files,
            told.bytes,
            told.skipped,
            errors,
            told.crcs,
            told.damaged,
        )

    def _keep_output(self, nodes: Sequence[str]) -> None:
        """Keep what the nodes said, as the established scripts do."""
        job = self._jobenv.job_id().replace("/", "_")
        for number, kind in enumerate("oe"):
            text = "".join(
                f"{node}\n{self._said[node][number]}\n" for node in nodes if node in self._said
            )
            path = os.path.join(self._directory, f"scavenge.{kind}{job}")
            atomic_write(path, text.encode("utf-8", "surrogateescape"))
            for line in text.splitlines():
                self._say(line)

    def _log_transfer(self, copies: Sequence[NodeCopy], start: float, seconds: float) -> None:
        places = (self._held.places if self._held else {}).get(self._dataset_id, {})
        source = next((places[copy.node] for copy in copies if copy.node in places), None)
        known = [copy for copy in copies if copy.files is not None]
        self._log.transfer(
            "SCAVENGE",
            from_=source or self._jobenv.dir_cache()[0],
            to=self._prefix,
            dset=self._dataset_id,
            name=self._name,
            start=start,
            secs=seconds,
            nbytes=sum(copy.bytes or 0 for copy in known) if known else None,
            files=sum(copy.files or 0 for copy in known) if known else None,
        )


def _count_once(nodes: Sequence[str], done: dict[str, NodeCopy]) -> None:
    """Let only one of the nodes that told of the same cache count for its files: the one that has most."""
    best = max(nodes, key=lambda node: done[node].bytes or 0, default="")
    for node in nodes:
        if node != best:
            done[node] = done[node]._replace(files=0, bytes=0)
