# SPDX-License-Identifier: BSD-3-Clause
"""The checkpoint client on virtual nodes, each with its own storage at the same path."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

import client_program
from scrjob import scrlog
from scrjob._clock import SystemClock
from scrjob._context import RealContext
from scrjob._process import SubprocessRunner
from scrjob.formats import flush, kvtree, paths
from scrjob.launchers.local import LocalLauncher
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.mpi]

LIMIT_S = 60.0
PROGRAM = client_program.__file__
SNAPSHOT = """
import hashlib, json, os, sys
found = {}
for base, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(base, name)
        with open(path, "rb") as file:
            found[path] = [hashlib.sha256(file.read()).hexdigest(), os.stat(path).st_mode]
print(json.dumps(found))
"""


class Report(NamedTuple):
    restart: str | None
    valid: bool
    good: list[bool]


class Job:
    """A prefix, and programs on chosen nodes."""

    def __init__(self, here: HeldAllocation, prefix: Path) -> None:
        self.here = here
        self.prefix = prefix
        self.settings = {
            "SCR_PREFIX": str(prefix),
            "SCR_USER_NAME": "alice",
            "SCR_JOB_ID": prefix.parent.name,  # a cache of its own for each test
            "SCR_CACHE_BYPASS": "0",
            "SCR_CACHE_SIZE": "2",
            "SCR_FLUSH": "0",
            "SCR_SET_SIZE": "3",
            "SCR_LOG_ENABLE": "1",
            "SCR_LOG_SYSLOG_ENABLE": "0",
        }

    @property
    def cache(self) -> str:
        return f"/dev/shm/alice/scr.{self.settings['SCR_JOB_ID']}"

    def environ(self, **settings: str) -> dict[str, str]:
        return {**self.here.environ, **self.settings, **settings}

    def code(self, nodes: str, ranks: int, *args: object, **settings: str) -> int:
        """Return the program's exit code on nodes given by their numbers."""
        launcher = LocalLauncher()
        launcher.bind(
            RealContext(self.environ(**settings), SubprocessRunner(), SystemClock(), "test")
        )
        wanted = [f"node{number}" for number in nodes]
        argv = ["-N", str(len(wanted)), "-n", str(ranks), sys.executable, PROGRAM]
        process, step = launcher.launch_run([*argv, *map(str, args)], wanted)
        try:
            launcher.wait_run(process, LIMIT_S)
            status = launcher.exit_status(process)
        finally:
            launcher.kill_run(step)
        assert status is not None, "the program did not end in time"
        return status.code

    def run(self, nodes: str, ranks: int, *args: object, **settings: str) -> Report:
        """Return what the program reports; it must end well."""
        assert self.code(nodes, ranks, *args, **settings) == 0
        return Report(**json.loads((self.prefix / "report.json").read_text()))

    def log(self) -> list[str]:
        return [str(r["label"]) for r in scrlog.parse_file(scrlog.log_path(str(self.prefix)))]

    def snapshot(self, node: str) -> dict[str, Any]:
        """Return path -> [checksum, mode] of a node's cache."""
        done = self.here.on(node, [sys.executable, "-c", SNAPSHOT, self.cache])
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def data(self, node: str, found: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the part of a node's snapshot that is the program's files and their redundancy."""
        files = self.snapshot(node) if found is None else found
        return {
            path: value
            for path, value in files.items()
            if path.endswith(".dat") or "reddesc.er.0." in path
        }

    def command(self, *argv: str) -> int:
        return self.here.run(list(argv), env=self.environ()).returncode

    def assert_in_prefix(self, number: int, ranks: int, most: int = 5000) -> None:
        for rank in range(ranks):
            for name in client_program.names(f"ckpt.{number}", rank, ranks):
                assert (self.prefix / name).read_bytes() == client_program.content(name, most)


@pytest.fixture(scope="module")
def five(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldAllocation]:
    with allocation(5, cwd=tmp_path_factory.mktemp("five")) as here:
        yield here


@pytest.fixture
def job(five: HeldAllocation) -> Iterator[Job]:
    base = Path(five.cwd) / os.urandom(4).hex()
    prefix = base / "prefix with 'blanks'"
    prefix.mkdir(parents=True)
    yield Job(five, prefix)
    for node in five.nodes:
        five.revive(node)


@pytest.mark.parametrize("ranks", [4, 8, 7])
def test_a_wiped_node_is_rebuilt_to_the_last_byte(job: Job, ranks: int):
    assert job.run("1234", ranks, 1, 2) == Report(None, True, [True, True])
    before = job.snapshot("node2")
    assert any("reddesc.er" in path for path in before)
    job.here.wipe("node2")
    assert job.run("1234", ranks, 3, 0) == Report("ckpt.2", True, [])
    assert job.snapshot("node2") == before
    labels = job.log()
    assert labels.count("REBUILD_SUCCESS") == 2
    assert "FETCH_START" not in labels


PARTNER = {"SCR_COPY_TYPE": "PARTNER"}
RS = {"SCR_COPY_TYPE": "RS"}


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        (PARTNER, ("node1", "node3")),  # no neighbours
        (RS, ("node2", "node3")),
        ({**RS, "SCR_MPI_BUF_SIZE": "1000"}, ("node1", "node4")),
    ],
)
def test_several_wiped_nodes_are_rebuilt_to_the_last_byte(
    job: Job, settings: dict[str, str], lost: tuple[str, ...]
):
    assert job.run("1234", 8, 1, 2, **settings) == Report(None, True, [True, True])
    before = {node: job.snapshot(node) for node in lost}
    kind = settings["SCR_COPY_TYPE"].lower()
    assert all(any(f".{kind}.grp_" in path for path in found) for found in before.values())
    for node in lost:
        job.here.wipe(node)
    assert job.run("1234", 8, 3, 0, **settings) == Report("ckpt.2", True, [])
    assert {node: job.snapshot(node) for node in lost} == before
    labels = job.log()
    assert labels.count("REBUILD_SUCCESS") == 2
    assert "FETCH_START" not in labels


def test_one_more_loss_is_too_much(job: Job):
    job.run("1234", 4, 1, 1, **RS)
    for node in ("node1", "node2", "node3"):
        job.here.wipe(node)
    assert job.run("1234", 4, 2, 1, **RS) == Report(None, True, [True])
    assert job.log().count("REBUILD_FAIL") == 1


def test_pieces_smaller_than_chunks_and_sets_of_two(job: Job):
    settings = {"SCR_MPI_BUF_SIZE": "1000", "SCR_SET_SIZE": "2"}
    job.run("1234", 8, 1, 1, **settings)
    before = job.snapshot("node4")
    job.here.wipe("node4")
    job.here.wipe("node2")  # of the other sets
    assert job.run("1234", 8, 2, 0, **settings) == Report("ckpt.1", True, [])
    assert job.snapshot("node4") == before


def test_a_spare_takes_over_files_move_and_the_next_loss_is_survived_too(job: Job):
    job.run("1234", 8, 1, 1)
    job.here.fail("node2")
    job.here.wait_state("node2", "dead")
    # Ranks 2 and 3 now run on node3, 4 and 5 on node4, 6 and 7 on the spare.
    assert job.run("1345", 8, 2, 0) == Report("ckpt.1", True, [])
    for node, rank in (("node3", 3), ("node4", 5), ("node5", 6)):
        owned = [path for path in job.snapshot(node) if "filemap" in path]
        assert f"{job.cache}/scr.dataset.1/.scr/filemap_{rank}" in owned
        assert len(owned) == 2  # what moved away is gone
    job.here.fail("node4")
    job.here.wait_state("node4", "dead")
    job.here.revive("node2")
    assert job.run("2135", 8, 2, 1) == Report("ckpt.1", True, [True])
    assert "FETCH_START" not in job.log()


def test_a_spare_shifts_ranks_that_use_the_same_base_names(job: Job):
    """In cache only the base name counts: rank 2 comes to where rank 3 was, with a file of its name."""
    job.run("1234", 4, 1, 1, "--alike")
    job.here.wipe("node2")
    assert job.run("1345", 4, 2, 0, "--alike") == Report("ckpt.1", True, [])
    assert job.run("1234", 4, 2, 0, "--alike") == Report("ckpt.1", True, [])


def test_ranks_with_the_same_base_names_that_cannot_be_placed_lose_nothing(job: Job):
    job.run("1234", 4, 1, 1, "--alike")
    before = {node: job.snapshot(node) for node in job.here.nodes}
    assert job.code("2134", 4, 2, 0, "--alike") != 0  # each in the other's way
    data = {node: job.data(node) for node in job.here.nodes}
    assert data == {node: job.data(node, found) for node, found in before.items()}
    assert job.code("124", 4, 2, 0, "--alike") != 0  # two of them on the first node
    assert {node: job.data(node) for node in job.here.nodes} == data
    assert job.run("1234", 4, 2, 0, "--alike") == Report("ckpt.1", True, [])


def test_all_ranks_on_other_nodes_than_before(job: Job):
    job.run("1234", 8, 1, 1)
    assert job.run("4321", 8, 2, 0) == Report("ckpt.1", True, [])
    assert job.run("2143", 8, 2, 0) == Report("ckpt.1", True, [])


def test_two_lost_nodes_are_too_many_for_the_cache_and_the_prefix_has_the_last_flush(job: Job):
    job.run("1234", 8, 1, 3, SCR_FLUSH="2")
    os.unlink(job.prefix / ".scr" / "scr.dataset.3" / "summary.scr")  # as if it was never flushed
    job.here.wipe("node1")
    job.here.wipe("node3")
    assert job.run("1234", 8, 4, 1) == Report("ckpt.2", True, [True])
    labels = job.log()
    assert labels.count("REBUILD_FAIL") == 2
    assert labels.count("FETCH_FAIL") == 1
    assert labels.count("FETCH_SUCCESS") == 1


def test_single_survives_no_loss(job: Job):
    job.run("12", 4, 1, 1, SCR_COPY_TYPE="SINGLE")
    assert job.run("12", 4, 2, 1, SCR_COPY_TYPE="SINGLE") == Report("ckpt.1", True, [True])
    job.here.wipe("node2")
    assert job.run("12", 4, 3, 0, SCR_COPY_TYPE="SINGLE") == Report(None, True, [])


def test_the_rebuild_goes_by_what_was_recorded_not_by_present_settings(job: Job):
    job.run("1234", 8, 1, 1, SCR_SET_SIZE="2")
    job.here.wipe("node1")
    assert job.run("1234", 8, 2, 1, SCR_SET_SIZE="4") == Report("ckpt.1", True, [True])


def test_bypass_protects_the_filemaps(job: Job):
    job.run("1234", 8, 1, 1, SCR_CACHE_BYPASS="1")
    before = job.snapshot("node3")
    job.here.wipe("node3")
    assert job.run("1234", 8, 2, 0) == Report("ckpt.1", True, [])
    assert job.snapshot("node3") == before
    assert "FETCH_START" not in job.log()


@pytest.mark.parametrize(
    ("settings", "lost"),
    [({}, ()), ({}, ("node3",)), (PARTNER, ("node2", "node4")), (RS, ("node3", "node4"))],
)
def test_what_the_client_writes_can_be_scavenged_without_some_nodes(
    job: Job, settings: dict[str, str], lost: tuple[str, ...]
):
    job.run("1234", 8, 1, 2, **settings)
    for node in lost:
        job.here.fail(node)
        job.here.wait_state(node, "dead")
    up = ",".join(node for node in job.here.nodes if node not in (*lost, "node5"))
    assert job.command("scr_scavenge", "-j", up, "-i", "2") == 0
    job.assert_in_prefix(2, 8)
    assert job.command("scr_index", "--prefix", str(job.prefix), "--current", "ckpt.2") == 0
    for node in job.here.nodes:
        if node in lost:
            job.here.revive(node)
        else:
            job.here.wipe(node)
    assert job.run("1234", 8, 3, 1) == Report("ckpt.2", True, [True])
    assert "FETCH_SUCCESS" in job.log()


@pytest.mark.parametrize(
    ("settings", "lost", "up"),
    [
        ({}, ("node2",), "node1,node2,node3"),
        (PARTNER, ("node4", "node2"), "node2,node4"),
        (RS, ("node2", "node3"), "node2,node3"),
    ],
)
def test_a_rebuilt_dataset_can_be_scavenged_without_other_nodes(
    job: Job, settings: dict[str, str], lost: tuple[str, ...], up: str
):
    job.run("1234", 8, 1, 1, **settings)
    for node in lost:
        job.here.wipe(node)
    job.run("1234", 8, 2, 0, **settings)
    assert job.command("scr_scavenge", "-j", up, "-i", "1") == 0
    job.assert_in_prefix(1, 8)


def test_an_exception_on_one_rank_ends_all_of_them(job: Job):
    assert job.code("12", 4, 1, 1, "--fail", 2) not in (0, None)
    assert job.run("12", 4, 1, 1) == Report(None, True, [True])


def most_for(number: int, ranks: int, logical: int) -> int:
    """Return --bytes with which the largest rank writes about ``logical`` bytes to a checkpoint."""
    unit = 10_000_000
    largest = max(
        sum(len(client_program.content(name, unit)) for name in names)
        for names in (client_program.names(f"ckpt.{number}", r, ranks) for r in range(ranks))
    )
    return logical * unit // largest


def test_a_full_cache_costs_the_checkpoint_not_the_run(tmp_path: Path, namespaces: None):
    prefix = tmp_path / "job" / "prefix"
    prefix.mkdir(parents=True)
    size = 48 << 20
    options = ["--storage", "/opt", "--storage-size", "48m"]
    with allocation(3, cwd=tmp_path, options=options) as here:
        job = Job(here, prefix)
        base = {"SCR_CACHE_BASE": "/opt"}
        assert job.run("123", 3, 1, 1, **base) == Report(None, True, [True])
        too_large = most_for(2, 3, size * 5 // 4)  # the program's own write fails
        lost = Report("ckpt.1", True, [False])
        assert job.run("123", 3, 2, 1, "--bytes", too_large, **base) == lost
        no_parity = most_for(2, 3, size * 4 // 5)  # files fit, redundancy of half the size does not
        assert job.run("123", 3, 2, 1, "--bytes", no_parity, **base) == lost
        assert job.run("123", 3, 2, 1, **base) == Report("ckpt.1", True, [True])


GARBAGE = """
import os, sys
for path, size in zip(sys.argv[1::2], sys.argv[2::2]):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(os.urandom(int(size)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redundancy", "mortal", "rounds"), [({}, ("node3",), 8), (RS, ("node2", "node3"), 5)]
)
def test_nodes_that_die_again_and_again_at_any_moment_never_cost_a_protected_checkpoint(
    job: Job, redundancy: dict[str, str], mortal: tuple[str, ...], rounds: int
):
    """Also while the restart is at work. They are always the same: one more would be too many.

    In every other round a new checkpoint was protected before they die, however slow this machine is.
    """
    rng = random.Random(20)
    clock = SystemClock()
    protected = 0

    def newest() -> int:
        try:
            return flush.latest(kvtree.read(paths.flush_file(str(job.prefix)))) or 0
        except FileNotFoundError:
            return 0

    argv = ["-N", "4", "-n", "8", sys.executable, PROGRAM, "0", "999"]
    settings = {"SCR_CACHE_SIZE": "1", **redundancy}
    for number in range(rounds):
        launcher = LocalLauncher()
        environ = job.environ(**settings)
        launcher.bind(RealContext(environ, SubprocessRunner(), clock, "test"))
        process, step = launcher.launch_run(argv, ["node1", "node2", "node3", "node4"])
        try:
            deadline = clock.monotonic() + LIMIT_S
            while number % 2 == 0 and newest() <= protected:
                assert clock.monotonic() < deadline, "no new checkpoint"
                clock.sleep(0.05)
            clock.sleep(rng.uniform(0.0, 1.0) if number % 2 == 0 else rng.uniform(1.0, 5.0))
            assert launcher.wait_run(process, 0) == (False, None), "the program ended by itself"
            for node in mortal:
                job.here.fail(node)
            launcher.wait_run(process, LIMIT_S)
        finally:
            launcher.kill_run(step)
        for node in mortal:
            job.here.wait_state(node, "dead")
            job.here.revive(node)
        assert newest() >= protected
        protected = newest()
    assert protected >= rounds // 2
    assert job.run("1234", 8, 0, 0, **settings) == Report(f"ckpt.{protected}", True, [])


def test_what_a_rebuild_that_was_killed_has_left_is_not_taken_for_data(job: Job):
    job.run("1234", 4, 1, 1)
    before = job.snapshot("node2")
    job.here.wipe("node2")
    directory = f"{job.cache}/scr.dataset.1"
    left: list[str] = []
    for number in range(2):
        name = f"ckpt.1/rank_1.{number}.dat"
        left += [f"{directory}/rank_1.{number}.dat", str(len(client_program.content(name, 5000)))]
    left += [f"{directory}/.scr/reddesc.er.1.xor.grp_1_of_1.mem_2_of_4.redset.part", "999"]
    assert job.here.on("node2", [sys.executable, "-c", GARBAGE, *left]).returncode == 0
    assert job.run("1234", 4, 2, 0) == Report("ckpt.1", True, [])
    assert job.snapshot("node2") == before


def test_a_damaged_redundancy_file_counts_as_lost(job: Job):
    job.run("1234", 4, 1, 1)
    before = job.snapshot("node3")
    hidden = f"{job.cache}/scr.dataset.1/.scr"
    names = [path for path in before if path.startswith(f"{hidden}/redd") and ".xor." in path]
    assert len(names) == 2
    left = [word for path in names for word in (path, "50")]
    assert job.here.on("node3", [sys.executable, "-c", GARBAGE, *left]).returncode == 0
    assert job.run("1234", 4, 2, 0) == Report("ckpt.1", True, [])
    assert job.snapshot("node3") == before
