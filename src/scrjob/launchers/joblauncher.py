# SPDX-License-Identifier: BSD-3-Clause
"""The contract of job launchers: start a job step on given nodes, wait for it, end all of it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Optional, Sequence

from scrjob._clock import wait_for
from scrjob._plugins import Plugin
from scrjob._process import end_process, group_exists, kill_group, signal_group, wait_process
from scrjob.errors import NotSupportedError
from scrjob.model import ExitStatus

if TYPE_CHECKING:
    from scrjob.model import NodeName, StepMessage

TERM_GRACE_S = 5.0  # from TERM to KILL for a step that does not end
KILL_LIMIT_S = 5.0  # how long a killed launcher may take to be gone


class JobLauncher(Plugin):
    """Base class. A subclass overrides ``launch_run``; the rest works for one launcher process.

    Args:
        launcher: the launcher's name, as users type it.

    Attributes:
        name: same.
        hostfile: path that the launcher may write, "" if there is none.
        heeds_messages: False where the launcher's stderr is not to be read on its way.
    """

    def __init__(self, launcher: str = "UNKNOWN") -> None:
        self.name = launcher
        self.hostfile = ""
        self.heeds_messages = True

    def launch_run(
        self,
        args: Sequence[str],
        nodes: Optional[Sequence[str]] = None,
        down_nodes: Optional[Sequence[str]] = None,
    ) -> tuple[Any, Any]:
        """Start a job step on the user's own stdin, stdout and stderr, in ``context.environ``.

        Args:
            args: what follows the launcher's name on the command line; passed on byte for byte.
            nodes: healthy candidates in order. The step takes the first of them, as many as the
                user's own arguments say, else as many as it needs, and no others.
            down_nodes: nodes that must not be used. Both lists reach the launcher.

        Returns:
            (process, jobstep): what ``wait_run`` takes and what ``kill_run`` takes.

        Raises:
            CommandError: it could not be started.
        """
        del args, nodes, down_nodes
        raise NotSupportedError(f"launcher {self.name!r} cannot start job steps")

    def wait_run(
        self, proc: Any = None, timeout: Optional[float] = None
    ) -> tuple[bool, Optional[bool]]:
        """Wait for the end of a step, at most ``timeout`` seconds (None: for ever).

        Returns:
            (finished, success); success is None while it runs, and True only for exit code 0.
        """
        code = wait_process(proc, timeout)
        if code is None:
            return False, None
        return True, code == 0

    def kill_run(self, jobstep: Any = None) -> None:
        """End the whole step: TERM, a grace, KILL, each with a deadline. Again or too late is no error."""
        if jobstep.poll() is None and not group_exists(jobstep.pid):
            end_process(jobstep, TERM_GRACE_S, KILL_LIMIT_S)  # started by other means than ours
            return
        if not signal_group(jobstep, signal.SIGTERM):
            return
        clock = self.context.clock

        def gone() -> bool:
            # The launcher may end at once and leave ranks that ignore TERM in its group.
            return jobstep.poll() is not None and not group_exists(jobstep.pid)

        if not wait_for(gone, clock=clock, limit_s=TERM_GRACE_S):
            kill_group(jobstep.pid)
            wait_for(gone, clock=clock, limit_s=KILL_LIMIT_S)

    def end_step(self, step_id: str) -> bool:
        """End the whole step that a user names, as ``kill_run`` does; False if there is none such now.

        Args:
            step_id: as the resource manager's own tools show it.

        Raises:
            NotSupportedError: this launcher's steps have no ids.
            UsageError: it is no id of a step.
            ScrError: the step could not be ended.
        """
        del step_id
        raise NotSupportedError(f"launcher {self.name!r} cannot end a step by its id")

    def abandon_run(self, jobstep: Any, dead_nodes: Sequence[NodeName]) -> None:
        """End a step that has lost nodes: no grace, and no waiting for the dead ones.

        Its living ranks cannot finish anything. The default is ``kill_run``.
        """
        del dead_nodes
        self.kill_run(jobstep)

    def messages(self, jobstep: Any) -> list[StepMessage]:
        """Return what the launcher itself has said so far about the step's nodes and tasks."""
        del jobstep
        return []

    def exit_status(self, proc: Any) -> Optional[ExitStatus]:
        """Return how the application ended, as well as the launcher can tell; None while it runs.

        None after the end means: what ``wait_run`` says about success is all that is known.
        """
        if not hasattr(proc, "poll"):
            return None  # an object of the launcher's own: only its ``wait_run`` knows
        code = proc.poll()
        return None if code is None else ExitStatus.from_returncode(code)

    def nodes_wanted(self, args: Sequence[str]) -> Optional[int]:
        """Return how many nodes the user's own arguments ask for, None if they do not say."""
        del args
        return None

    def step_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes on which the step's ranks run, None if the launcher cannot tell."""
        del jobstep
        return None

    def chosen_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes that a step was launched on, known at once, None if the launcher cannot tell.

        It is the launcher's intention; ``step_nodes`` is what has become of it.
        """
        del jobstep
        return None

    def rank_pids(self, jobstep: Any) -> dict[NodeName, list[int]]:
        """Return the process ids of the step's ranks, as each node numbers them; {} if not known."""
        del jobstep
        return {}

    def rank_environ(self, jobstep: Any) -> dict[str, str]:
        """Return variables by which the step's ranks are known on their nodes, {} if there are none.

        A process of the user that has all of them in its environment belongs to the step.
        """
        del jobstep
        return {}

    def outside_pids(self, jobstep: Any) -> dict[NodeName, list[int]]:
        """Return the same processes as this host numbers them; {} if the nodes are other machines."""
        del jobstep
        return {}

    def end_orphan(self, record: str) -> bool:
        """End a step that a dead supervisor left behind; True if one was ended.

        ``record`` is what ``step_record`` returned for it; "" if the supervisor died before it was
        written: then any step of the job of ``context.environ`` (SCR_JOB_ID, SCR_PREFIX) is meant.
        """
        del record
        return False

    def step_record(self, jobstep: Any) -> str:
        """Return text by which another process can find the step again, "" if it cannot."""
        del jobstep
        return ""
