# SPDX-License-Identifier: BSD-3-Clause
"""scr_scavenge on nodes with storage of their own: a real death, and KILL of the scavenge itself."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
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

    def scavenge(self, **environ: str) -> subprocess.CompletedProcess[bytes]:
        return self.here.run(self.words, env={**self.here.environ, **environ})

    def afresh(self) -> None:
        """Make the prefix what it was before any scavenge."""
        shutil.rmtree(self.prefix)
        self.case.unpack("prefix_0_before", self.prefix)

    def copying(self, node: str) -> bool:
        """Tell whether a node has begun."""
        return (self.hidden / f"scrjob.progress.{node}").exists()

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


def test_dataset_that_the_flush_file_does_not_know_is_described_by_the_nodes(
    here: HeldAllocation, job: Job
) -> None:
    """As after a second start in an allocation, which deletes that file."""
    (job.prefix / ".scr/flush.scr").unlink()
    here.fail("node3")
    done = job.scavenge()
    assert done.returncode == 0, done.stderr
    assert job.is_safe()


def test_two_dead_nodes_are_too_many(here: HeldAllocation, job: Job) -> None:
    here.fail("node3")
    here.fail("node2")
    done = job.scavenge()
    assert done.returncode == 73
    assert b"more than the scheme tolerates" in done.stderr
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


SLOW = {
    "SCR_SCAVENGE_BW": "24000"
}  # bytes per second: the copy of each node takes about two seconds
QUICKER = {"SCR_SCAVENGE_BW": "72000"}
SEED = 20


def begin(here: HeldAllocation, job: Job, **environ: str) -> subprocess.Popen[bytes]:
    """Start a scavenge whose copies take a while, and return when node3 is in the middle of its own."""
    process = here.start(job.words, env={**here.environ, **SLOW, **environ})
    assert wait_for(lambda: job.copying("node3"), clock=SystemClock(), limit_s=30.0, poll_s=0.01)
    return process


def test_node_that_dies_in_the_middle_of_its_copy_is_rebuilt(
    here: HeldAllocation, job: Job
) -> None:
    process = begin(here, job)
    here.fail("node3")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert job.is_safe()
    assert b"node3" in err
    assert b"files rebuilt" in err


@pytest.mark.parametrize("how", ["its copy is stopped", "it hangs"])
def test_node_that_stands_still_is_given_up_and_rebuilt(
    here: HeldAllocation, job: Job, how: str
) -> None:
    """Lesson B5: a deadline for each node. The others do not wait for it, and nothing it writes does harm."""
    process = begin(here, job, SCR_SCAVENGE_STALL="3")
    if how == "it hangs":
        here.hang("node3")
    else:
        stop = "kill -STOP $(pgrep -f -- '--cntl[d]ir')"
        assert here.on("node3", ["sh", "-c", stop]).returncode == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"node3: no progress for 3 s: given up" in err
    assert job.is_safe()


def test_progress_is_told_where_there_is_no_terminal(here: HeldAllocation, job: Job) -> None:
    done = job.scavenge(SCR_SCAVENGE_BW="8000")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.decode().splitlines() if "copying ckpt.1: " in line]
    assert lines
    assert "nodes done; slowest: node" in lines[0]
    assert "/s, 0:0" in lines[0]
    assert not list(job.hidden.glob("scrjob.progress.*"))


def test_second_scavenge_at_the_same_time_waits_and_finds_it_done(
    here: HeldAllocation, job: Job
) -> None:
    process = begin(here, job)
    done = job.scavenge()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, done.returncode) == (0, 0), (err, done.stderr)
    assert b"scavenge: waiting for a scavenge of job " in done.stdout
    assert b"was complete already" in done.stderr
    assert job.is_safe()


def kill_and_repeat(here: HeldAllocation, job: Job, seed: int) -> None:
    """KILL a scavenge at a random moment of its life; the second one ends with a correct dataset."""
    rng = random.Random(seed)
    job.afresh()
    process = here.start(job.words, env={**here.environ, **QUICKER})
    SystemClock().sleep(rng.uniform(0.2, 2.5))
    process.kill()
    process.communicate()
    done = job.scavenge()
    assert done.returncode == 0, (seed, done.stderr)
    assert job.is_safe(), seed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + 20))
def test_killed_at_twenty_moments(here: HeldAllocation, job: Job, seed: int) -> None:
    kill_and_repeat(here, job, seed)


@pytest.mark.soak
def test_killed_at_two_hundred_random_moments(here: HeldAllocation, job: Job) -> None:
    first = random.SystemRandom().randrange(1 << 32)
    for seed in range(first, first + 200):
        kill_and_repeat(here, job, seed)
    print(
        f"scavenge: killed at 200 moments from seed {first} on, the second start was right each time"
    )


def test_bars_on_a_terminal(here: HeldAllocation, job: Job) -> None:
    """One for all nodes and one for each; on stderr only, and gone at the end."""
    master, terminal = os.openpty()
    environ = {**here.environ, "SCR_SCAVENGE_BW": "8000", "TERM": "xterm", "COLUMNS": "120"}
    process = here.start(job.words, env=environ, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone with the process
        while True:
            data = os.read(master, 1 << 16)
            if not data:
                break
            shown += data
    os.close(master)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert b"ckpt.1 0/4 nodes" in shown
    assert b"  node3" in shown
    assert b"\x1b[" not in out
    assert b"files, " in shown.splitlines()[-1]
