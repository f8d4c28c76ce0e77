# SPDX-License-Identifier: BSD-3-Clause
"""Checks that what a job needs is there, before the first launch and not at 3 a.m."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, Optional

from scrjob.errors import ConfigError, NotInAllocationError
from scrjob.hostlist import show_hosts
from scrjob.jobenv import managers_nodes
from scrjob.nodetests.scr_exclude_nodes import excluded_nodes

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)


class TestRuntime:
    """Published name: constructing it checks the job's runtime and gives None.

    Args:
        jobenv: the job to check; without one that of the real environment.

    Raises:
        ConfigError: something needed is missing; says what, and what to do.
        NotInAllocationError: no nodes are known.
    """

    __test__ = False  # no test class, whatever its name says to pytest

    def __new__(cls, jobenv: Optional[JobEnvironment] = None) -> Any:
        """Run all checks; returns None."""
        if jobenv is None:
            from scrjob.jobenv import JobEnv  # noqa: PLC0415 - only for direct callers

            jobenv = JobEnv()
        cls.check_nodes(jobenv)
        cls.check_exclusions(jobenv)
        cls.check_prefix(jobenv)
        cls.check_remote_exec(jobenv)

    @staticmethod
    def check_nodes(jobenv: JobEnvironment) -> None:
        """Raise unless the nodes of an allocation are known, and SCR_NODELIST names no others."""
        nodes = jobenv.job_nodes()
        if not nodes:
            raise NotInAllocationError(
                "no allocation: no resource manager is detected here and SCR_NODELIST is not set; "
                "run inside a job, or in an allocation on this machine: scr_local alloc -N 4 -- COMMAND"
            )
        allocated = managers_nodes(jobenv.resmgr)
        foreign = [node for node in nodes if node not in allocated]
        if allocated and foreign:
            raise ConfigError(
                f"SCR_NODELIST names nodes that are not of this allocation: {', '.join(foreign)}"
            )

    @staticmethod
    def check_exclusions(jobenv: JobEnvironment) -> None:
        """Raise if SCR_EXCLUDE_NODES cannot be understood, warn of nodes in it that are not of the job."""
        excluded = excluded_nodes(jobenv)
        job = {*jobenv.job_nodes(), *managers_nodes(jobenv.resmgr)} if excluded else set()
        foreign = [node for node in excluded if node not in job]
        if foreign:
            logger.warning(
                "SCR_EXCLUDE_NODES names nodes that are not of this allocation: %s",
                show_hosts(foreign),
            )

    @staticmethod
    def check_prefix(jobenv: JobEnvironment) -> None:
        """Raise unless SCR's directory in the prefix exists or can be made, and be written."""
        path = jobenv.dir_scr()
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"prefix directory {jobenv.dir_prefix()!r} cannot be used: {error.strerror}; "
                "set SCR_PREFIX to a directory that you can write"
            ) from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise ConfigError(f"{path!r} cannot be written; set SCR_PREFIX to a directory of yours")

    @staticmethod
    def check_remote_exec(jobenv: JobEnvironment) -> None:
        """Raise if the remote execution that is forced or offered here cannot be used."""
        why = type(jobenv.rexec).available(jobenv.context)
        if why and jobenv.resmgr.remote_exec:
            raise ConfigError(f"remote execution {jobenv.rexec.name!r} cannot be used: {why}")

    @staticmethod
    def check_clustershell() -> None:
        """Raise unless ClusterShell can be imported."""
        if importlib.util.find_spec("ClusterShell") is None:
            raise ConfigError("ClusterShell is not installed: pip install ClusterShell")

    @staticmethod
    def check_pdsh() -> None:
        """Raise unless pdsh is on the path."""
        if shutil.which("pdsh") is None:
            raise ConfigError("pdsh is not on PATH: install it, or choose another SCR_REMOTE_EXEC")
