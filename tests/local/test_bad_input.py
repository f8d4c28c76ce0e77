# SPDX-License-Identifier: BSD-3-Clause
"""Damaged files, full and unwritable storage: one clear line, a documented code, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from scrjob.formats.index import Index
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.mpi]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "four_checkpoints.py"
LAUNCH = """
import sys
from scrjob.launchers.local import LocalLauncher
launcher = LocalLauncher()
proc, step = launcher.launch_run(["-N", "3", "-n", "3", *sys.argv[1:]])
launcher.wait_run(proc)
sys.exit(launcher.exit_status(proc).code)
"""
SETTINGS = {
    "SCR_JOB_ID": "job",
    "SCR_CACHE_BYPASS": "0",
    "SCR_FLUSH": "0",
    "SCR_COPY_TYPE": "XOR",
    "SCR_CACHE_SIZE": "2",
    "USER": "alice",
}
CACHE = "/dev/shm/alice/scr.job"
RANK_BYTES = 4096


class Job:
    def __init__(self, here: HeldAllocation, prefix: Path) -> None:
        self.here = here
        self.prefix = prefix
        prefix.mkdir(exist_ok=True)
        here.environ.update(SETTINGS, SCR_PREFIX=str(prefix))

    def command(self, *words: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        argv = [sys.executable, "-m", "scrjob", *words]
        return self.here.run(argv, env={**self.here.environ, **environ})

    def checkpoints(self, count: int = 2) -> None:
        """Leave ``count`` checkpoints, of which the caches hold the last two."""
        assert self.command("scr_prerun").returncode == 0
        argv = [sys.executable, "-c", LAUNCH, sys.executable, str(PROGRAM), str(count)]
        done = self.here.run(argv)
        assert done.returncode == 0, done.stderr

    def damage(self, node: str, path: str) -> None:
        done = self.here.on(node, ["sh", "-c", 'printf junk > "$0"', path])
        assert done.returncode == 0, done.stderr

    def scr(self, name: str) -> Path:
        return self.prefix / ".scr" / name

    def assert_safe(self, number: int) -> None:
        index = Index.read(str(self.scr("index.scr")))
        assert index.current() == f"ckpt.{number}"
        entry = index.entry(number)
        assert entry is not None
        assert entry.is_usable
        for rank in range(3):
            path = self.prefix / f"ckpt.{number}" / f"rank_{rank}.ckpt"
            assert path.read_bytes() == bytes([rank, number]) * (RANK_BYTES // 2)


@pytest.fixture
def job(namespaces: None, tmp_path: Path) -> Iterator[Job]:
    with allocation(3, cwd=tmp_path, share=[ROOT]) as here:
        yield Job(here, tmp_path / "prefix")


@pytest.mark.parametrize("how", ["missing", "corrupt", "empty"])
def test_the_flush_file_is_made_anew_from_the_caches(job: Job, how: str) -> None:
    job.checkpoints()
    path = job.scr("flush.scr")
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"junk" if how == "corrupt" else b"")
    done = job.command("scr_postrun", "-j", "local")
    assert done.returncode == 0, done.stderr
    job.assert_safe(2)


def test_a_corrupt_index_is_kept_aside(job: Job) -> None:
    job.checkpoints()
    job.scr("index.scr").write_bytes(b"junk")
    done = job.command("scr_postrun", "-j", "local")
    assert done.returncode == 0, done.stderr
    job.assert_safe(2)
    assert [path.read_bytes() for path in job.scr("").glob("index.scr.*")] == [b"junk"]


@pytest.mark.parametrize("name", [".scr/filemap_1", "rank_1.ckpt"])
def test_a_damaged_rank_is_rebuilt(job: Job, name: str) -> None:
    job.checkpoints()
    job.damage("node2", f"{CACHE}/scr.dataset.2/{name}")
    done = job.command("scr_postrun", "-j", "local")
    assert done.returncode == 0, done.stderr
    job.assert_safe(2)


def test_a_damaged_cache_index_costs_one_node(job: Job) -> None:
    job.checkpoints()
    job.damage("node3", f"{CACHE}/cindex.scrinfo")
    done = job.command("scr_postrun", "-j", "local")
    assert done.returncode == 0, done.stderr
    job.assert_safe(2)


def test_too_much_damage_falls_back_to_the_older_checkpoint_and_says_so(job: Job) -> None:
    job.checkpoints()
    for node, rank in (("node1", 0), ("node2", 1)):
        job.damage(node, f"{CACHE}/scr.dataset.2/rank_{rank}.ckpt")
    done = job.command("scr_postrun", "-j", "local")
    assert done.returncode == 73
    assert b"ckpt.2" in done.stderr
    assert b"Traceback" not in done.stderr
    job.assert_safe(1)


def test_a_corrupt_halt_file_halts_nothing(job: Job) -> None:
    job.scr("").mkdir()
    job.scr("halt.scr").write_bytes(b"junk")
    done = job.command("scr_run", "local", "-N", "2", "--mpi=none", "true")
    assert done.returncode == 0, done.stderr


def test_an_unwritable_cache_is_told_before_the_launch(job: Job) -> None:
    words = ("scr_run", "local", "-N", "2", "--mpi=none", "touch", str(job.prefix / "ran"))
    done = job.command(*words, SCR_CACHE_BASE="/proc")
    assert done.returncode == 78
    assert b"dir_capacity" in done.stderr
    assert b"/proc" in done.stderr
    assert not (job.prefix / "ran").exists()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (65536, 4096):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break
    return filler


def test_a_full_prefix_loses_nothing(namespaces: None, small: Path, tmp_path: Path) -> None:
    """What cannot be saved now stays in cache, and is saved when there is room."""
    with allocation(3, cwd=tmp_path, share=[ROOT, small]) as here:
        job = Job(here, small / "prefix")
        job.checkpoints()
        filler = fill(small)
        done = job.command("scr_postrun", "-j", "local")
        assert done.returncode == 73, done.stderr
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr
        filler.unlink()
        done = job.command("scr_postrun", "-j", "local")
        assert done.returncode == 0, done.stderr
        job.assert_safe(2)


def test_a_prefix_that_fills_up_during_the_run(
    namespaces: None, small: Path, tmp_path: Path
) -> None:
    """The loop goes on without its state file; the cause is told."""
    text = f'cat /dev/zero > "{small}/filler"; exit 5'
    with allocation(2, cwd=tmp_path, share=[ROOT, small]) as here:
        job = Job(here, small / "prefix")
        done = job.command("scr_run", "local", "-N", "1", "-n", "1", "--mpi=none", "sh", "-c", text)
    assert done.returncode == 5, done.stderr
    assert b"storage full" in done.stderr
    assert b"Traceback" not in done.stderr
