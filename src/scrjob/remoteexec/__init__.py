# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution: commands on the nodes of the allocation."""

from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult

__all__ = ["RemoteExec", "RemoteExecResult"]
