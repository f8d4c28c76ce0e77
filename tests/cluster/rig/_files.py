# SPDX-License-Identifier: BSD-3-Clause
"""Writes the configuration of the rig's services: Slurm, munge, ssh, names of hosts."""

from __future__ import annotations

import os
import subprocess
from typing import Mapping

from ._plan import LOGIN, SPOOL, Plan

# Where what we write is mounted over the machine's own, inside the rig only.
OVERLAID = {"slurm": "/etc/slurm", "ssh": "/etc/ssh", "hosts": "/etc/hosts"}

_SLURM: Mapping[str, str] = {
    "ClusterName": "rig",
    "SlurmctldHost": LOGIN,
    # Root runs the jobs: directories that tests make are root's, and no user has to be added.
    "SlurmUser": "root",
    "SlurmdUser": "root",
    "AuthType": "auth/munge",
    "CredType": "cred/munge",
    "StateSaveLocation": f"{SPOOL}/ctld",
    "SlurmdSpoolDir": f"{SPOOL}/d",
    "SlurmctldPidFile": f"{SPOOL}/slurmctld.pid",
    "SlurmdPidFile": f"{SPOOL}/slurmd.pid",
    "SlurmdParameters": "config_overrides",  # hosts have more CPUs than the machine
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "SwitchType": "switch/none",
    "MpiDefault": "none",
    "AccountingStorageType": "accounting_storage/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_Core",
    "SchedulerType": "sched/backfill",
    "SchedulerParameters": "bf_interval=5,batch_sched_delay=0,sched_min_interval=100000",
    "PreemptType": "preempt/partition_prio",
    "PreemptMode": "REQUEUE",
    "JobRequeue": "1",
    "ReturnToService": "2",
    "SlurmdTimeout": "300",
    "KillWait": "2",
    "InactiveLimit": "0",
    "SlurmctldDebug": "info",
    "SlurmdDebug": "info",
}

_PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=20 PreemptMode=OFF
"""

# With both kinds of fence mixed, the default, about one start in thirty on busy cores lets a rank
# through the second fence of MPI_Init while another is in the first, and Open MPI crashes on its
# message. The tree alone counts the nodes of the allocation in place of those of the step, so that a
# step on other than its first nodes waits for ever. (Slurm 22.05.8 and Open MPI 4.1.4; the ring had
# neither.)
_MPI = f"""\
PMIxCliTmpDirBase={SPOOL}
PMIxCollFence=ring
"""

_SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/user_key.pub
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 200
PidFile none
AcceptEnv *
LogLevel ERROR
"""

_SSH = """\
Host *
    BatchMode yes
    IdentityFile /etc/ssh/user_key
    IdentitiesOnly yes
    GlobalKnownHostsFile /etc/ssh/known_hosts
    UserKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    LogLevel ERROR
"""


def write_all(plan: Plan, path: str) -> None:
    """Write the files; ``path`` is PATH for those who come by ssh."""
    for name in ("slurm", "ssh", "munge", "log", "home", "run", "hosts.d"):
        os.makedirs(plan.file(name), mode=0o700)
    _write(plan, "hosts", "".join(_hosts(plan)))
    settings = {**_SLURM, **plan.options}
    lines = [f"{key}={value}\n" for key, value in settings.items()]
    nodes = {
        "NodeName": f"n[1-{plan.nodes}]",
        "CPUs": plan.cpus,
        "Boards": 1,
        "SocketsPerBoard": 1,
        "CoresPerSocket": plan.cpus,
        "ThreadsPerCore": 1,
        "RealMemory": 1000,
        "State": "UNKNOWN",
    }
    lines += [
        f"SlurmctldLogFile={plan.log(LOGIN, 'slurmctld.log')}\n",
        f"SlurmdLogFile={plan.log('%n', 'slurmd.log')}\n",
        " ".join(f"{key}={value}" for key, value in nodes.items()) + "\n",
        _PARTITIONS,
    ]
    _write(plan, "slurm/slurm.conf", "".join(lines))
    _write(plan, "slurm/mpi.conf", _MPI)
    # Nothing here needs Slurm's control groups; this one takes none, and starts with any version of them.
    _write(plan, "slurm/cgroup.conf", "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    with open(plan.file("munge", "key"), "wb", opener=_secret) as out:
        out.write(os.urandom(128))
    for name in ("host_key", "user_key"):
        keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig")
        subprocess.run([*keygen, "-f", plan.file("ssh", name)], check=True, timeout=30)
    with open(plan.file("ssh", "host_key.pub"), encoding="utf-8") as source:
        _write(plan, "ssh/known_hosts", f"* {source.read()}")
    _write(plan, "ssh/ssh_config", _SSH)
    _write(plan, "ssh/sshd_config", f"{_SSHD}SetEnv PATH={path}\n")


def _hosts(plan: Plan) -> list[str]:
    return [
        "127.0.0.1 localhost\n",
        *(f"{plan.address(host)} {host}\n" for host in plan.hosts),
    ]


def _write(plan: Plan, name: str, text: str) -> None:
    with open(plan.file(name), "w", encoding="utf-8") as out:
        out.write(text)


def _secret(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
