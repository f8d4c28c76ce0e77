# SPDX-License-Identifier: BSD-3-Clause
"""The whole rig: faults that happen to hosts and services."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Optional

from . import _cgroups as cgroups
from ._base import PYTHON, RigError
from ._commands import Commands
from ._plan import LOGIN, services

_NETEM = ("netem", "delay", "300ms", "loss", "5%")
_TIDY_S = 5.0  # for Slurm to have a host back that had nothing to do


class Rig(Commands):
    """A cluster of hosts on this machine.

    Args:
        directory: shared by all hosts and the outside, at the same path: the parallel file system.
        nodes: number of compute hosts: ``n1`` and so on; ``login`` comes on top.
        cpus: of each, as Slurm is told.
        storage_mb: size of each of /dev/shm and /tmp on a host, megabytes.
        shared: more paths that are the same on all hosts; the checkout and Python are anyway.
        disks: small file systems that all hosts see, by their directories below a shared one: megabytes.
            The outside sees them at ``outside(path)``.
        options: lines of slurm.conf to add or to replace.

    Attributes:
        plan: all of that.
        environ: of commands on its hosts.
        touched: whether a fault was made since it came up.
    """

    # A power cut, and all that is less.

    def kill(self, *hosts: str) -> None:
        """Let hosts die together: their network is silent, processes and storage are gone at once."""
        self.touched = True
        inits = {host: self.init_of(host) for host in hosts}
        for host in hosts:
            self._link(host, "down")  # first, so that no connection is closed politely
        members = {pid for host in hosts for pid in self.processes(host)}
        for init in inits.values():
            os.kill(init, signal.SIGKILL)
        for host in hosts:
            self._unlimit(host)  # a slow host would die slowly
            os.unlink(self.plan.file("hosts.d", host))
        self.wait_for(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in members),
            f"the end of {', '.join(hosts)}",
        )

    def hang(self, host: str) -> None:
        """Stop all processes of a host; its kernel still answers pings and takes connections."""
        self._signal_all(host, signal.SIGSTOP)

    def resume(self, host: str) -> None:
        """Let a hung host go on."""
        self._signal_all(host, signal.SIGCONT)

    def cut(self, host: str) -> None:
        """Pull a host's network cable; its processes live on."""
        self._link(host, "down")

    def join(self, host: str) -> None:
        """Plug a host's network cable in again."""
        self._link(host, "up")

    def fill(self, host: str, directory: str = "/dev/shm") -> None:
        """Fill a host's storage to the last byte."""
        self.touched = True
        self.exec(host, ["sh", "-c", 'cat /dev/zero > "$1/.filled"', "sh", directory])

    def empty(self, host: str, directory: str = "/dev/shm") -> None:
        """Undo ``fill``."""
        self.exec(host, ["rm", "-f", f"{directory}/.filled"])

    def slow(self, host: str, *, cpu_share: float = 0.05, rate: str = "64kbit") -> list[str]:
        """Make a host slow, as far as this machine can.

        Args:
            host: which.
            cpu_share: of one CPU, for all its processes, where control groups can be had.
            rate: of its network where the kernel cannot delay packets (netem: 300 ms, 5 % lost).

        Returns:
            What was done: of ``cpu``, ``netem`` and ``rate``.
        """
        self.touched = True
        done = []
        directory = self.plan.cgroup("cpu", host)
        if directory:
            cgroups.limit_cpu(directory, cpu_share)
            done.append("cpu")
        shaper = ["tc", "qdisc", "replace", "dev", f"v-{host}", "root"]
        try:
            self.in_outer([*shaper, *_NETEM], stderr=subprocess.DEVNULL)
            done.append("netem")
        except subprocess.CalledProcessError:
            self.in_outer([*shaper, "tbf", "rate", rate, "burst", "1600", "latency", "1s"])
            done.append("rate")
        return done

    def fast(self, host: str) -> None:
        """Undo ``slow``."""
        self._unlimit(host)
        self.in_outer(["tc", "qdisc", "del", "dev", f"v-{host}", "root"])

    def limit_memory(self, host: str, megabytes: Optional[int]) -> None:
        """Let a host have this much memory: a process that wants more is killed by the kernel.

        Args:
            host: which.
            megabytes: for all its processes and its storage together; None: no limit.

        Raises:
            RigError: this machine offers no control groups.
        """
        self.touched = True
        directory = self.plan.cgroup("memory", host)
        if directory is None:
            raise RigError("no memory control group can be had here")
        cgroups.limit_memory(directory, None if megabytes is None else megabytes << 20)

    def revive(self, host: str, *, wait: bool = True) -> None:
        """Boot a host anew, with empty storage, also one that lives; wait until Slurm has it back."""
        self.touched = True
        with contextlib.suppress(RigError):
            self.kill(host)
        # The cable of a dead host goes with its network namespace, but not at once.
        with contextlib.suppress(subprocess.CalledProcessError):
            self.in_outer(["ip", "link", "del", f"v-{host}"], stderr=subprocess.DEVNULL)
        if self.plan.cgroup("memory", host):
            self.limit_memory(host, None)
        self.in_outer([*PYTHON, "rig._host", self.directory, host])
        if wait and host != LOGIN:
            with contextlib.suppress(RigError):
                self.wait_state([host], "idle", _TIDY_S)
                return
            # Slurm may ask only minutes later whether the job of before the death is gone from here.
            for state in (["State=DOWN", "Reason=revived"], ["State=RESUME"]):
                self.run(["scontrol", "update", f"NodeName={host}", *state], check=True)
            self.wait_state([host], "idle")

    def _link(self, host: str, state: str) -> None:
        self.touched = True
        self.in_outer(["ip", "link", "set", f"v-{host}", state])

    def _unlimit(self, host: str) -> None:
        directory = self.plan.cgroup("cpu", host)
        if directory:
            cgroups.limit_cpu(directory, None)

    def _signal_all(self, host: str, number: int) -> None:
        self.touched = True
        seen: set[int] = set()
        while left := set(self.processes(host)) - seen:  # some are born meanwhile
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            seen |= left

    # Services.

    def stop_service(self, name: str, host: str = LOGIN, *, sudden: bool = False) -> None:
        """End a service and wait for its end.

        Args:
            name: slurmctld, munged, slurmd, sshd.
            host: where it runs.
            sudden: by KILL; slurmctld then forgets its last seconds.
        """
        self.touched = True
        self.exec(host, ["pkill", "-KILL" if sudden else "-TERM", "-x", name], check=True)
        self.wait_for(
            lambda: self.exec(host, ["pgrep", "-x", name]).returncode == 1, f"the end of {name}"
        )

    def start_service(self, name: str, host: str = LOGIN) -> None:
        """Start a service again."""
        code = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 &'
        argv = services(self.plan, host)[name]
        self.exec(host, ["sh", "-c", code, "sh", self.plan.log(host, name), *argv], check=True)
