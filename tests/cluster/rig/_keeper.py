# SPDX-License-Identifier: BSD-3-Clause
"""The process that a rig lives by: it makes the outer namespaces, and cleans up when its owner ends.

Standard input is a pipe from the owner: its end is the owner's end.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys

from . import _cgroups as cgroups
from . import _host as host
from . import _kernel as kernel
from ._files import OVERLAID
from ._plan import BRIDGE, HOME, MUNGE_SOCKET, SPOOL, Plan

_RUN_BYTES = 16 << 20


def main(directory: str) -> int:
    """Bring the rig up, say ``up PID`` or ``failed``, stay until the outer init or the owner ends."""
    plan = Plan.load(directory)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready, tell = os.pipe()
    keeper_lives, keeper_alive = os.pipe()

    def outer() -> None:
        os.close(ready)
        os.close(keeper_alive)
        _outer(plan, tell, keeper_lives)

    kernel.unshare(kernel.NEW_PID)  # of children only
    init = kernel.fork(outer)
    os.close(tell)
    os.close(keeper_lives)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(init, signal.SIGKILL))
    print(f"up {init}" if os.read(ready, 1) == b"r" else "failed", flush=True)
    _wait_for_end(init)
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)  # returns when all processes of its namespace are gone
    cgroups.remove(plan.cgroups)
    shutil.rmtree(plan.private)
    return 0


def _wait_for_end(init: int) -> None:
    """Return when the init or the owner is gone; an owner who said "s" wants the rig to stay."""
    child = os.pidfd_open(init)
    owner = 0
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(owner, select.POLLIN)
    while True:
        if child in dict(poll.poll()) or os.read(owner, 1) != b"s":
            return
        poll.unregister(owner)


def _outer(plan: Plan, tell: int, keeper_lives: int) -> None:
    """The outer init: nothing of the rig outlives it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    kernel.unshare(kernel.NEW_ALL & ~kernel.NEW_PID)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc")
    _arrange(plan)
    host.ip(["link set lo up", f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"])
    host.boot_all(plan)
    os.write(tell, b"r")
    os.close(tell)
    poll = select.poll()
    poll.register(keeper_lives, select.POLLIN)
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    _reap()
    poll.poll()


def _arrange(plan: Plan) -> None:
    """Put the rig's files over the machine's, and keep the machine's as they are."""
    shared = [plan.directory, *plan.shared]
    for path in shared:
        kernel.bind(path, path)
    for path, size_mb in plan.disks.items():
        kernel.tmpfs(path, size_mb << 20)
    for name, target in OVERLAID.items():
        kernel.bind(plan.file(name), target)
    kernel.cover(HOME, lambda: kernel.bind(plan.file("home"), HOME), shared)
    kernel.cover("/run", lambda: kernel.tmpfs("/run", _RUN_BYTES, "0755"), shared)
    for directory in (os.path.dirname(MUNGE_SOCKET), "/run/sshd", SPOOL):
        os.mkdir(directory, 0o755)
    kernel.mount("none", "/", flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
