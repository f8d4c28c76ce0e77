# SPDX-License-Identifier: BSD-3-Clause
"""After the last run in an allocation: bring home what only exists in cache, by its value.

The newest checkpoint first, then output sets in ascending order, all of them, then an older checkpoint
where one is needed: for the newest could not be saved, or an output set before it could not, which a
restart then makes again. What has lost too much, as the nodes say, comes last. In an allocation without an
end there is no hurry, and output comes first.
``current`` in the index moves to the checkpoint to restart from, forward only.

Source: docs/scavenge.md, "which datasets".
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Callable, Collection, NamedTuple, Optional, Sequence

from scrjob.cached import (
    Held,
    ask_what_is_held,
    flush_path,
    not_in_flush_file,
    refill_flush_file,
)
from scrjob.errors import FormatError, NotInAllocationError, ScavengeError, ScrError
from scrjob.formats import dataset, flush, kvtree, paths
from scrjob.formats.index import Index
from scrjob.list_down_nodes import list_down_nodes
from scrjob.scavenge.timing import has_no_end, time_left
from scrjob.supervisor import lostnodes

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.scavenge import ScavengeResult
    from scrjob.scavenge.progress import Progress

logger = logging.getLogger(__name__)

Say = Callable[[str], None]

LOST_ASK_S = 20.0
LOST_SHARE = 0.05  # of the time left, for the question what is lost
LEAST_MEASURED_S = 1.0  # what took less says nothing of the rate of what takes long


class Saved(NamedTuple):
    """One dataset: ``safe`` tells whether it is complete in the prefix; ``how`` says how, or why not.

    ``bytes`` and ``copy_seconds``: what the nodes copied, and how long that took; 0 if they did not.
    """

    dataset_id: int
    name: str
    kind: str
    safe: bool
    how: str
    seconds: float = 0.0
    bytes: int = 0
    copy_seconds: float = 0.0


class Postrun(NamedTuple):
    """What became of the datasets, output first.

    ``newest_safe``: all output and the newest checkpoint are safe.
    """

    datasets: Sequence[Saved]
    newest_safe: bool


class _Saver:
    def __init__(
        self,
        jobenv: JobEnvironment,
        up: Sequence[str],
        log: Any,
        say: Say,
        detail: Say,
        held: Optional[Held],
        progress: Optional[Progress],
    ) -> None:
        from scrjob.cli import SCRFlushFile, SCRIndex  # noqa: PLC0415 - chooses its back end

        self._jobenv = jobenv
        self._up = list(up)
        self._log = log
        self._say = say
        self._detail = detail
        self._held = held
        self._progress = progress
        self._flush = SCRFlushFile(jobenv.dir_prefix(), context=jobenv.context)
        self._index = SCRIndex(jobenv.dir_prefix(), context=jobenv.context)
        self._measured = (0, 0.0)  # bytes that were saved, and seconds that it took
        self._tried: dict[int, Saved] = {}
        self._verified: set[int] = set()
        self._lost: set[int] = set()  # as far as the nodes that answered know

    def save(self) -> Postrun:
        """Save what is worth it."""
        self._say("Looking for output sets")
        listed = [int(text) for text in self._flush.list_dsets_output()]
        outputs = [number for number in listed if self._flush.need_flush(number)]
        if not outputs:
            self._say("Found no output set to scavenge")
        checkpoints = [int(text) for text in self._flush.list_dsets_ckpt()]
        newest = checkpoints[:1]
        self._ask_what_is_lost({*outputs, *filter(self._flush.need_flush, checkpoints)})
        firm = [number for number in checkpoints if number not in self._lost]
        if not has_no_end(self._jobenv):
            for number in firm[:1]:
                self._secure(number, "checkpoint", always=True)
        self._secure_outputs([number for number in outputs if number not in self._lost])
        if self._lost:
            # Before time is spent on what will fail, as far as is known, what that makes necessary.
            expected = self._bad(outputs) + [n for n in outputs if n in self._lost]
            self._first_safe(firm, min(expected, default=None))
            self._secure_outputs(outputs)
            for number in newest:
                self._secure(number, "checkpoint", always=True)
        bad = self._bad(outputs)
        self._say("Looking for checkpoints")
        if not checkpoints:
            self._say("Found no checkpoint to scavenge")
        self._choose_checkpoint(checkpoints, min(bad, default=None))
        looked_at = [self._tried[number] for number in newest if number in self._tried]
        safe = not bad and all(row.safe for row in looked_at)
        rows = sorted(self._tried.values(), key=lambda row: row.kind != "output")
        return Postrun(rows, safe)

    def _ask_what_is_lost(self, wanted: Collection[int]) -> None:
        """Find out which datasets have lost too much, if there is an order to be chosen and time is short.

        They come last and are not given up: a node that did not answer in time may hold what was missed.
        """
        left = time_left(self._jobenv)
        if len(wanted) < 2 or not self._up or left is None or left <= 0:  # noqa: PLR2004 - an order
            return
        from scrjob.inspection import recoverable  # noqa: PLC0415 - only where time is short

        limit_s = min(LOST_ASK_S, LOST_SHARE * left)
        try:
            found = recoverable(self._jobenv, self._up, level=logging.DEBUG, limit_s=limit_s)
        except (ScrError, OSError) as error:
            logger.debug("what is lost cannot be asked: %s", error)
            return
        for number, verdict in found.items():
            if number in wanted and not verdict.recoverable:
                self._lost.add(number)
                self._say(f"dataset {number} comes last: {'; '.join(verdict.reasons())}")

    def _secure_outputs(self, outputs: Sequence[int]) -> None:
        for number in outputs:
            self._secure(number, "output")

    def _bad(self, outputs: Sequence[int]) -> list[int]:
        """Return the output sets that were tried and are not safe."""
        return [n for n in outputs if n in self._tried and not self._tried[n].safe]

    def _first_safe(self, checkpoints: Sequence[int], before: Optional[int]) -> Optional[Saved]:
        """Return the first checkpoint that is safe or can be made so; ``before``: of older ones."""
        for number in checkpoints:
            if before is None or number < before:
                saved = self._secure(number, "checkpoint")
                if saved.safe:
                    return saved
        return None

    def _choose_checkpoint(self, checkpoints: Sequence[int], before: Optional[int]) -> None:
        """Make the newest checkpoint current that is safe or can be made so; ``before``: of older ones."""
        saved = self._first_safe(checkpoints, before)
        if saved is not None:
            self._make_current(saved.dataset_id, saved.name)
            if saved.dataset_id in self._verified:
                self._prune(saved.dataset_id)

    def _secure(self, dataset_id: int, kind: str, *, always: bool = False) -> Saved:
        """Save a dataset unless that was tried before, or there is no time; ``always``: however late."""
        if dataset_id not in self._tried:
            name = self._flush.name(dataset_id) or f"dataset {dataset_id}"
            self._tried[dataset_id] = self._attempt(dataset_id, name, kind, always=always)
        return self._tried[dataset_id]

    def _attempt(self, dataset_id: int, name: str, kind: str, *, always: bool) -> Saved:
        if not self._flush.need_flush(dataset_id):
            self._say(f"Dataset {name} is in the prefix already")
            return Saved(dataset_id, name, kind, True, "was in the prefix")
        why = None if always else self._too_late(dataset_id)
        if why is not None:
            self._say(f"{kind} {name} (dataset {dataset_id}) is left out: {why}")
            return Saved(dataset_id, name, kind, False, f"left out: {why}")
        return self._save(dataset_id, name, kind)

    def _save(self, dataset_id: int, name: str, kind: str) -> Saved:
        from scrjob.scavenge import scavenge_dataset  # noqa: PLC0415 - only with something to save

        clock = self._jobenv.context.clock
        began = clock.monotonic()
        try:
            (cntldir, *_) = self._jobenv.dir_control()
            done = scavenge_dataset(
                self._jobenv,
                self._up,
                dataset_id,
                cntldir,
                log=self._log,
                say=self._detail,
                flush_ended=True,
                held=self._held,
                progress=self._progress,
            )
        except (ScrError, OSError) as error:
            self._say(f"{kind} {name} (dataset {dataset_id}) could not be saved: {error}")
            seconds = clock.monotonic() - began
            return Saved(dataset_id, name, kind, False, str(error), seconds)
        self._verified.add(dataset_id)
        seconds = clock.monotonic() - began
        if not done.was_there and seconds >= LEAST_MEASURED_S:
            size, took = self._measured
            self._measured = (size + done.bytes, took + seconds)
        return Saved(
            dataset_id,
            name,
            kind,
            True,
            _account(done),
            seconds,
            done.copied_bytes,
            done.copy_seconds,
        )

    def _too_late(self, dataset_id: int) -> Optional[str]:
        """Return why there is no time to save a dataset, None if there is, or that is not known."""
        from scrjob.scavenge.progress import size  # noqa: PLC0415 - with something to leave out

        left = time_left(self._jobenv)
        if left is None:
            return None
        if left <= 0:
            return "the time of the allocation is over"
        bytes_saved, took = self._measured
        wanted = self._size(dataset_id)
        if not bytes_saved or wanted is None:
            return None
        rate = bytes_saved / took
        needs = wanted / rate
        if needs <= left:
            return None
        return f"{size(wanted)} need about {needs:.0f} s at {size(rate)}/s, {left:.0f} s are left"

    def _size(self, dataset_id: int) -> Optional[int]:
        tree = None if self._held is None else self._held.datasets.get(dataset_id)
        if tree is None:
            try:
                entry = flush.entry(
                    kvtree.read(paths.flush_file(self._jobenv.dir_prefix())), dataset_id
                )
            except (OSError, FormatError):
                return None
            tree = None if entry is None else entry.descriptor
        return None if tree is None else dataset.parse(tree).size_bytes

    def _prune(self, dataset_id: int) -> None:
        from scrjob.prune import prune_after  # noqa: PLC0415 - only after a scavenge

        prune_after(self._jobenv, dataset_id, self._say)

    def _make_current(self, dataset_id: int, name: str) -> None:
        """Move ``current`` forward to a dataset that is safe in the prefix."""
        path = os.path.join(self._jobenv.dir_scr(), "index.scr")
        try:
            index = Index.read(path)
        except (OSError, FormatError) as error:
            logger.warning("current is not set: %s", error)
            return
        present = index.id_of(index.current() or "")
        if present is not None and present >= dataset_id:
            return
        self._say(f"Updating current marker in index to {name}")
        if not self._index.current(name):
            logger.warning("the index refuses %s as current", name)


def _account(done: ScavengeResult) -> str:
    """Return what a scavenge did, for the report."""
    if done.was_there:
        return "was complete in the prefix"
    from scrjob.scavenge.progress import size  # noqa: PLC0415 - loaded by now

    rebuilt = f", {len(done.rebuilt)} of them rebuilt" if done.rebuilt else ""
    damaged = f", {len(done.repaired)} that were damaged in cache" if done.repaired else ""
    took = ""
    if done.copied_bytes and done.copy_seconds > 0:
        rate = done.copied_bytes / done.copy_seconds
        took = f" in {done.seconds:.1f} s, copied at {size(rate)}/s"
    return f"scavenged, {done.files} files{rebuilt}{damaged}, {done.bytes} bytes{took}"


def save_datasets(
    jobenv: JobEnvironment,
    down_nodes: Sequence[str],
    log: Any,
    say: Say,
    detail: Optional[Say] = None,
    nodes: Optional[Sequence[str]] = None,
    progress: Optional[Progress] = None,
) -> Postrun:
    """Bring home what only exists in cache; never raises for a dataset that cannot be saved.

    Args:
        jobenv: the job.
        down_nodes: nodes that are not asked.
        log: an SCRLog, or None.
        say: is told each step.
        detail: is told the steps of each scavenge; default: ``say``.
        nodes: all nodes of the job; default: asked now.
        progress: is shown how far each copy is.

    Raises:
        NotInAllocationError: no nodes are known.
    """
    nodes = list(nodes or jobenv.job_nodes())
    if not nodes:
        raise NotInAllocationError(
            "the nodes of the job are not known: run inside an allocation, or set SCR_NODELIST"
        )
    down = set(down_nodes)
    up = [node for node in nodes if node not in down]
    say(f"jobnodes:  {nodes}")
    say(f"downnodes: {sorted(down)}")
    say(f"upnodes:   {up}")
    with lostnodes.heeded(jobenv, up, say):
        held, unknown = _take_stock(jobenv, up) if up else (None, [])
        saved = _Saver(jobenv, up, log, say, detail or say, held, progress).save()
    return Postrun([*saved.datasets, *unknown], saved.newest_safe and not unknown)


def _take_stock(jobenv: JobEnvironment, up: Sequence[str]) -> tuple[Optional[Held], list[Saved]]:
    """Have flush.scr name all that nodes hold; returns that, and what it then does not name for an error."""
    try:
        held = ask_what_is_held(jobenv, *jobenv.dir_control(), nodes=up)
    except ScrError as error:  # it only adds to what the flush file says
        logger.warning("the flush file is used as it is: %s", error)
        return None, []
    try:
        refill_flush_file(jobenv, held)
    except OSError as error:
        why = f"{flush_path(jobenv)} cannot be written: {error.strerror or error}"
        logger.warning("the flush file is used as it is: %s", why)
        # Whoever names another prefix than the job's must not read that there was nothing to save.
        hint = f"{why}; is {jobenv.dir_prefix()} the prefix directory of this job?"
        return held, [
            Saved(
                number, about.name or "", "checkpoint" if about.is_ckpt else "output", False, hint
            )
            for number, about in not_in_flush_file(jobenv, held).items()
        ]
    return held, []


def postrun(jobenv: JobEnvironment, verbose: bool = False, log: Any = None) -> None:
    """Save what only exists in cache. SCR_ENABLE=0: does nothing.

    Raises:
        ScavengeError: a dataset could not be made safe (a RuntimeError, as published); what could be
            saved was saved.
    """
    if jobenv.param.get("SCR_ENABLE") == "0":
        return

    def say(line: str) -> None:
        logger.log(logging.INFO if verbose else logging.DEBUG, "%s", line)

    down = list_down_nodes(jobenv)
    check_safe(save_datasets(jobenv, list(down), log, say))


def check_safe(result: Postrun) -> None:
    """Return if the newest data is safe.

    Raises:
        ScavengeError: names the first dataset that is not, and why.
    """
    if not result.newest_safe:
        bad = next(row for row in result.datasets if not row.safe)
        raise ScavengeError(
            f"{bad.kind} {bad.name} (dataset {bad.dataset_id}) is not safe: {bad.how}"
        )
