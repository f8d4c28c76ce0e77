# SPDX-License-Identifier: BSD-3-Clause
"""scr_scavenge on nodes with storage of their own: a real death, and KILL of the scavenge itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

import datapath
from scrjob._clock import SystemClock, wait_for
from scrjob.formats import index

if TYPE_CHECKING:
    from scrjob.testing.local import HeldAllocation

pytestmark = pytest.mark.local

CNTLDIR = "/dev/shm/alice/scr.73"


class Job:
    """The nodes hold the caches of a real run; nothing of it is in the prefix yet."""

    def __init__(self, here: HeldAllocation, case: Any, scratch: Path) -> None:
        self.here = here
        self.case = case
        self.prefix = case.unpack("prefix_0_before", scratch / "prefix")
        self.hidden = self.prefix / ".scr/scr.dataset.1"
        self.words = [sys.executable, "-m", "scrjob", "scr_scavenge", "-v", "-i", "1"]
        self.words += ["-j", "node[1-4]", "-f", CNTLDIR, "-p", str(self.prefix)]
        self.words += ["--relocate", f"{case.recorded_prefix}={self.prefix}"]
        for node in datapath.NODES:
            here.revive(node)
            here.wipe(node)
            archive = case.home / f"cache_{node}.tar"
            with archive.open("rb") as file:
                done = here.on(node, ["tar", "-xf", "-", "-C", "/"], stdin=file)
            assert done.returncode == 0, done.stderr

    def scavenge(self) -> subprocess.CompletedProcess[bytes]:
        return self.here.run(self.words)

    def is_safe(self) -> bool:
        entry = index.Index.read(str(self.prefix / ".scr/index.scr")).entry(1)
        found = datapath.truth(self.case, self.prefix)
        truth = list((self.case.home / "truth").glob("*"))
        return (
            entry is not None
            and entry.is_valid
            and all(found.get(path.name) == path.read_bytes() for path in truth)
        )


@pytest.fixture
def job(here: HeldAllocation, golden: Callable[[str], Path]) -> Job:
    # Nodes only see what lies below the allocation's own directory.
    return Job(here, datapath.load(golden("xor_4")), Path(tempfile.mkdtemp(dir=here.cwd)))


def test_dead_node_is_rebuilt(here: HeldAllocation, job: Job) -> None:
    here.fail("node3")
    done = job.scavenge()
    assert done.returncode == 0, done.stderr
    assert job.is_safe()
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("scavenge: Scavenging files for dataset ckpt.1 to ")
    assert "scr_copy: node1: Return code: 0" in lines
    # The filemap of the lost rank, and its files.
    assert b"(4 files rebuilt)" in done.stderr


def test_two_dead_nodes_are_too_many(here: HeldAllocation, job: Job) -> None:
    here.fail("node3")
    here.fail("node2")
    done = job.scavenge()
    assert done.returncode == 73
    assert b"Insufficient files" in done.stderr
    assert len(done.stderr.decode().strip().splitlines()) <= 4
    assert not (job.prefix / ".scr/index.scr").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["scrjob.scavenge.json", "scrjob.copy.node1.jsonl", "scavenge.o*", "rank2file", "summary.scr"],
)
def test_killed_scavenge_is_done_again(here: HeldAllocation, job: Job, moment: str) -> None:
    """KILL when a file appears; the same command then ends well, with a node less."""
    process = here.start(job.words)
    try:
        wait_for(
            lambda: any(job.hidden.glob(moment)), clock=SystemClock(), limit_s=20.0, poll_s=0.001
        )
    finally:
        process.kill()
        process.communicate()
    here.fail("node2")
    done = job.scavenge()
    assert done.returncode == 0, done.stderr
    assert job.is_safe()
