# SPDX-License-Identifier: BSD-3-Clause
"""The rig itself: what comes up, what each fault does, that nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from rig import LOGIN, Rig, RigError
from worlds import require

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
BRING_UP_LIMIT_S = 20.0
OF_MPI = ("mpich_shm_", "vader_segment.", "btl_", "osc_")  # tests beside us run it on this machine

HELLO_C = r"""
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, size, sum = 0;
    char host[64];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    gethostname(host, sizeof host);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("%d of %d on %s: %d\n", rank, size, host, sum);
    MPI_Finalize();
    return 0;
}
"""
HELLO_PY = """\
import socket
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
print(f"{world.rank} of {world.size} on {socket.gethostname()}: {total}")
"""
HELLOS = ["0 of 4 on n1: 6", "1 of 4 on n2: 6", "2 of 4 on n3: 6", "3 of 4 on n4: 6"]


def traces(rig: Rig) -> list[str]:
    """What the machine shows of a rig: files, control groups, processes, its ends of cables."""
    found = [rig.plan.private] if os.path.exists(rig.plan.private) else []
    found += [path for path in rig.plan.cgroups.values() if os.path.exists(path)]
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(rig.directory) in command:
                found.append(f"process {name}: {command!r}")
    mounts = Path("/proc/self/mountinfo").read_text()
    return found + [line for line in mounts.splitlines() if rig.directory in line]


def machine() -> dict[str, Any]:
    """What no rig may change."""
    etc = {path: Path(path).read_bytes() for path in ("/etc/hosts", "/etc/passwd", "/etc/group")}
    return {
        **etc,
        "slurm": sorted(os.listdir("/etc/slurm")),
        "ssh": sorted(os.listdir("/etc/ssh")),
        "links": sorted(os.listdir("/sys/class/net")),
        "run": sorted(os.listdir("/run")),
        "shm": sorted(name for name in os.listdir("/dev/shm") if not name.startswith(OF_MPI)),
    }


def test_comes_up_quickly_and_leaves_nothing(tmp_path: Path) -> None:
    require("cluster")
    before = machine()
    rig = Rig(tmp_path / "rig", 5)
    started = time.monotonic()
    with rig:
        assert time.monotonic() - started < BRING_UP_LIMIT_S
        assert rig.states() == dict.fromkeys(["n1", "n2", "n3", "n4", "n5"], "idle")
        rig.hang("n2")  # what is stopped must go too
        assert traces(rig) != []
    assert traces(rig) == []
    assert machine() == before


def test_says_why_it_does_not_come_up(tmp_path: Path) -> None:
    require("cluster")
    rig = Rig(tmp_path / "rig", 2, options={"SelectType": "select/none_such"})
    with pytest.raises(RigError, match=r"(?s)did not start.*login.slurmctld.*none_such"):
        rig.up()
    assert traces(rig) == []


def test_two_rigs_do_not_meet(rig: Rig, make_rig: Callable[..., Rig]) -> None:
    other = make_rig(2)
    assert other.plan.address("n1") == rig.plan.address("n1")
    other.kill("n1")
    other.exec("n2", ["touch", "/dev/shm/other", "/tmp/other"], check=True)
    assert "unreachable" in other.run(["fping", "-r0", "n1"]).stdout
    assert rig.run(["fping", "-r0", "n1"]).stdout == "n1 is alive\n"
    seen = rig.run(["srun", "-w", "n2", "ls", "/dev/shm", "/tmp"], check=True).stdout
    assert "other" not in seen
    assert rig.is_fresh()


OWNER = """\
import sys
sys.path.insert(0, sys.argv[1])
from rig import Rig
rig = Rig(sys.stdin.readline().strip(), 2).up()
rig.start("n1", ["sleep", "1000"])
print("up", flush=True)
sys.stdin.read()
"""


def owned(tmp_path: Path) -> tuple[subprocess.Popen[str], Rig]:
    """Let another process own a rig."""
    argv = [sys.executable, "-c", OWNER, str(HERE)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    owner: subprocess.Popen[str] = subprocess.Popen(argv, **streams)
    print(tmp_path, file=owner.stdin, flush=True)
    assert owner.stdout.readline() == "up\n"
    return owner, Rig.attach(tmp_path)


def finish(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


def test_nothing_outlives_the_kill_of_the_owner(tmp_path: Path) -> None:
    require("cluster")
    owner, rig = owned(tmp_path)
    rig.hang("n2")
    finish(owner)
    rig.wait_for(lambda: not traces(rig), "the end of all")


def test_nothing_outlives_the_outer_init(tmp_path: Path) -> None:
    require("cluster")
    owner, rig = owned(tmp_path)
    os.kill(rig.outer, signal.SIGKILL)
    rig.wait_for(lambda: not traces(rig), "the end of all")
    finish(owner)


def test_nothing_outlives_the_keeper_and_its_owner(tmp_path: Path) -> None:
    require("cluster")
    owner, rig = owned(tmp_path)
    keeper = int(Path(f"/proc/{rig.outer}/status").read_text().split("PPid:")[1].split()[0])
    os.kill(keeper, signal.SIGKILL)
    rig.wait_for(lambda: not os.path.exists(f"/proc/{rig.outer}"), "the end of the hosts")
    finish(owner)
    with pytest.raises(RigError, match="what it left is removed"):
        Rig.attach(tmp_path)
    assert traces(rig) == []


def test_a_host_has_its_own_name_network_processes_and_storage(rig: Rig) -> None:
    look = "hostname; hostname -i; ls /proc | grep -c '^[0-9]'; cat shared; df -m /tmp | tail -1; ls /dev/shm"
    Path(rig.directory, "shared").write_text("for all\n")
    rig.exec("n2", ["touch", "/dev/shm/mine"], check=True)
    said = rig.exec("n1", ["sh", "-c", look]).stdout.splitlines()
    assert said[:2] == ["n1", "10.77.0.2"]
    assert int(said[2]) < 20
    assert said[3] == "for all"
    assert said[4].split()[1] == str(rig.plan.storage_mb)
    assert "mine" not in said[5:]
    Path(rig.directory, "shared").unlink()


def test_hosts_cannot_change_the_machine(rig: Rig) -> None:
    done = rig.exec("n1", ["touch", "/etc/changed", "/usr/changed", "/var/changed"])
    assert done.stderr.count("Read-only file system") == 3


def test_every_host_reaches_every_other_by_ssh(rig: Rig) -> None:
    names = sorted(rig.plan.hosts)
    hop = ["ssh", "n2", "ssh", "n3", "ssh", LOGIN, "hostname; command -v sinfo scr_run"]
    said = rig.exec("n1", hop, check=True).stdout.splitlines()
    assert said == [LOGIN, "/usr/bin/sinfo", f"{sys.prefix}/bin/scr_run"]
    everywhere = rig.exec("n4", ["pdsh", "-w", ",".join(names), "hostname"], check=True).stdout
    assert sorted(everywhere.splitlines()) == [f"{name}: {name}" for name in names]
    clush = [f"{sys.prefix}/bin/clush", "-b", "-w", "n[1-6]", "echo here"]
    assert "n[1-6] (6)" in rig.run(clush, check=True).stdout


def test_mpi_in_c_and_in_python(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "hello.c").write_text(HELLO_C)
    (tmp_path / "hello.py").write_text(HELLO_PY)
    rig.run(["mpicc.openmpi", "hello.c", "-o", "hello"], cwd=tmp_path, check=True)
    for program in (["./hello"], ["python", "hello.py"]):
        srun = ["srun", "--mpi=pmix", "-N4", "-n4", *program]
        done = rig.run(srun, cwd=tmp_path, check=True)
        assert sorted(done.stdout.splitlines()) == HELLOS
        assert done.stderr == ""


def test_a_killed_host_is_gone_and_silent_and_comes_back_empty(rig: Rig) -> None:
    rig.exec("n3", ["touch", "/dev/shm/mine"], check=True)
    running = rig.start("n3", ["sleep", "1000"])
    rig.kill("n3")
    assert running.wait() == -signal.SIGKILL
    assert rig.states()["n3"] == "idle"  # nobody told Slurm
    assert rig.run(["fping", "-r0", "-t300", "n3"]).stdout == "n3 is unreachable\n"
    with pytest.raises(RigError, match="n3 is dead"):
        rig.exec("n3", ["true"])
    rig.revive("n3")
    assert rig.run(["srun", "-w", "n3", "ls", "/dev/shm"], check=True).stdout == ""


def test_an_allocation_outlives_a_killed_host(rig: Rig) -> None:
    job = rig.salloc_start(4, ["sh", "-c", "echo ready; read go; srun --overlap -x n2 -N3 hostname"],
                           stdin=subprocess.PIPE)  # fmt: skip
    assert job.popen.stdout.readline() == "ready\n"
    rig.kill("n2")
    assert sorted(job.popen.communicate("go\n", timeout=60)[0].split()) == ["n1", "n3", "n4"]


def test_a_hung_host_answers_pings_but_runs_nothing(rig: Rig) -> None:
    rig.hang("n1")
    assert rig.run(["fping", "-r0", "n1"]).stdout == "n1 is alive\n"
    asked = rig.start(LOGIN, ["ssh", "n1", "hostname"])
    with pytest.raises(subprocess.TimeoutExpired):
        asked.wait(0.5)
    rig.resume("n1")
    assert asked.output() == ("n1\n", "")


def test_a_cut_host_lives_on(rig: Rig) -> None:
    running = rig.start("n1", ["cat"], stdin=subprocess.PIPE)
    rig.cut("n1")
    assert rig.run(["fping", "-r0", "-t300", "n1"]).stdout == "n1 is unreachable\n"
    assert running.popen.communicate("still here", timeout=30)[0] == "still here"
    rig.join("n1")
    assert rig.run(["fping", "n1"]).stdout == "n1 is alive\n"


def test_a_full_host_takes_no_byte_more(rig: Rig) -> None:
    write = ["cp", "/etc/passwd", "/dev/shm/one"]
    rig.fill("n1")
    assert "No space left on device" in rig.exec("n1", write).stderr
    rig.empty("n1")
    rig.exec("n1", write, check=True)


def test_a_slow_host_takes_long(rig: Rig) -> None:
    means = rig.slow("n1", cpu_share=0.05)
    assert ("cpu" in means) == ("cpu" in rig.plan.cgroups)
    assert means[-1] in {"netem", "rate"}
    started = time.monotonic()
    # Nearly 0.1 s of computing, and one of twenty seconds is given.
    rig.run(["ssh", "n1", "python", "-c", "'sum(range(3 * 10**6))'"], check=True)
    assert time.monotonic() - started > 1.0
    rig.fast("n1")
    rig.exec("n1", ["python", "-c", "sum(range(10**8))"], check=True, timeout=20)


def test_a_host_with_little_memory_kills_its_program(rig: Rig) -> None:
    require("memory limits")
    rig.limit_memory("n1", 40)
    hungry = ["srun", "-w", "n1", "python", "-c", "x = bytearray(200 << 20); print(len(x))"]
    assert rig.run(hungry).returncode == 128 + signal.SIGKILL
    rig.limit_memory("n1", None)
    assert rig.run(hungry, check=True).stdout == f"{200 << 20}\n"


def test_services_stop_and_start(rig: Rig) -> None:
    job = rig.salloc_start(2, ["sleep", "1000"])
    rig.wait_for(rig.jobs, "the job")
    rig.stop_service("slurmctld")
    assert " is DOWN" in rig.run(["scontrol", "ping"]).stdout
    rig.start_service("slurmctld")
    rig.wait_state(["n1", "n2"], "mix")
    rig.stop_service("munged")
    assert "Munge encode failed" in rig.run(["sinfo"]).stderr
    rig.start_service("munged")
    rig.wait_state(["n1", "n2"], "mix")
    job.signal(signal.SIGTERM)
    rig.wait_for(lambda: not rig.jobs(), "the end of the job")


def test_signals_reach_the_command_itself(rig: Rig) -> None:
    said = rig.start(
        "n1", ["sh", "-c", "trap 'echo got it; exit 7' USR1; echo up; while :; do sleep 0.1; done"]
    )
    assert said.popen.stdout.readline() == "up\n"
    said.signal(signal.SIGUSR1)
    assert said.output() == ("got it\n", "")
    assert said.popen.returncode == 7


def test_by_hand(tmp_path: Path) -> None:
    require("cluster")

    def rig(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "tests.cluster.rig", "--dir", str(tmp_path / "r"), *words]
        return subprocess.run(
            argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
        )

    assert rig("up", "--nodes", "2").returncode == 0
    try:
        assert rig("status").stdout == "n1 idle\nn2 idle\n"
        assert rig("kill", "n2").returncode == 0
        assert rig("exec", "n2", "true").stderr == "rig: n2 is dead, or no host of this rig\n"
        assert rig("revive", "n2").returncode == 0
        assert rig("exec", LOGIN, "srun", "-N2", "sh", "-c", "exit 3").returncode == 3
        assert "already" in rig("up").stderr
    finally:
        assert rig("down").returncode == 0
    assert os.listdir(tmp_path / "r") == []
    assert rig("status").stderr == f"rig: there is no rig in {tmp_path}/r\n"
