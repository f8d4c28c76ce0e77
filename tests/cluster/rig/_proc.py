# SPDX-License-Identifier: BSD-3-Clause
"""What /proc, as seen from outside the rig, tells of its processes."""

from __future__ import annotations

import os
from typing import Iterator


def all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def namespace(pid: int) -> str:
    """Return the name of a process's process namespace; empty when the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def identity(pid: int) -> str:
    """Return what tells one init process from any other; empty when it is gone, or no init.

    Both parts are the same seen from any process namespace. Numbers of namespaces are used again soon.
    """
    stat = text(f"/proc/{pid}/stat")
    name = namespace(pid)
    if not stat or not name or not _is_init(pid):
        return ""
    started = stat.rpartition(")")[2].split()[19]
    return f"{name} {started}"


def _is_init(pid: int) -> bool:
    status = text(f"/proc/{pid}/status")
    return any(line.split()[-1] == "1" for line in status.splitlines() if line.startswith("NSpid:"))


def text(path: str) -> str:
    """Return a file's text; empty when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
