# SPDX-License-Identifier: BSD-3-Clause
"""Boots hosts; runs inside the rig's outer namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Sequence

from . import _kernel as kernel
from . import _proc as proc
from ._plan import BRIDGE, LOGIN, MUNGE_SOCKET, SPOOL, Plan, services

BOOT_LIMIT_S = 30.0
_SPOOL_BYTES = 64 << 20


def boot(plan: Plan, hosts: Sequence[str]) -> None:
    """Boot hosts; return when their services are started (which is not yet when they answer)."""
    pids: dict[str, int] = {}
    gates: dict[str, int] = {}
    done = {}
    for host in hosts:
        gate, gates[host] = os.pipe()
        done[host], ready = os.pipe()
        told, tell = os.pipe()
        middle = kernel.fork(lambda: _middle(plan, host, gate, ready, tell))  # noqa: B023 - forked at once
        for descriptor in (gate, ready, tell):
            os.close(descriptor)
        os.waitpid(middle, 0)
        pids[host] = int(os.read(told, 20) or b"0")
        os.close(told)
        with open(plan.file("hosts.d", host), "w", encoding="ascii") as out:
            out.write(proc.identity(pids[host]))
    plug_in(plan, pids)
    for host in hosts:
        os.write(gates[host], b"g")
        os.close(gates[host])
    for host in hosts:
        if os.read(done[host], 1) != b"r":
            raise RuntimeError(f"host {host} did not boot")
        os.close(done[host])


def plug_in(plan: Plan, pids: dict[str, int]) -> None:
    """Give each host its network card and cable."""
    lines = []
    for host, pid in pids.items():
        lines += [
            f"link add v-{host} type veth peer name eth0 netns {pid}",
            f"link set v-{host} master {BRIDGE} up",
        ]
    ip(lines)


def ip(lines: Sequence[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(["ip", "-batch", "-"], input=text.encode(), check=True, timeout=BOOT_LIMIT_S)


def _middle(plan: Plan, host: str, gate: int, ready: int, tell: int) -> None:
    # The one who unshares the process namespace is not in it; its first child is the new init.
    os.setsid()
    for controller in plan.cgroups:
        directory = plan.cgroup(controller, host)
        if directory:
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, "cgroup.procs"), "w", encoding="ascii") as out:
                out.write("0")
    kernel.unshare(kernel.NEW_ALL)
    init = kernel.fork(lambda: _init(plan, host, gate, ready))
    os.write(tell, b"%d" % init)


def _init(plan: Plan, host: str, gate: int, ready: int) -> None:
    if os.read(gate, 1) != b"g":
        return
    os.closerange(0, ready)
    os.closerange(ready + 1, 256)
    os.open(os.devnull, os.O_RDWR)
    os.open(plan.log(host, "init"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup(1)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    socket.sethostname(host)
    _mounts(plan)
    ip(["link set lo up", f"addr add {plan.address(host)}/16 dev eth0", "link set eth0 up"])
    for name, argv in services(plan, host).items():
        start(plan, host, name, argv)
        if name == "munged":
            _await(MUNGE_SOCKET)
    os.write(ready, b"r")
    os.close(ready)
    kernel.reap_for_ever()


def _mounts(plan: Plan) -> None:
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    # Before /proc is replaced, because what is beneath /tmp is kept through it.
    size = plan.storage_mb << 20
    for place in ("/tmp", "/dev/shm"):
        kernel.cover(
            place,
            lambda: kernel.tmpfs(place, size),  # noqa: B023 - called at once
            [plan.directory, *plan.shared],
        )
    kernel.tmpfs(SPOOL, _SPOOL_BYTES, "0755")
    os.mkdir(f"{SPOOL}/ctld")
    os.mkdir(f"{SPOOL}/d")
    kernel.mount("proc", "/proc", "proc")


def start(plan: Plan, host: str, name: str, argv: Sequence[str]) -> None:
    """Start a service as a child of this process."""
    with open(plan.log(host, name), "ab") as log:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")


def _await(path: str) -> None:
    limit = time.monotonic() + BOOT_LIMIT_S
    while not os.path.exists(path):
        if time.monotonic() > limit:
            raise TimeoutError(f"{path} did not appear in {BOOT_LIMIT_S:g} s")
        time.sleep(0.01)


def boot_all(plan: Plan) -> None:
    """Boot the controller's host first: the others ask it at once."""
    boot(plan, [LOGIN])
    boot(plan, plan.names)


if __name__ == "__main__":
    boot(Plan.load(sys.argv[1]), sys.argv[2:])
