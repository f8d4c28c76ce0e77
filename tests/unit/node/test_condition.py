# SPDX-License-Identifier: BSD-3-Clause
"""What a node says of its memory and storage, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrjob.node import condition
from scrjob.node.condition import Mount, counter, groups, kernel_lines, kills, levels, main, mounts

V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"
V2 = "41 31 0:38 / /sys/fs/cgroup/my\\040unified rw,relatime shared:9 - cgroup2 cgroup2 rw"
EVENTS = "low 0\nhigh 0\nmax 17\noom 3\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"
OLD_CONTROL = "oom_kill_disable 0\nunder_oom 0\n"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (EVENTS, 2),
        (CONTROL, 5),
        (OLD_CONTROL, None),
        ("", None),
        ("oom_kill", None),
        ("oom_kill many", None),
        ("nr_free_pages 7\noom_kill 11\n", 11),
    ],
)
def test_the_counter_of_kills(text: str, count: int) -> None:
    assert counter(text) == count


def test_mounts_of_both_versions_are_found() -> None:
    found = mounts(f"{V1}\n{V1_CPU}\n{V2}\ngarbage\na - b")
    assert found == [
        Mount("/sys/fs/cgroup/memory", "/", unified=False),
        Mount("/sys/fs/cgroup/my unified", "/", unified=True),
    ]


def test_groups_of_both_versions_are_found() -> None:
    assert groups("8:pids:/\n4:cpu,memory:/slurm/job_5\n0::/system.slice\n") == (
        "/system.slice",
        "/slurm/job_5",
    )
    assert groups("8:pids:/\n") == (None, None)


@pytest.mark.parametrize(
    ("root", "group", "found"),
    [
        ("/", "/slurm/job_5", ["/m/slurm/job_5", "/m/slurm", "/m"]),
        ("/", "/", ["/m"]),
        ("/docker/77", "/docker/77/job_5", ["/m/job_5", "/m"]),
        ("/docker/77", "/docker/777", ["/m/docker/777", "/m/docker", "/m"]),
        ("/", "/../other", ["/m/other", "/m"]),
    ],
)
def test_all_groups_from_our_own_outwards(root: str, group: str, found: list[str]) -> None:
    assert levels(Mount("/m", root, unified=True), group) == found


def node(tmp_path: Path, **files: str) -> str:
    """Make a /proc and a control group tree; names in ``files`` have __ for /."""
    tree = tmp_path / "cgroup"
    texts = {
        "proc__self__mountinfo": f"1 2 0:1 / {tree} rw - cgroup2 cgroup2 rw",
        "proc__self__cgroup": "0::/slurm/job_5",
        **files,
    }
    for name, text in texts.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "proc")


def test_each_counter_is_told_with_its_source(tmp_path: Path) -> None:
    proc = node(
        tmp_path,
        **{
            "cgroup__slurm__job_5__memory.events": EVENTS,
            "cgroup__memory.events": "oom_kill 40\n",
            "proc__vmstat": "oom_kill 41\n",
        },
    )
    assert list(kills(proc)) == [
        (2, "memory.events of /slurm/job_5"),
        (40, "memory.events of /"),
        (41, "whole node"),
    ]


def test_version_one_has_another_file(tmp_path: Path) -> None:
    proc = node(
        tmp_path,
        **{
            "proc__self__mountinfo": f"1 2 0:1 / {tmp_path}/cgroup rw - cgroup cgroup rw,memory",
            "proc__self__cgroup": "4:memory:/job_5",
            "cgroup__job_5__memory.oom_control": CONTROL,
        },
    )
    assert list(kills(proc)) == [(5, "memory.oom_control of /job_5")]


def test_a_node_without_counters_says_nothing(tmp_path: Path) -> None:
    assert list(kills(str(tmp_path / "none"))) == []


def test_a_kernel_log_that_is_not_for_us(tmp_path: Path) -> None:
    assert kernel_lines(str(tmp_path / "none")) == []
    assert kernel_lines(str(tmp_path)) == []


def test_the_last_kills_of_the_kernels_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read of /dev/kmsg gives one record, an overwritten one EPIPE, the end EAGAIN."""
    records: list[object] = [
        b"6,1,100,-;EXT4-fs mounted\n SUBSYSTEM=block\n",
        BrokenPipeError(),
        b"3,7,200,-;Out of memory: Killed process 9 (a.out) total-vm:1kB\n",
        *(
            b"3,%d,300,-;Memory cgroup out of memory: Killed process %d (x)\n" % (n, n)
            for n in range(8, 13)
        ),
        BlockingIOError(),
    ]

    def read(fd: int, size: int) -> bytes:
        record = records.pop(0)
        if isinstance(record, OSError):
            raise record
        assert isinstance(record, bytes)
        return record

    monkeypatch.setattr(condition.os, "read", read)
    found = kernel_lines(str(tmp_path))
    assert [number for number, _ in found] == [9, 10, 11, 12]
    assert found[0][1] == "Memory cgroup out of memory: Killed process 9 (x)"


def test_the_program_prints_one_line_each(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    odd = tmp_path / "two\nlines \udcff"
    odd.mkdir()
    assert main([str(odd), str(tmp_path / "none")]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    free = [line for line in lines if line.startswith(b"free ")]
    assert len(free) == 1
    _, left, size, name = free[0].split(b" ", 3)
    assert 0 <= int(left) <= int(size)
    assert name.endswith(b"two?lines \xff")
    assert {line.split(b" ")[0] for line in lines} <= {b"kills", b"kernel", b"free"}
