# SPDX-License-Identifier: BSD-3-Clause
"""Slurm as a resource manager: the allocation of ``salloc`` or ``sbatch``.

What does not change is read from the job's environment (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"); all
else is asked of the controller each time: ``squeue`` for the job, ``scontrol`` for all its nodes in
one call. A controller that does not answer in time is an error, never a healthy node.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Mapping, Optional, Sequence

from scrjob._clock import wait_for
from scrjob._slurm import tool_environ
from scrjob.errors import CommandNotFoundError, ConfigError, NotInAllocationError, ScrError
from scrjob.model import END_NO_LIMIT, END_UNKNOWN, JobId, NodeName, NodeWatch
from scrjob.resmgrs import slurm_job as jobs
from scrjob.resmgrs import slurm_nodes as states
from scrjob.resmgrs.resourcemanager import ResourceManager

if TYPE_CHECKING:
    from scrjob._process import CommandResult
    from scrjob.model import Cause

logger = logging.getLogger(__name__)

BOOT_LIMIT_S = 900.0  # for the nodes of a new allocation to be ready; then the node tests decide
BOOT_POLL_S = 3.0
JOB_ID_NAMES = ("SLURM_JOB_ID", "SLURM_JOBID")
NODE_LIST_NAMES = ("SLURM_JOB_NODELIST", "SLURM_NODELIST")
HET_SIZE_NAMES = ("SLURM_HET_SIZE", "SLURM_PACK_SIZE")


class SLURM(ResourceManager):
    """Answers for the allocation that SLURM_JOB_ID names.

    ``poll_seconds`` is what two small requests to slurmctld every five seconds cost: of 10,000 nodes
    the answer is 5 MB and takes 0.1 s.
    """

    timeout_s = 10.0
    """Of each question; Slurm's own limit for an answer, MessageTimeout, is 10 s (slurm.conf(5))."""

    poll_seconds = 5.0
    remote_exec = ("srun", "clustershell", "pdsh")
    heartbeats = ("ping", "echo")

    def __init__(self) -> None:
        super().__init__("SLURM")

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Optional[str]:
        """Return which variable tells that this is a process of a Slurm job, None if none does."""
        return next((f"{name} is set" for name in JOB_ID_NAMES if environ.get(name)), None)

    def prerun(self) -> None:
        """Wait until the controller says that the nodes are ready; none of them is touched.

        salloc may give its prompt while nodes still boot. A controller that does not answer now is not
        waited for: the node tests come next, and they tell what they need.

        Raises:
            CommandNotFoundError: Slurm's commands are not installed.
        """
        if not self.job_id():
            return

        def configured() -> bool:
            return self._job().state != jobs.CONFIGURING

        try:
            clock = self.context.clock
            if not wait_for(configured, clock=clock, limit_s=BOOT_LIMIT_S, poll_s=BOOT_POLL_S):
                logger.warning("nodes are not ready after %g s", BOOT_LIMIT_S)
        except CommandNotFoundError:
            raise
        except ScrError as error:
            logger.warning("whether the nodes are ready is not known: %s", error)

    def job_id(self) -> Optional[JobId]:
        """Return the job id, None outside of a job.

        A task of a job array has an id of its own; a heterogeneous job has that of its first component.
        """
        found = self._first(JOB_ID_NAMES)
        return JobId(found) if found else None

    def job_nodes(self) -> list[NodeName]:
        """Return the nodes in Slurm's order, those of all components of a heterogeneous job; [] outside.

        It is the list of the start: nodes that Slurm took away since then are down, not gone.

        Raises:
            NotInAllocationError: there is a job, but no list of its nodes.
        """
        if not self.job_id():
            return []
        size = self._first(HET_SIZE_NAMES) or ""
        parts = (
            self._first([f"SLURM_JOB_NODELIST_{kind}_GROUP_{i}" for kind in ("HET", "PACK")])
            for i in range(int(size) if size.isdecimal() else 0)
        )
        text = ",".join(filter(None, parts)) or self._first(NODE_LIST_NAMES)
        if not text:
            raise NotInAllocationError(
                f"{NODE_LIST_NAMES[0]} is not set in job {self.job_id()}: its nodes are not known"
            )
        return [NodeName(node) for node in jobs.node_names(text)]

    def down_nodes(self) -> dict[NodeName, str]:
        """Return the nodes that must not get a new step: lost, silent, or to be avoided.

        Raises:
            NotInAllocationError: the job has ended.
            CommandError, OutputParseError: the controller could not be asked.
        """
        return {
            node: finding.reason
            for node, finding in self._findings().items()
            if finding.condition is not states.Condition.HEALTHY
        }

    def watch_nodes(self) -> NodeWatch:
        """Return the nodes on which ranks cannot be running, and those that the controller misses.

        Raises:
            ScrError: as ``down_nodes``.
        """
        watch = NodeWatch({}, {})
        for node, finding in self._findings().items():
            if finding.condition is states.Condition.LOST:
                watch.lost[node] = finding.reason
            elif finding.condition is states.Condition.SILENT:
                watch.silent[node] = finding.reason
        return watch

    def ending(self) -> Optional[tuple[Cause, str]]:
        """Return why Slurm ends the job or has ended it, None if it does not.

        Raises:
            NotInAllocationError: Slurm has forgotten the job already (MinJobAge).
            CommandError, OutputParseError: the controller could not be asked.
        """
        return self._job().ending(self.restart_count()) if self.job_id() else None

    def restart_count(self) -> int:
        """Return SLURM_RESTART_COUNT: a requeued job keeps its id.

        Raises:
            ConfigError: it is no number.
        """
        count = self.context.environ.get("SLURM_RESTART_COUNT") or "0"
        if not count.isdecimal():
            raise ConfigError(f"SLURM_RESTART_COUNT={count!r} is no number")
        return int(count)

    def end_time(self) -> int:
        """Return when the job ends, in Unix seconds; -1 no limit; 0 outside of one.

        An administrator may change it, and pre-emption with a grace time shortens it.

        Raises:
            ScrError: the controller could not be asked, or the job has ended.
        """
        if not self.job_id():
            return END_UNKNOWN
        job = self._job()
        if job.end is not None:
            return job.end
        return END_UNKNOWN if job.limited else END_NO_LIMIT

    def start_time(self) -> Optional[float]:
        """Return when the job began, after a requeue when it began anew, in Unix seconds."""
        return self._job().start if self.job_id() else None

    def pinned_nodes(self) -> list[NodeName]:
        """Return the node on which we run: that of the batch script under sbatch, none under salloc.

        With it the job ends. (salloc on a login host has no SLURMD_NODENAME; where sites let it start
        a shell on the first node, there is one.)
        """
        here = self.context.environ.get("SLURMD_NODENAME") or self.context.hostname
        return [node for node in self.job_nodes() if node in (here, here.partition(".")[0])]

    def _first(self, names: Sequence[str]) -> Optional[str]:
        environ = self.context.environ
        return next((environ[name] for name in names if environ.get(name)), None)

    def _findings(self) -> dict[NodeName, states.Finding]:
        nodes = self.job_nodes()
        if not nodes:
            return {}
        said = states.parse_show_nodes(self._ask(states.build_show_nodes(nodes)), nodes)
        job = self._job()
        if not job.is_running():
            raise NotInAllocationError(f"the allocation has ended: {job.told()}")
        held = set(jobs.node_names(job.nodes))
        reserved = bool(self.context.environ.get("SLURM_JOB_RESERVATION"))
        return {
            node: states.judge(said.get(node), held=node in held, reserved=reserved)
            for node in nodes
        }

    def _job(self) -> jobs.Job:
        job_id = self.job_id() or ""
        answer = self._ask(jobs.build_show_job(job_id))
        return jobs.parse_show_job(answer, job_id, whole=self._first(HET_SIZE_NAMES) is not None)

    def _ask(self, argv: Sequence[str]) -> CommandResult:
        environ = tool_environ(self.context.environ)
        return self.context.runner.run(argv, timeout_s=self.timeout_s, env=environ)
