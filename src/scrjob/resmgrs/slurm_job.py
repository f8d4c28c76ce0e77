# SPDX-License-Identifier: BSD-3-Clause
"""One job as Slurm's controller sees it: the question, the parser of the answer, why it ends.

``squeue`` is asked for named fields with a separator: the job's name, comment and paths, which may hold
anything, are not among them. ``scontrol show job`` prints them before and after what we need.

Source: squeue(1), Slurm 22.05: ``--Format`` (suffixes since 20.02, size 0: as long as it is),
"JOB STATE CODES", "JOB REASON CODES".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional

from scrjob.errors import NotInAllocationError, OutputParseError
from scrjob.hostlist import expand_hosts
from scrjob.model import Cause

if TYPE_CHECKING:
    from scrjob._process import CommandResult

TOOL = "squeue"
FIELDS = (
    *("JobID", "State", "StartTime", "EndTime", "TimeLimit", "RestartCnt", "PreemptTime"),
    *("NodeList", "Reason"),  # the reason last: it is text
)
UNLIMITED = "UNLIMITED"
UNKNOWN_JOB = "Invalid job id specified"  # squeue's words, 22.05: the controller has forgotten it

RUNNING = ("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "CONFIGURING")
"""States in which the nodes are the job's."""
CONFIGURING = "CONFIGURING"
ENDED: Mapping[str, Cause] = {
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "PREEMPTED": Cause.PREEMPTED,
    "NODE_FAIL": Cause.NODE_DOWN,
    "BOOT_FAIL": Cause.NODE_DOWN,
    # It is over, and not by its own end: somebody is there to ask.
    **dict.fromkeys(
        (
            *("CANCELLED", "COMPLETED", "FAILED", "OUT_OF_MEMORY", "REVOKED", "LAUNCH_FAILED"),
            *("COMPLETING", "STAGE_OUT"),
        ),
        Cause.CANCELLED,
    ),
    # It waits to run again under the same id.
    **dict.fromkeys(
        (
            *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"),
            "SPECIAL_EXIT",
        ),
        Cause.PREEMPTED,
    ),
}
REASONS: Mapping[str, Cause] = {
    "TimeLimit": Cause.TIME_LIMIT,
    "DeadLine": Cause.TIME_LIMIT,
    "NodeDown": Cause.NODE_DOWN,
}
"""While a job is COMPLETING only the reason, if anything, tells what it will have been."""


class Job(NamedTuple):
    """A job's row. Times are Unix seconds, None where Slurm has none."""

    job_id: str
    state: str
    start: Optional[int]
    end: Optional[int]
    limited: bool
    restarts: int
    preempted: Optional[int]
    nodes: str
    reason: str

    def is_running(self) -> bool:
        """Tell whether the nodes are the job's.

        Raises:
            OutputParseError: the state is none that we know.
        """
        if self.state not in RUNNING and self.state not in ENDED:
            raise OutputParseError(TOOL, self.state, f"unknown job state {self.state!r}")
        return self.state in RUNNING

    def told(self) -> str:
        """Return state and reason in one line."""
        why = "" if self.reason in ("", "None") else f", reason {self.reason}"
        lost = self.state == "NODE_FAIL" or self.reason == "NodeDown"
        hint = " (a lost node ends a job that was started without --no-kill)" if lost else ""
        return f"Slurm: job {self.job_id} is {self.state}{why}{hint}"

    def ending(self, restarts: int) -> Optional[tuple[Cause, str]]:
        """Return why it ends, None if it does not; ``restarts`` is the count that its processes know.

        Raises:
            OutputParseError: the state is none that we know.
        """
        if self.preempted is not None:
            return Cause.PREEMPTED, f"{self.told()}, pre-empted at {self.preempted}"
        if self.reason in REASONS and not self.is_running():
            return REASONS[self.reason], self.told()
        if self.restarts > restarts:
            return Cause.PREEMPTED, f"{self.told()}, requeued (restart {self.restarts})"
        if self.is_running():
            return None
        return ENDED[self.state], self.told()


def build_show_job(job_id: str) -> list[str]:
    """Return the call that prints the fields of a job, of its array tasks and components as well."""
    fields = ",".join(f"{field}:0|" for field in FIELDS[:-1])
    return [
        *("squeue", "--noheader", "--all", "--local", "--states=all"),
        *(f"--jobs={job_id}", f"--Format={fields},{FIELDS[-1]}:0"),
    ]


def parse_show_job(result: CommandResult, job_id: str, *, whole: bool) -> Job:
    """Return the job of that id.

    Args:
        result: squeue's answer.
        job_id: of the rows that came, the one that is meant.
        whole: the other rows are components of the same job: their nodes are its nodes too.

    Raises:
        NotInAllocationError: the controller does not know the job (any more).
        CommandError: the controller did not answer.
        OutputParseError: the answer is no such table.
    """
    if result.returncode != 0 and UNKNOWN_JOB in result.stderr:
        raise NotInAllocationError(f"Slurm does not know job {job_id} (any more)")
    result.check()
    rows = [_row(line, result.stdout) for line in result.stdout.splitlines()]
    for row in rows:
        if row.job_id == job_id:
            nodes = (other.nodes for other in rows if other.is_running() and other.nodes)
            return row._replace(nodes=",".join(nodes)) if whole else row
    raise OutputParseError(TOOL, result.stdout, f"no row of job {job_id}")


def node_names(text: str) -> list[str]:
    """Return the single names of one of Slurm's node lists, in its order."""
    return list(dict.fromkeys(expand_hosts(text)))


def _row(line: str, text: str) -> Job:
    fields = line.split("|", len(FIELDS) - 1)
    if len(fields) != len(FIELDS):
        raise OutputParseError(TOOL, text, f"expected {len(FIELDS)} fields in {line!r}")
    job_id, state, start, end, limit, restarts, preempted, nodes, reason = fields
    if not (job_id.isdecimal() and restarts.isdecimal()):
        raise OutputParseError(TOOL, text, f"expected numbers of job and restarts in {line!r}")
    return Job(
        job_id,
        state,
        _time(start),
        _time(end),
        limit != UNLIMITED,
        int(restarts),
        _time(preempted),
        nodes,
        reason.strip(),
    )


def _time(text: str) -> Optional[int]:
    """Return Unix seconds; what is none of them (N/A, NONE, Unknown) is no time."""
    return int(text) if text.isdecimal() else None
