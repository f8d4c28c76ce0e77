# SPDX-License-Identifier: BSD-3-Clause
"""Nodes whose control or cache directory cannot be written or lacks space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.node.command import node_command
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

FAIL = "FAIL: "


def directories(jobenv: JobEnvironment, kind: str) -> str:
    """Return ``DIR[:BYTES],...`` for the bases of one kind, "CNTL" or "CACHE".

    The sizes come from descriptor lines ``CNTLDIR=/dir BYTES=10GB`` of the configuration.
    """
    sized = jobenv.param.get_hash(f"{kind}DIR") or {}
    bases = jobenv.dir_control(base=True) if kind == "CNTL" else jobenv.dir_cache(base=True)
    entries = []
    for base in [*bases, *(name for name in sized if name not in bases)]:
        size = next(iter(sized.get(base, {}).get("BYTES", {})), None)
        entries.append(base if size is None else f"{base}:{jobenv.param.abtoull(size)}")
    return ",".join(entries)


class DirCapacity(NodeTest):
    """Runs scrjob's node check on each node: directories exist, take a file, have the space asked for."""

    name = "dir_capacity"

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the nodes that failed, with what the check said there."""
        argv = node_command("check")
        for option, kind in (("--cntl", "CNTL"), ("--cache", "CACHE")):
            argv += [option, directories(jobenv, kind)]
        result = jobenv.rexec.bounded(self.timeout_s).rexec(argv, nodes, jobenv)
        failed = {}
        for node in nodes:
            code = result.rc(node)
            if code is None:
                failed[node] = f"Failed to check directories: {result.failure(node)}"
            elif code != 0:
                failed[node] = _reason(result.stdout(node)) or _reason(result.stderr(node))
                failed[node] = failed[node] or f"Failed to check directories: exit code {code}"
        return failed


def _reason(text: str) -> str:
    """Return what follows FAIL in the check's answer, else its last line."""
    for line in text.splitlines():
        _, found, reason = line.partition(FAIL)
        if found:
            return reason.strip()
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
