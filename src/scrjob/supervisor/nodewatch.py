# SPDX-License-Identifier: BSD-3-Clause
"""Which used nodes are lost while a step runs: gathers evidence from all who may know, has it weighed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from scrjob.errors import ScrError
from scrjob.model import Said
from scrjob.supervisor.errand import Errand, Every
from scrjob.supervisor.suspicion import Evidence, Kind, Suspicion

if TYPE_CHECKING:
    from scrjob.model import NodeDown, NodeName, NodeWatch
    from scrjob.protocols import JobEnvironment
    from scrjob.supervisor.heartbeat import Heartbeat
    from scrjob.supervisor.monitor import Step

logger = logging.getLogger(__name__)

PLACES_POLL_S = 0.5
MESSAGES_POLL_S = 0.2


class NodeWatcher:
    """Watches the nodes of one step.

    Args:
        jobenv: the job; its resource manager and launcher are asked.
        heartbeat: asks the nodes themselves.
        step: where it runs is kept in its placement.
    """

    def __init__(self, jobenv: JobEnvironment, heartbeat: Heartbeat, step: Step) -> None:
        self._jobenv = jobenv
        self._clock = jobenv.context.clock
        self._step = step
        self._heartbeat = heartbeat
        self._suspicion = Suspicion()
        heartbeat.begin(self._suspicion, step.nodes)
        runner = jobenv.context.runner
        self._manager: Errand[NodeWatch] = Errand(runner, "nodes, asked of the manager")
        self._manager_due = Every(jobenv, jobenv.resmgr.poll_seconds, first=True)
        self._manager_fails = False
        self._silent: set[NodeName] = set()
        self._places: Errand[list[str]] = Errand(runner, "nodes of the step")
        self._places_due = Every(jobenv, PLACES_POLL_S, first=True)
        self._messages_due = Every(jobenv, MESSAGES_POLL_S)
        self._messages_read = 0

    def lost(self) -> list[NodeDown]:
        """Return the used nodes that are lost, by what is known now; returns at once.

        Raises:
            ScrError: the step runs on nodes that it was told to avoid.
        """
        self._find_ranks()
        self._ask_manager()
        self._read_messages()
        self._heartbeat.tend(self._step.placement.used)
        condemned = self._suspicion.condemned(self._clock.monotonic(), self._clock.now())
        used = set(self._step.placement.used()) if condemned else set()
        return [bad for bad in condemned if bad.node in used]

    def settle(self, limit_s: float) -> None:
        """Wait for the questions that are out, at most so many seconds for each."""
        self._manager.settle(limit_s)
        self._places.settle(limit_s)

    def _find_ranks(self) -> None:
        placement, launcher, jobstep = (
            self._step.placement,
            self._jobenv.launcher,
            self._step.jobstep,
        )
        if not placement.is_known and not self._places.is_out and self._places_due.due():
            self._places.ask(lambda: [str(node) for node in launcher.step_nodes(jobstep) or ()])
        try:
            found = self._places.answer()
        except ScrError as error:
            logger.info("the launcher could not be asked for the nodes of its step: %s", error)
            return
        if found is not None:
            placement.take(found)

    def _ask_manager(self) -> None:
        if not self._manager.is_out and self._manager_due.due():
            self._manager.ask(self._jobenv.resmgr.watch_nodes)
        watch: Optional[NodeWatch] = None
        try:
            watch = self._manager.answer()
        except ScrError as error:
            # Unknown is not lost: the step goes on, and the question is asked again.
            if not self._manager_fails:
                logger.warning("the resource manager could not be asked for lost nodes: %s", error)
            self._manager_fails = True
        if watch is None:
            return
        self._manager_fails = False
        now = self._clock.monotonic()
        for kind, said in ((Kind.LOST, watch.lost), (Kind.SILENT, watch.silent)):
            for node, why in said.items():
                self._suspicion.add(Evidence(node, kind, why, now))
        used = set(self._step.placement.used()) if watch.silent else set()
        self._heartbeat.confirm([n for n in watch.silent if n in used and n not in self._silent])
        for heard in self._silent - set(watch.silent):
            self._suspicion.withdraw(heard, Kind.SILENT)
        self._silent = set(watch.silent)

    def _read_messages(self) -> None:
        if not self._messages_due.due():
            return
        messages = self._jobenv.launcher.messages(self._step.jobstep)
        used = self._step.placement.used() if len(messages) > self._messages_read else ()
        for message in messages[self._messages_read :]:
            if message.said is Said.NODE_FAILED and message.node in used:
                # A program can print the same words: the node itself is asked too.
                now = self._clock.monotonic()
                self._suspicion.add(Evidence(str(message.node), Kind.SAID, message.text, now))
                self._heartbeat.confirm([str(message.node)])
        self._messages_read = len(messages)
