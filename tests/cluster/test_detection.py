# SPDX-License-Identifier: BSD-3-Clause
"""Faults of nodes under a running step, for real: what is noticed, how soon, and what is left alone.

Slurm itself would notice none of them within this test's time: SlurmdTimeout is 300 s.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plainjob import PlainJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

NOTICED_S = 10.0
RELAUNCHED_S = 15.0  # on a machine that does other things too; make soak measures
HUNG_S = 60.0
USED, SPARES = 4, 1
STRUCK = "n2"
PROGRAM = 'echo "$(hostname) $(date +%s.%N)" >> up; [ -e again ] || sleep 600'


class WatchedJob(PlainJob):
    """A program that runs for long, in its first run; it notes where and when it was started."""

    def __init__(self, rig: Rig, directory: Path, **settings: str) -> None:
        words = ["srun", f"-N{USED}", f"-n{USED}", "sh", "-c", PROGRAM]
        super().__init__(rig, directory, words, **{"SCR_RUNS": "3", **settings})
        self.fault_at = 0.0

    def begin(self) -> None:
        """Start it; wait until it runs everywhere and a ping that its nodes answered was heard."""
        self.start(USED + SPARES, ["--exclusive"])
        self.wait_until(lambda: len(self.up()) == USED, "the first run")
        self.wait_said("launched on")
        before = self.pings_answered()  # the next ones are sent when these answers were taken
        self.wait_until(lambda: self.pings_answered() >= before + 2, "pings")

    def pings_answered(self) -> int:
        """Return how many pings the node that is struck has answered."""
        counters = self.rig.exec(STRUCK, ["cat", "/proc/net/snmp"]).stdout.splitlines()
        names, values = (line.split() for line in counters if line.startswith("Icmp:"))
        return int(values[names.index("OutEchoReps")])

    def strike(self) -> None:
        """Note that the fault comes now; the next run will be short."""
        (self.directory / "again").touch()
        self.fault_at = time.time()

    def up(self) -> list[tuple[str, float]]:
        """Return on which nodes the program was started when, in order."""
        try:
            lines = (self.directory / "up").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(host, float(when)) for host, when in (line.split() for line in lines)]

    def after_fault(self) -> tuple[float, float]:
        """Return the seconds until the first run was ended, and until the next was there."""
        ended = float(self.runs()[0]["ended"])
        return ended - self.fault_at, self.up()[-1][1] - self.fault_at


@pytest.mark.parametrize("fault", ["kill", "cut"])
def test_a_dead_node_is_known_in_seconds_and_its_spare_runs(
    rig: Rig, tmp_path: Path, fault: str
) -> None:
    """Lessons B7, A23: power gone, or the network only; nobody waits for it afterwards."""
    job = WatchedJob(rig, tmp_path)
    job.begin()
    job.strike()
    getattr(rig, fault)(STRUCK)
    assert job.end() == 0, job.said
    assert job.causes() == ["node down", "success"], job.said
    bad = job.state()["bad_nodes"]
    assert set(bad) == {STRUCK}
    # On a busy machine a command may come late on healthy nodes too; then only pings count.
    assert bad[STRUCK]["test"] in ("ping + remote execution", "ping")
    noticed, relaunched = job.after_fault()
    assert noticed < NOTICED_S, job.said
    assert relaunched < RELAUNCHED_S, job.said
    assert {host for host, _ in job.up()[USED:]} == {"n1", "n3", "n4", "n5"}
    assert rig.exec("login", ["pgrep", "-x", "fping"]).returncode == 1


def test_a_hung_node_is_found_and_a_slow_one_left_alone(rig: Rig, tmp_path: Path) -> None:
    """Both answer pings; only one still runs commands. Lesson B7: healthy but slow is not dead."""
    job = WatchedJob(rig, tmp_path, SCR_HEARTBEAT_ECHO="3")
    job.begin()
    assert rig.slow("n3")
    job.strike()
    rig.hang(STRUCK)
    job.wait_said("noticed: ", HUNG_S)
    rig.fast("n3")  # for the next run
    assert job.end() == 0, job.said
    assert job.causes() == ["node down", "success"], job.said
    bad = job.state()["bad_nodes"]
    assert set(bad) == {STRUCK}, job.said
    # The manager may have missed it, too, by then.
    assert bad[STRUCK]["test"].startswith("remote execution")
