# SPDX-License-Identifier: BSD-3-Clause
"""What a rig consists of: a value that all its processes read, and the names of its files."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
from typing import Mapping, Optional, Sequence

LOGIN = "login"
BRIDGE = "br0"
SPOOL = "/run/slurm"
MUNGE_SOCKET = "/run/munge/munge.socket.2"
# Not $HOME: ssh and Slurm ask the user's entry too.
HOME = pwd.getpwuid(os.getuid()).pw_dir
_NETWORK = "10.77"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything about a rig that is decided before it comes up.

    Attributes:
        directory: shared by all hosts at this path, also with the outside.
        nodes: number of compute hosts, ``n1`` and so on.
        cpus: that each is said to have.
        storage_mb: size of each of /dev/shm and /tmp on a host.
        shared: more paths that look the same everywhere: checkout, Python.
        disks: file systems that all hosts see, by where they are mounted: their sizes in megabytes.
        options: lines of slurm.conf to add or to replace.
        cgroups: by controller, the directory for this rig, where there is one.
    """

    directory: str
    nodes: int = 5
    cpus: int = 4
    storage_mb: int = 64
    shared: Sequence[str] = ()
    disks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cgroups: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The compute hosts, in order."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def hosts(self) -> list[str]:
        return [LOGIN, *self.names]

    def address(self, host: str) -> str:
        number = 0 if host == LOGIN else int(host[1:])
        return f"{_NETWORK}.{number // 250}.{number % 250 + 1}"

    @property
    def private(self) -> str:
        """Directory of the rig's own files; removed with it."""
        return os.path.join(self.directory, ".rig")

    def file(self, *names: str) -> str:
        return os.path.join(self.private, *names)

    def log(self, host: str, service: str) -> str:
        return self.file("log", f"{host}.{service}")

    def cgroup(self, controller: str, host: str) -> Optional[str]:
        base = self.cgroups.get(controller)
        return os.path.join(base, host) if base else None

    def save(self) -> None:
        with open(self.file("plan.json"), "w", encoding="utf-8") as out:
            json.dump(dataclasses.asdict(self), out)

    @staticmethod
    def load(directory: str) -> Plan:
        with open(os.path.join(directory, ".rig", "plan.json"), encoding="utf-8") as source:
            return Plan(**json.load(source))


def services(plan: Plan, host: str) -> dict[str, list[str]]:
    """Return the daemons of a host by name, in the order in which they start."""
    sshd = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"]
    if host != LOGIN:
        return {"sshd": sshd, "slurmd": ["/usr/sbin/slurmd", "-D", "-N", host]}
    munged = [
        *("/usr/sbin/munged", "--foreground", "--force", "--num-threads=2"),
        *("--socket", MUNGE_SOCKET, "--key-file", plan.file("munge", "key")),
        *("--seed-file", plan.file("munge", "seed"), "--pid-file", "/run/munge/munged.pid"),
        *("--log-file", plan.log(host, "munged.log")),
    ]
    return {"munged": munged, "slurmctld": ["/usr/sbin/slurmctld", "-D"], "sshd": sshd}
