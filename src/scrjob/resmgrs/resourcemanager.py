# SPDX-License-Identifier: BSD-3-Clause
"""The contract of resource managers: whose nodes are these, which are down, when does it end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional, Sequence

from scrjob._plugins import Plugin
from scrjob.model import END_UNKNOWN, NodeWatch

if TYPE_CHECKING:
    from scrjob.model import Cause, JobId, NodeName


class ResourceManager(Plugin):
    """Base class, and the answer where no allocation is known.

    A subclass overrides the published five (``prerun``, ``job_id``, ``job_nodes``, ``down_nodes``,
    ``end_time``) and ``detect``; the rest has defaults. A query that fails raises a
    ``scrjob.errors.ScrError``: "could not ask" is never an empty list or 0. Every question to the
    outside has a deadline.

    Args:
        resmgr: the manager's name, for messages.
    """

    poll_seconds: Optional[float] = None
    """How often ``down_nodes`` may be asked while a run is on, in seconds; None: do not ask."""

    node_tests: Sequence[str] = ("ping", "echo", "dir_capacity")
    """Node tests that make sense here when the user names none."""

    remote_exec: Sequence[str] = ()
    """Remote execution back ends that reach this manager's nodes, best first."""

    heartbeats: Sequence[str] = ()
    """How the used nodes may be asked whether they are alive while a run is on: "ping" (ICMP) and
    "echo" (a command by remote execution). (): the manager itself notices a death within seconds."""

    def __init__(self, resmgr: str = "UNKNOWN") -> None:
        self.name = resmgr

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Optional[str]:
        """Return why this manager is the one of the environment, None if it is not. Pure."""
        del environ
        return None

    def prerun(self) -> None:
        """Prepare the allocation before the first run."""

    def job_id(self) -> Optional[JobId]:
        """Return the id of the allocation, None outside of one."""
        return None

    def job_nodes(self) -> list[NodeName]:
        """Return the nodes of the allocation in the manager's order, [] outside of one."""
        return []

    def down_nodes(self) -> dict[NodeName, str]:
        """Return the nodes of the allocation that the manager knows to be bad, with one-line reasons."""
        return {}

    def watch_nodes(self) -> NodeWatch:
        """Return which nodes a running step has lost; asked every ``poll_seconds`` while a run is on."""
        return NodeWatch(self.down_nodes(), {})

    def ending(self) -> Optional[tuple[Cause, str]]:
        """Return why the manager ends the allocation or has ended it, with evidence in one line.

        None: it does not, or this manager cannot tell. The cause is TIME_LIMIT, PREEMPTED,
        CANCELLED or NODE_DOWN.
        """
        return None

    def restart_count(self) -> int:
        """Return how often the manager has requeued this job under the same id."""
        return 0

    def end_time(self) -> int:
        """Return when the allocation ends, in Unix seconds; 0 unknown, -1 no limit. Asked anew each time."""
        return END_UNKNOWN

    def start_time(self) -> Optional[float]:
        """Return when the allocation began, in Unix seconds, None if unknown."""
        return None

    def pinned_nodes(self) -> list[NodeName]:
        """Return hosts without which the allocation cannot go on, e.g. that of the batch script."""
        return []

    def private_storage(self) -> bool:
        """Tell whether each node has storage of its own that survives a run."""
        return True
