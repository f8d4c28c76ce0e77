# SPDX-License-Identifier: BSD-3-Clause
"""Does a job that is requeued each time get anywhere? docs/decisions/004 has the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from scrjob.model import Cause
from scrjob.supervisor.loop import EXIT_NO_PROGRESS, EXIT_REQUEUE, Outcome
from scrjob.supervisor.settings import PROGRESS_ATTEMPTS

if TYPE_CHECKING:
    from scrjob.supervisor.state import JobState

SHORT_START_S = 180.0  # of runs, with the grace at their end; longer ones may do without datasets
TAKEN_AWAY = tuple(
    cause.value
    for cause in (Cause.NODE_DOWN, Cause.PREEMPTED, Cause.CANCELLED, Cause.SUPERVISOR_LOST)
)
"""Ends of runs that do not say how far the job would have come."""


def end_of_start(job_state: JobState, outcome: Outcome) -> Outcome:
    """Note in the state whether this start brought anything, and return how it ends.

    That is 93 in place of 75 if it is one start too many: a job script does not requeue it then.
    """
    idle = 0
    if outcome.code == EXIT_REQUEUE:
        idle = idle_starts(job_state.former(), job_state.runs)
    job_state.data["idle_starts"] = idle
    if idle < PROGRESS_ATTEMPTS:
        return outcome
    return Outcome(
        EXIT_NO_PROGRESS,
        f"{outcome.why}; {idle} starts of this job in a row brought no new dataset: it needs more time",
    )


def idle_starts(former: Optional[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> int:
    """Return the count, from the state of the start before and the runs of this one.

    Args:
        former: None in a first start.
        runs: all ended.
    """
    found = former.get("idle_starts") if former else 0
    before = found if isinstance(found, int) else 0
    if any(run["cause"] in TAKEN_AWAY for run in runs):
        return before
    advanced = any((run["dataset_after"] or 0) > (run["dataset_before"] or 0) for run in runs)
    makes_datasets = any(run["dataset_after"] for run in runs)
    seconds = sum(run["ended"] - run["started"] for run in runs)
    return before + 1 if not advanced and (makes_datasets or seconds < SHORT_START_S) else 0
