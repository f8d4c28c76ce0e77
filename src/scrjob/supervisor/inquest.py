# SPDX-License-Identifier: BSD-3-Clause
"""Gathers the evidence for why a run ended, each question with a short deadline, and has it judged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Sequence

from scrjob.errors import ScrError
from scrjob.model import END_NO_LIMIT, END_UNKNOWN, Cause, ExitStatus, NodeDown, Said
from scrjob.supervisor import evidence
from scrjob.supervisor.condition import Aftermath, Conditions
from scrjob.supervisor.errand import Errand
from scrjob.supervisor.verdict import StepEnd, Verdict, judge, killed, succeeded

if TYPE_CHECKING:
    from scrjob.model import StepMessage
    from scrjob.protocols import JobEnvironment
    from scrjob.supervisor.monitor import Seen

logger = logging.getLogger(__name__)

FINALIZED = "SCR_FINALIZE_CALLED"
TIME_REASONS = ("TIME_LIMIT", "SCRJOB_TIME_LIMIT")
TASKS = (Said.TASK_FAILED, Said.OUT_OF_MEMORY)
ENDING_TRIES = 2  # TERM for all processes of a job ends the tool that is asking, too
ENDING_S = 3.0  # for the manager to say why it ends the allocation


class Ended(NamedTuple):
    """A run's end before it is judged.

    ``nodes``: those that it used; ``messages``: what the launcher said; ``launch_error``: why it did
    not start, "" it did; ``end_time``: of the allocation, as ``ResourceManager.end_time``.
    """

    seen: Seen
    nodes: Sequence[str]
    messages: Sequence[StepMessage] = ()
    launch_error: str = ""
    end_time: float = END_UNKNOWN


class Inquest:
    """Finds out why runs ended.

    Args:
        jobenv: the job.
        test_nodes: tests the nodes, and returns those that were good before and are not now.
    """

    def __init__(self, jobenv: JobEnvironment, test_nodes: Callable[[], list[NodeDown]]) -> None:
        self._jobenv = jobenv
        self._test_nodes = test_nodes
        self.conditions = Conditions(jobenv)

    def judge(self, ended: Ended) -> Verdict:
        """Return why the run ended. Tests the nodes where that can tell something."""
        seen = ended.seen
        lost = seen.down
        failed = not succeeded(seen.status, ended.messages, forced=seen.forced)
        stopped = bool(seen.signal_name) or seen.time_up
        # A node that is known to be lost tells enough: the next launch waits for no further question,
        # and the other nodes are tested before it anyway.
        ending = self._ending() if (failed or stopped) and not lost else None
        # When the manager takes the allocation away, nodes that do not answer are not bad for it.
        open_question = failed and not (stopped or lost or ending)
        down = {bad.node: bad for bad in [*(self._test_nodes() if open_question else ()), *lost]}
        down = {node: bad for node, bad in down.items() if node in ended.nodes}
        after = Aftermath()
        if open_question and not (seen.forced or down or ended.launch_error):
            after = self._ask_nodes(seen.status, ended)
        reason = evidence.standing_halt_reason(self._jobenv)
        return judge(
            StepEnd(
                status=seen.status,
                forced=seen.forced,
                down=list(down.values()),
                hang=seen.hang,
                time_up=seen.time_up,
                signal_name=seen.signal_name,
                halt_reason="JOB_HALTED" if seen.stop_asked else reason,
                storage=evidence.full_storage(self._jobenv) if failed else "",
                launch_error=ended.launch_error,
                seconds_left=self._seconds_left(ended),
                ending=ending,
                messages=ended.messages,
                memory=after.memory,
                notes=after.notes,
            ),
            FINALIZED,
            TIME_REASONS,
        )

    def _ending(self) -> Optional[tuple[Cause, str]]:
        """Return why the manager ends the allocation, None if it does not or does not say in time."""
        resmgr = self._jobenv.resmgr
        asked: Errand[Optional[tuple[Cause, str]]]
        asked = Errand(self._jobenv.context.runner, "why the allocation ends")
        for _ in range(ENDING_TRIES):
            asked.ask(resmgr.ending)
            try:
                found = asked.answer(ENDING_S)
            except ScrError as error:
                why = str(error)
                continue
            if not asked.is_out:
                return found
            why = f"no answer within {ENDING_S:g} s"
            break
        logger.warning("%s does not say whether it ends the allocation: %s", resmgr.name, why)
        return None

    def _ask_nodes(self, status: Optional[ExitStatus], ended: Ended) -> Aftermath:
        """Ask the nodes on which tasks failed, or else all that were used, what shows there."""
        named = {message.node for message in ended.messages if message.said in TASKS}
        nodes = [node for node in ended.nodes if node in named] or list(ended.nodes)
        return self.conditions.changed(nodes, killed=killed(status, ended.messages))

    def _seconds_left(self, ended: Ended) -> Optional[float]:
        if ended.end_time in (END_UNKNOWN, END_NO_LIMIT):
            return None
        return ended.end_time - self._jobenv.context.clock.now()
