# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution by one ssh for each node; nothing else needs to be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.remoteexec import _ssh, _wrapper
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment


class Ssh(RemoteExec):
    """Runs a command through ssh, or what SCR_SSH names, many nodes at the same time."""

    name = "ssh"

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None if the program is on PATH, else the reason."""
        return _ssh.missing(context)

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` on each of ``nodes``; see the base class.

        Raises:
            UsageError: a node is named twice.
            ConfigError: SCR_SSH or SCR_SSH_FANOUT cannot be understood.
        """
        from scrjob.remoteexec._gather import Call, gather  # noqa: PLC0415 - brings subprocess

        _wrapper.refuse_duplicates(nodes)
        context = jobenv.context
        words = _ssh.words_for(jobenv, self.timeout_s)
        text = _ssh.text_for(argv, jobenv, self.timeout_s)
        result = RemoteExecResult(argv, nodes)
        calls = {node: Call([*words, node, text]) for node in _ssh.reachable(result)}
        nodes_of = {call: node for node, call in calls.items()}
        gather(
            list(calls.values()),
            context,
            context.environ,
            limit_s=self.timeout_s + _wrapper.LATE_S,
            side_by_side=_ssh.fanout(jobenv),
            given_up=self.lost and (lambda call: nodes_of[call] in self._lost_ones()),
        )
        gone = self._lost_ones()
        for node, call in calls.items():
            said = str(call.problem or "")
            if node in gone:
                said = _wrapper.LOST
            if call.ended is not None:
                said = f"{words[0]} ended with exit code {call.ended}"
            _wrapper.enter(result, node, call.lines(), self.timeout_s, said)
        return result
