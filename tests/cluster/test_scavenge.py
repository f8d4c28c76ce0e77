# SPDX-License-Identifier: BSD-3-Clause
"""Scavenges of a real cluster: their supervisor is killed, nodes die, the prefix runs full, in the middle."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from cachedjob import JOURNALED, NODES, SIZES, CachedJob

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

SCAVENGE = ("scr_scavenge", "-i", "1")
SLOW = {"SCR_SCAVENGE_BW": "4MB"}  # 1 MB for each node
ORPHAN_S = 20  # takes the large file then


@pytest.mark.parametrize(
    ("way", "command"), [("ssh", SCAVENGE), ("srun", ("scr_postrun", "-j", "srun"))]
)
def test_a_second_one_takes_over_from_a_killed_supervisor(
    rig: Rig, tmp_path: Path, way: str, command: tuple[str, ...]
) -> None:
    """Lesson B5: its copies go on as orphans until they are ended; what they noted is not copied again."""
    job = CachedJob(rig, tmp_path, tmp_path / "prefix", SCR_REMOTE_EXEC=way)
    made, truth = job.put(SIZES)
    first = job.start(*command, **SLOW)
    job.wait_copying()
    noted = {node: job.noted(node) for node in NODES}
    assert {len(found) for found in noted.values()} == {JOURNALED}
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    before = [job.progress(node) for node in NODES]
    orphans = job.copies()
    assert len([words for words in orphans.values() if words.startswith("n")]) >= len(NODES)
    rig.wait_for(
        lambda: all(job.progress(node) > was for node, was in zip(NODES, before)),
        "the orphans to go on",
    )
    code, said = job.run(*command)
    assert code == 0, said
    assert job.found(made) == truth
    for node in NODES:
        assert noted[node].items() <= job.noted(node).items()
    assert job.is_listed()
    rows = job.report()["nodes"]
    assert {node: (rows[node]["rc"], rows[node]["errors"]) for node in rows} == dict.fromkeys(
        NODES, (0, [])
    )
    assert [rows[node]["skipped"] for node in NODES] == [JOURNALED] * len(NODES)
    rig.wait_for(lambda: not job.copies(), "the end of all copies", ORPHAN_S / 4)
    assert job.temporaries() == []


def test_second_start_completes_what_a_killed_scr_run_was_saving_at_its_end(
    rig: Rig, tmp_path: Path
) -> None:
    """The program has ended: it is not run again."""
    job = CachedJob(rig, tmp_path, tmp_path / "prefix", SCR_REMOTE_EXEC="srun")
    made, truth = job.put(SIZES)
    ran = tmp_path / "ran"
    command = ("scr_run", "srun", "-n", "1", "sh", "-c", 'echo "$0" >> "$1"', "once", str(ran))
    first = job.start(*command, **SLOW)
    job.wait_copying()
    noted = {node: job.noted(node) for node in NODES}
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not job.is_there()
    code, said = job.run(*command)
    assert code == 0, said
    assert ran.read_text() == "once\n"
    assert job.found(made) == truth
    for node in NODES:
        assert noted[node].items() <= job.noted(node).items()
    assert job.is_listed()
    assert job.index().current() == "ckpt.1"
    rig.wait_for(lambda: not job.copies(), "the end of all copies", ORPHAN_S / 4)
    assert job.temporaries() == []


@pytest.mark.parametrize(
    ("kind", "dead", "settings", "why"),
    [
        (
            "xor",
            ["n3"],
            {"SCR_REMOTE_EXEC": "srun", **SLOW},
            "its answer broke off: the node is lost",
        ),
        (
            "rs",
            ["n2", "n3"],
            {
                "SCR_REMOTE_EXEC": "ssh",
                "SCR_HEARTBEAT": "0",
                "SCR_SCAVENGE_STALL": "2",
                "SCR_SCAVENGE_BW": "8MB",  # there is more to copy
            },
            "no progress for 2 s: given up",
        ),
    ],
    ids=["heartbeat", "stall"],
)
def test_power_cut_in_the_middle_of_a_copy(
    rig: Rig, tmp_path: Path, kind: str, dead: list[str], settings: dict[str, str], why: str
) -> None:
    """The nodes are given up long before any deadline, rebuilt, and the report tells of each node."""
    job = CachedJob(rig, tmp_path, tmp_path / "prefix", **settings)
    made, truth = job.put([6 << 20, 7], kind)
    running = job.start(*SCAVENGE)
    job.wait_copying()
    rig.kill(*dead)
    said = running.output()[1]
    assert running.wait() == 0, said
    assert job.found(made) == truth
    assert job.is_listed()
    rows = job.report()["nodes"]
    for rank, node in enumerate(NODES):
        row = rows[node]
        assert 0 < row["seconds"] < 20
        told = (row["rc"], row["files"], row["bytes"], row["errors"])
        if node in dead:
            assert told == (None, None, None, [why]), said
        else:
            assert told == (0, 2, (6 << 20) + 7 + 2 * rank, [])
    assert set(job.report()["rebuilt"]) == {
        str(path.relative_to(job.prefix))
        for host in dead
        for path in made.parts[NODES.index(host)]
        if path.suffix != ".redset"
    }


def test_prefix_that_runs_full_in_the_middle(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    """That is told, older datasets are left as they were; when there is room it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    rig = make_rig(len(NODES), disks={disk: 48})
    job = CachedJob(rig, tmp_path, disk / "prefix", rig.outside, SCR_REMOTE_EXEC="ssh")
    old, old_truth = job.put([99])
    code, said = job.run(*SCAVENGE)
    assert code == 0, said
    assert job.run("scr_index", "--prefix", str(job.prefix), "--current", "ckpt.1")[0] == 0
    before = job.index_bytes()
    made, truth = job.put([6 << 20, 7], dataset_id=2)
    running = job.start("scr_postrun", "-j", "srun", **SLOW)
    job.wait_copying(dataset_id=2)
    rig.fill("login", str(disk))
    said = running.output()[1]
    assert running.wait() == 73, said
    assert "scr_postrun: checkpoint ckpt.2 (dataset 2) is not safe: " in said.splitlines()[-1]
    assert "No space left on device" in said.splitlines()[-1]
    assert job.index_bytes() == before
    assert job.found(old) == old_truth
    rig.empty("login", str(disk))
    report = job.report(2)
    assert report["state"] == "failed"
    rows = report["nodes"]
    assert any("No space left on device" in line for node in NODES for line in rows[node]["errors"])
    code, said = job.run("scr_scavenge", "-i", "2")
    assert code == 0, said
    assert job.found(made) == truth
    assert job.found(old) == old_truth
    assert job.is_listed(2)
    assert job.index().current() == "ckpt.1"
    assert job.temporaries() == []
