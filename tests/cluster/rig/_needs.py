# SPDX-License-Identifier: BSD-3-Clause
"""What a rig needs of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Optional

from . import _cgroups as cgroups

TOOLS = (
    *("slurmctld", "slurmd", "srun", "munged", "sshd", "ssh", "ssh-keygen", "pdsh", "fping"),
    *("ip", "tc", "nsenter", "unshare", "mpicc.openmpi"),
)
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"


def missing() -> Optional[str]:
    """Return why there can be no rig here; None: there can."""
    if os.getuid() != 0:
        return "needs root"
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if absent:
        return f"not installed: {' '.join(absent)}"
    try:
        every = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]
        subprocess.run(["unshare", *every, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the kernel refuses namespaces: {error}"
    return None


def memory_limits_missing() -> Optional[str]:
    """Return why hosts cannot have memory limits; None: they can."""
    return None if "memory" in cgroups.available() else "no memory control group may be made"
