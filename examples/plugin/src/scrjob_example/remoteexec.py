# SPDX-License-Identifier: BSD-3-Clause
"""Commands on the site's nodes through ``siteexec NODE COMMAND``, all nodes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Optional, Sequence

from scrjob.errors import CommandError, UsageError
from scrjob.protocols import Context, JobEnvironment
from scrjob.remoteexec import RemoteExec, RemoteExecResult


class SiteExec(RemoteExec):
    """Reaches the nodes of the allocation that SITE_JOB names."""

    name = "site"
    knows_its_nodes = True  # siteexec itself refuses to run anywhere else; its nodes share one host

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None inside an allocation."""
        return None if context.environ.get("SITE_JOB") else "SITE_JOB is not set"

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run one siteexec for each node."""
        if len(set(nodes)) != len(nodes):
            raise UsageError("a node is named twice")
        result = RemoteExecResult(argv, nodes)

        def one(node: str) -> None:
            try:
                answer = self.context.runner.run(
                    ["siteexec", node, *argv], timeout_s=self.timeout_s, env=self.context.environ
                )
            except CommandError as error:
                result.set_failure(node, str(error).replace("\n", " "))
                return
            code = answer.returncode
            result.append_stdout(node, answer.stdout)
            result.append_stderr(node, answer.stderr)
            result.set_rc(node, 128 - code if code < 0 else code)

        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            list(pool.map(one, nodes))
        return result
