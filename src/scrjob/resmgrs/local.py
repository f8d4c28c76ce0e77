# SPDX-License-Identifier: BSD-3-Clause
"""The embedded allocation of ``scr_local alloc`` as a resource manager."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Mapping, Optional

from scrjob.errors import ConfigError
from scrjob.localrm import directory
from scrjob.localrm.client import Allocation
from scrjob.model import END_NO_LIMIT, JobId, NodeName
from scrjob.resmgrs.resourcemanager import ResourceManager

if TYPE_CHECKING:
    from scrjob.localrm.client import Status

DOWN_STATES = ("dead", "silent", "booting")


class LocalResourceManager(ResourceManager):
    """Asks the allocation's manager, over its socket, each time anew."""

    poll_seconds = 0.5
    node_tests = ("echo", "dir_capacity")
    remote_exec = ("local",)

    def __init__(self, resmgr: str = "local") -> None:
        super().__init__(resmgr)

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Optional[str]:
        """Return why this is a process of such an allocation, None if it is not."""
        if environ.get(directory.DIR_VARIABLE):
            return f"{directory.DIR_VARIABLE} is set"
        return None

    def prerun(self) -> None:
        """Refuse a prefix directory that the nodes cannot see: what they write there would be lost.

        Raises:
            ConfigError: it lies in the nodes' own storage; says what to do.
        """
        if not self._inside():
            return
        info = self._allocation().info
        prefix = os.path.realpath(self.context.environ.get("SCR_PREFIX") or os.getcwd())
        hides = directory.hidden_by(prefix, info.storage, info.shared)
        if hides:
            raise ConfigError(
                f"{prefix}: the nodes cannot see this prefix directory, for {hides} is their own "
                "storage; give it to scr_local alloc with --share, or take another"
            )

    def job_id(self) -> Optional[JobId]:
        """Return the allocation's id, None outside of one."""
        return JobId(self._allocation().info.job_id) if self._inside() else None

    def job_nodes(self) -> list[NodeName]:
        """Return the nodes in the order in which they were made, [] outside of an allocation."""
        return [NodeName(node) for node in self._allocation().info.nodes] if self._inside() else []

    def down_nodes(self) -> dict[NodeName, str]:
        """Return the nodes that died, do not answer or still boot, each with the evidence.

        Raises:
            NotInAllocationError: the allocation has ended.
        """
        if not self._inside():
            return {}
        return {
            NodeName(node.name): node.reason or node.state
            for node in self._status().nodes
            if node.state in DOWN_STATES
        }

    def end_time(self) -> int:
        """Return when the allocation ends, in Unix seconds; -1 no limit; 0 outside of one."""
        if not self._inside():
            return super().end_time()
        end = self._status().end
        return END_NO_LIMIT if end is None else int(end)

    def start_time(self) -> Optional[float]:
        """Return when the allocation began, in Unix seconds."""
        return self._allocation().info.began if self._inside() else None

    def private_storage(self) -> bool:
        """Tell whether the kernel let the nodes have namespaces."""
        return self._allocation().info.private if self._inside() else True

    def _inside(self) -> bool:
        return self.detect(self.context.environ) is not None

    def _allocation(self) -> Allocation:
        return Allocation.of_environment(self.context.environ, self.context.clock)

    def _status(self) -> Status:
        return self._allocation().live_status()
