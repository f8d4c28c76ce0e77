# SPDX-License-Identifier: BSD-3-Clause
"""scr_run on a scripted cluster, for tests of the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripted_cluster import Cluster, Step
from scrjob.run import run

NODES = ["n1", "n2", "n3", "n4", "n5"]


class Job:
    """One scr_run on a scripted cluster, and what it told."""

    def __init__(self, tmp_path: Path, steps: list[Step], wanted: int = 4) -> None:
        (tmp_path / ".scr").mkdir(exist_ok=True)
        self.cluster = Cluster(tmp_path, NODES, steps)
        self.cluster.wanted = wanted
        self.told: list[str] = []

    def run(self, **environ: str) -> int:
        jobenv = self.cluster.jobenv(**environ)
        signals = self.cluster.signals
        return run("scripted", ["./app"], jobenv=jobenv, say=self.told.append, signals=signals)

    def state(self) -> Any:
        path = self.cluster.prefix / ".scr" / "scrjob.42" / "state.json"
        return json.loads(path.read_text())

    def causes(self) -> list[str]:
        return [entry["cause"] for entry in self.state()["runs"]]
