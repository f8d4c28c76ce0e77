# SPDX-License-Identifier: BSD-3-Clause
"""The site's launcher: ``siterun NODES PROGRAM``; users write ``scr_run siterun -N 4 PROGRAM``."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from scrjob.errors import UsageError
from scrjob.launchers import JobLauncher


class SiteLauncher(JobLauncher):
    """Starts one rank on each node."""

    def __init__(self) -> None:
        super().__init__("siterun")

    def nodes_wanted(self, args: Sequence[str]) -> Optional[int]:
        """Return the number after -N."""
        return int(args[1]) if args[:1] == ["-N"] and args[1].isdigit() else None

    def launch_run(
        self,
        args: Sequence[str],
        nodes: Optional[Sequence[str]] = None,
        down_nodes: Optional[Sequence[str]] = None,
    ) -> tuple[Any, Any]:
        """Start on the first of ``nodes`` that are not down."""
        avoid = set(down_nodes or ())
        healthy = [node for node in nodes or () if node not in avoid]
        count = self.nodes_wanted(args)
        program = list(args) if count is None else list(args[2:])
        chosen = healthy[: count or len(healthy)]
        if len(chosen) < (count or 1):
            raise UsageError(f"siterun: {count or 1} nodes wanted, {len(chosen)} are there")
        argv = ["siterun", ",".join(chosen), *program]
        process = self.context.runner.start(argv, env=self.context.environ)
        return process, process
