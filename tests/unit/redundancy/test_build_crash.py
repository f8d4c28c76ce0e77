# SPDX-License-Identifier: BSD-3-Clause
"""The build is killed at any of its calls that change something, or has them refused: nothing is lost.

The moments are counted, not timed, so that a seed gives the same one again.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

import faults
import recordedcalls
from groupmaker import make_dataset
from scrjob.formats import index, kvtree, rank2file, summary
from scrjob.redundancy import rebuild
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups
from worlds import require

pytestmark = pytest.mark.unmeasured

SIZES = [[3000, 7], [70_000, 1], [], [2500, 0, 3], [999], [1, 2, 3, 4]]
LOST = (1, 3)
OLD = b"an older file, which the rebuild replaces"


class Wreck:
    """A dataset that lost two members of an RS group; two of their files are there, of the wrong size."""

    def __init__(self, base: Path) -> None:
        groups = form_groups(range(len(SIZES)), 8)
        self.made = make_dataset(base / "p", SIZES, groups, kind="rs", copies=2)
        self.prefix = self.made.prefix
        self.whole = self.made.state()
        self.made.lose(*LOST)
        for rank in LOST:
            self.made.parts[rank][0].write_bytes(OLD)
        self.kept = self._survivors()

    def _survivors(self) -> Dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for rank, paths in self.made.parts.items()
            if rank not in LOST
            for path in paths
        }

    def build(self, *words: str, environ: Optional[Dict[str, str]] = None) -> Tuple[int, str]:
        """Build; with faults in a process of its own, else in this one, which is quicker."""
        argv = ["scr_index", "--prefix", str(self.prefix), "--build", "1", *words]
        if environ is None:
            answer = recordedcalls.run(argv)
            return answer.code, answer.stdout
        done = subprocess.run(
            [sys.executable, "-m", "scrjob", *argv],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def check_nothing_is_lost(self) -> None:
        """What was there is there; whoever is told that all is there finds all."""
        assert self._survivors() == self.kept
        for rank in LOST:
            for path in self.made.parts[rank]:
                if path.exists():
                    assert path.read_bytes() in (OLD, self.whole[str(path)][2]), path
        if self._is_called_complete():
            self._check_files()

    def _check_files(self, *, all_redundancy: bool = False) -> None:
        """All files of all ranks are what they were; redundancy, too, as far as it is there."""
        for rank, paths in self.made.parts.items():
            for path in paths:
                is_optional = rank in LOST and path.name.endswith(".redset")
                if is_optional and not all_redundancy and not path.exists():
                    continue
                times = 0 if path.name.endswith(".redset") else path.stat().st_mtime_ns
                assert (path.stat().st_mode, times, path.read_bytes()) == self.whole[str(path)]

    def _is_called_complete(self) -> bool:
        path = self.made.hidden / "summary.scr"
        listed = self.prefix / ".scr" / "index.scr"
        said = path.exists() and bool(summary.parse(kvtree.read(str(path))).complete)
        assert said or not listed.exists(), "listed before it was complete"
        return said

    def check_done(self) -> None:
        self._check_files(all_redundancy=True)
        assert self._is_called_complete()
        entry = index.Index.read(str(self.prefix / ".scr" / "index.scr")).entry(1)
        assert entry is not None
        assert entry.is_valid
        listed = rank2file.read(str(self.made.hidden / "rank2file"))
        assert listed.missing() == []
        assert sum(len(rank2file.files(tree)) for tree in listed.entries.values()) == sum(
            map(len, SIZES)
        )
        assert leftovers(self.prefix) == []


def leftovers(prefix: Path) -> List[str]:
    # One in .scr may belong to somebody else who writes the index at this moment.
    return [
        str(path)
        for path in prefix.rglob(".*")
        if path.is_file() and path.parent != prefix / ".scr"
    ]


def kill_and_go_on(base: Path, seed: int, calls: int) -> bool:
    """Kill one build and let another one finish; returns whether the first had come to an end."""
    wreck = Wreck(base)
    moment = random.Random(seed).randint(1, calls)
    code, said = wreck.build(environ=faults.environ(f"change:{wreck.prefix}:{moment}:KILL"))
    assert code == -9, f"seed {seed}: call {moment} never came: {said}"
    wreck.check_nothing_is_lost()
    listed = (wreck.made.hidden / "summary.scr").exists()
    code, said = wreck.build()
    assert code == 0, said
    wreck.check_done()
    return listed


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many calls a whole build makes that change something in the prefix."""
    require("faults")
    base = tmp_path_factory.mktemp("whole")
    wreck = Wreck(base)
    counts = faults.environ(f"change:{wreck.prefix}:1:COUNT", count=base / "count")
    assert wreck.build(environ=counts)[0] == 0
    wreck.check_done()
    return int((base / "count").read_text())


@pytest.mark.slow
def test_killed_at_twenty_moments(calls: int, tmp_path: Path) -> None:
    assert calls > 40
    for seed in range(20):
        base = tmp_path / str(seed)
        base.mkdir()
        kill_and_go_on(base, seed, calls)


@pytest.mark.parametrize("back", [0, 2, 4, 6, 8, 10, 16, 24, 32])
def test_killed_near_the_end(calls: int, tmp_path: Path, back: int) -> None:
    """Maps, summary and index are written last, in this order."""
    wreck = Wreck(tmp_path)
    moment = calls - back
    code, _ = wreck.build(environ=faults.environ(f"change:{wreck.prefix}:{moment}:KILL"))
    assert code == -9
    wreck.check_nothing_is_lost()
    assert wreck.build()[0] == 0
    wreck.check_done()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2000, 2200))
