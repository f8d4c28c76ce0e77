# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution on the virtual nodes of ``scr_local alloc``, through their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.localrm import directory
from scrjob.localrm.client import Allocation
from scrjob.localrm.remote import run_on_nodes
from scrjob.remoteexec._wrapper import here, refuse_duplicates
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment


class LocalRemoteExec(RemoteExec):
    """Runs commands on all nodes at once, in the caller's environment and current directory."""

    name = "local"
    knows_its_nodes = True

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None inside an allocation of ``scr_local alloc``, else the reason."""
        if context.environ.get(directory.DIR_VARIABLE):
            return None
        return f"{directory.DIR_VARIABLE} is not set: this is no allocation of scr_local alloc"

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` on each of ``nodes``; see the base class.

        What a command leaves running on a node is killed when the command has ended.

        Raises:
            UsageError: a node is named twice, or is none of the allocation.
            NotInAllocationError: there is no allocation (any more).
        """
        refuse_duplicates(nodes)
        context = jobenv.context
        allocation = Allocation.of_environment(context.environ, context.clock)
        answers = run_on_nodes(
            allocation,
            argv,
            nodes,
            environ=context.environ,
            cwd=here(),
            timeout_s=self.timeout_s,
            clock=context.clock,
            lost=self.lost,
        )
        result = RemoteExecResult(argv, nodes)
        for node, answer in answers.items():
            result.append_stdout(node, answer.stdout.decode("utf-8", "surrogateescape"))
            result.append_stderr(node, answer.stderr.decode("utf-8", "surrogateescape"))
            if answer.failure is None:
                result.set_rc(node, answer.code)
            else:
                result.set_failure(node, answer.failure)
        return result
