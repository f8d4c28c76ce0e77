# SPDX-License-Identifier: BSD-3-Clause
"""After the last run in an allocation: bring home what only exists in cache, newest data first.

Output sets are saved in ascending order, all of them; of the checkpoints the newest that can be
saved. ``current`` in the index moves to it, forward only.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Sequence

from scrjob.cached import refill_flush_file
from scrjob.errors import FormatError, NotInAllocationError, ScavengeError, ScrError
from scrjob.formats.index import Index
from scrjob.list_down_nodes import list_down_nodes
from scrjob.supervisor import lostnodes

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.scavenge import ScavengeResult

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


class Saved(NamedTuple):
    """One dataset: ``safe`` tells whether it is complete in the prefix; ``how`` says how, or why not."""

    dataset_id: int
    name: str
    kind: str
    safe: bool
    how: str
    seconds: float = 0.0


class Postrun(NamedTuple):
    """What became of the datasets. ``newest_safe``: all output and the newest checkpoint are safe."""

    datasets: Sequence[Saved]
    newest_safe: bool


class _Saver:
    def __init__(
        self, jobenv: JobEnvironment, up: Sequence[str], log: Any, say: Say, detail: Say
    ) -> None:
        from scrjob.cli import SCRFlushFile, SCRIndex  # noqa: PLC0415 - chooses its back end

        self._jobenv = jobenv
        self._up = list(up)
        self._log = log
        self._say = say
        self._detail = detail
        self._flush = SCRFlushFile(jobenv.dir_prefix())
        self._index = SCRIndex(jobenv.dir_prefix())
        self.saved: list[Saved] = []

    def outputs(self) -> Optional[int]:
        """Save all output sets; returns the first id that could not be saved."""
        self._say("Looking for output sets")
        failed = None
        found = False
        for text in self._flush.list_dsets_output():
            if self._flush.need_flush(text):
                found = True
                if not self._save(int(text), "output") and failed is None:
                    failed = int(text)
        if not found:
            self._say("Found no output set to scavenge")
        return failed

    def checkpoints(self, before: Optional[int]) -> None:
        """Save the newest checkpoint that can be saved, of those before a failed output set."""
        self._say("Looking for checkpoints")
        listed = [int(text) for text in self._flush.list_dsets_ckpt(before)]
        if not listed:
            self._say("Found no checkpoint to scavenge")
        for number in listed:
            if self._flush.need_flush(number):
                if not self._save(number, "checkpoint"):
                    continue
            else:
                name = self._flush.name(number) or ""
                self.saved.append(Saved(number, name, "checkpoint", True, "was in the prefix"))
                self._say(f"Dataset {name} is in the prefix already")
            self._make_current(number, self._flush.name(number) or "")
            return

    def _save(self, dataset_id: int, kind: str) -> bool:
        from scrjob.scavenge import scavenge_dataset  # noqa: PLC0415 - only with something to save

        name = self._flush.name(dataset_id) or f"dataset {dataset_id}"
        clock = self._jobenv.context.clock
        began = clock.monotonic()
        try:
            (cntldir, *_) = self._jobenv.dir_control()
            done = scavenge_dataset(
                self._jobenv, self._up, dataset_id, cntldir, log=self._log, say=self._detail
            )
            safe, how = True, _account(done)
        except (ScrError, OSError) as error:
            safe, how = False, str(error)
            self._say(f"{kind} {name} (dataset {dataset_id}) could not be saved: {error}")
        self.saved.append(Saved(dataset_id, name, kind, safe, how, clock.monotonic() - began))
        return safe

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
    rebuilt = f", {len(done.rebuilt)} of them rebuilt" if done.rebuilt else ""
    return f"scavenged, {done.files} files{rebuilt}, {done.bytes} bytes"


def save_datasets(
    jobenv: JobEnvironment,
    down_nodes: Sequence[str],
    log: Any,
    say: Say,
    detail: Optional[Say] = None,
    nodes: Optional[Sequence[str]] = None,
) -> Postrun:
    """Bring home what only exists in cache; never raises for a dataset that cannot be saved.

    Args:
        jobenv: the job.
        down_nodes: nodes that are not asked.
        log: an SCRLog, or None.
        say: is told each step.
        detail: is told the steps of each scavenge; default: ``say``.
        nodes: all nodes of the job; default: asked now.

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
    saver = _Saver(jobenv, up, log, say, detail or say)
    with lostnodes.heeded(jobenv, up, say):
        if up:
            try:
                refill_flush_file(jobenv, up)
            except (ScrError, OSError) as error:  # it only adds to what the flush file says
                logger.warning("the flush file is used as it is: %s", error)
        failed_output = saver.outputs()
        saver.checkpoints(failed_output)
    newest = [row for row in saver.saved if row.kind == "checkpoint"][:1]
    outputs = [row for row in saver.saved if row.kind == "output"]
    return Postrun(saver.saved, all(row.safe for row in [*newest, *outputs]))


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