def test_killed_at_any_moment(calls: int, tmp_path: Path, seed: int) -> None:
    kill_and_go_on(tmp_path, seed, calls)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
@pytest.mark.parametrize("operation", ["write", "sync", "rename", "create"])
def test_a_call_that_fails(calls: int, tmp_path: Path, operation: str, error: str) -> None:
    """The report names the reason, nothing is lost, and the next build ends well."""
    del calls
    wreck = Wreck(tmp_path)
    for number in (1, 4):
        rule = f"{operation}:{wreck.prefix}:{number}:{error}"
        code, said = wreck.build(environ=faults.environ(rule))
        wreck.check_nothing_is_lost()
        if code:
            assert os.strerror(getattr(errno, error)) in said
        assert "summary" not in said or code
    assert wreck.build("--force")[0] == 0
    wreck.check_done()


@pytest.mark.parametrize("text", ["summary.scr", "rank2file", "index.scr"])
def test_metadata_that_cannot_be_written(calls: int, tmp_path: Path, text: str) -> None:
    del calls
    wreck = Wreck(tmp_path)
    code, said = wreck.build(environ=faults.environ(f"write:{text}:1+:ENOSPC"))
    assert code == 1
    assert "No space left on device" in said
    wreck.check_nothing_is_lost()
    assert not (wreck.prefix / ".scr" / "index.scr").exists()
    assert wreck.build()[0] == 0
    wreck.check_done()


@pytest.mark.parametrize("operation", ["read", "open"])
def test_a_survivor_that_cannot_be_read(calls: int, tmp_path: Path, operation: str) -> None:
    """Its redundancy may still do without it; else the build says why it failed and changes nothing."""
    del calls
    wreck = Wreck(tmp_path)
    victim = wreck.made.parts[0][0]
    code, said = wreck.build(environ=faults.environ(f"{operation}:{victim}:1+:EIO"))
    assert code == 1
    assert "Input/output error" in said
    wreck.check_nothing_is_lost()
    assert wreck.build()[0] == 0
    wreck.check_done()


def test_a_file_that_gets_shorter_meanwhile(calls: int, tmp_path: Path) -> None:
    del calls
    wreck = Wreck(tmp_path)
    victim = wreck.made.parts[0][0]
    code, said = wreck.build(environ=faults.environ(f"read:{victim}:1+:SHORT"))
    assert code == 1
    assert "ends too early" in said
    wreck.check_nothing_is_lost()
    assert wreck.build()[0] == 0
    wreck.check_done()


@pytest.mark.parametrize("where", ["out", ".scr/scr.dataset.1", "survivor"])
def test_what_another_user_may_not_do(tmp_path: Path, where: str) -> None:
    """The tests are root's in CI, whom nothing is forbidden: as somebody else."""
    require("unprivileged user")
    wreck = Wreck(tmp_path)
    is_root = os.getuid() == 0
    if is_root:
        for path in [tmp_path, *tmp_path.rglob("*")]:
            os.chown(path, 65534, 65534)
        for path in list(tmp_path.parents)[:3]:  # no slices of parents before 3.10
            path.chmod(0o755)
    victim = wreck.made.parts[0][0] if where == "survivor" else wreck.prefix / where
    mode = victim.stat().st_mode
    victim.chmod(0 if where == "survivor" else 0o500)
    code = "import os, sys\nfrom scrjob.commands import scr_index\n"
    # The interpreter may lie where only root can go: give up being root when all is imported.
    code += "import scrjob.redundancy.build, numpy, tempfile\n"
    code += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if is_root else ""
    code += "sys.exit(scr_index.main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "--prefix", str(wreck.prefix), "--build", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    victim.chmod(mode)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Permission denied" in done.stdout + done.stderr
    wreck.check_nothing_is_lost()
    assert not (wreck.made.hidden / "summary.scr").exists()
    assert wreck.build()[0] == 0


@pytest.mark.parametrize("change", ["vanishes", "is a link", "grows"])
def test_a_survivor_that_changes_after_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    wreck = Wreck(tmp_path)
    victim = wreck.made.parts[0][0]
    data = victim.read_bytes()
    original = rebuild.rebuild_group

    def change_first(*arguments: Any, **options: Any) -> Dict[str, int]:
        if any(part.path == str(victim) for parts in arguments[0].parts for part in parts):
            victim.unlink()
            if change == "is a link":
                victim.symlink_to(wreck.made.parts[0][1])
            elif change == "grows":
                victim.write_bytes(data + b"more")
        return original(*arguments, **options)

    monkeypatch.setattr(rebuild, "rebuild_group", change_first)
    said: List[str] = []
    done = False
    try:
        done = build_dataset(str(wreck.prefix), 1, now=0.0, host="h", on_message=said.append)
    except OSError as error:
        said.append(str(error))
    assert not done
    assert "r0.0" in said[-1]
    assert not (wreck.made.hidden / "summary.scr").exists()
    victim.unlink(missing_ok=True)
    monkeypatch.undo()
    # Now three members are lost, which two parity blocks do not cover, unless they came back before.
    victim.write_bytes(data)
    status = wreck.whole[str(victim)]
    os.chmod(victim, status[0])
    os.utime(victim, ns=(status[1], status[1]))
    assert wreck.build()[0] == 0
    wreck.check_done()
