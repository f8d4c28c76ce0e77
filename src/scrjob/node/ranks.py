# SPDX-License-Identifier: BSD-3-Clause
"""Which processes of this node are the ranks of a job step?

Found by the environment that they were started with, or below processes that are known.

Source: proc(5): environ is what the process had at its start, readable by its owner.
"""

from __future__ import annotations

import contextlib
import os
from typing import Collection, Mapping, NamedTuple, Optional

READ_LIMIT = 1 << 20
WRAPPERS = frozenset(
    ("sh", "bash", "dash", "ksh", "zsh", "csh", "tcsh", "busybox", "env", "time", "timeout", "srun")
)
"""Names of programs that only wait for the one that they started."""


class _Process(NamedTuple):
    parent: int
    name: str
    is_of_step: bool


def find_ranks(
    environ: Mapping[str, str],
    known: Collection[int] = (),
    *,
    uid: int,
    without: int,
    root: str = "/proc",
) -> list[int]:
    """Return the process ids of a step's ranks and of what they have started, ascending.

    A shell or another mere wrapper is left out when a process below it is of the step too.

    Args:
        environ: variables that its processes were started with, all of them; {}: not to be known so.
        known: processes that are of the step whatever their environment.
        uid: whose processes; nobody else's are looked at.
        without: this process and its ancestors are none, unless they are known.
        root: where the kernel shows processes.

    Raises:
        OSError: ``root`` cannot be read.
    """
    wanted = {os.fsencode(f"{name}={value}") for name, value in environ.items()}
    found: dict[int, _Process] = {}
    for entry in os.listdir(root):
        if entry.isdigit():
            process = _look(f"{root}/{entry}", wanted, uid)
            if process is not None:
                pid = int(entry)
                found[pid] = process._replace(is_of_step=process.is_of_step or pid in known)
    own = _lineage(without, found).difference(known)
    ranks = [pid for pid in found if pid not in own and _belongs(pid, found)]
    parents = {found[pid].parent for pid in ranks}
    return sorted(pid for pid in ranks if found[pid].name not in WRAPPERS or pid not in parents)


def _look(directory: str, wanted: set[bytes], uid: int) -> Optional[_Process]:
    """Return what is known of a process, None if it is somebody else's, or gone, or dead."""
    try:
        if os.stat(directory).st_uid != uid:
            return None
        # "PID (NAME) STATE PPID ...": the name may hold anything, a ")" too.
        head, _, rest = _read(f"{directory}/stat").rpartition(b")")
        state, parent = rest.split()[:2]
    except (OSError, ValueError):
        return None
    if state in (b"Z", b"X"):
        return None
    environ = b""
    if wanted:
        with contextlib.suppress(OSError):  # not to be seen of one that has changed its user
            environ = _read(f"{directory}/environ")
    name = os.fsdecode(head.partition(b"(")[2])
    return _Process(int(parent), name, bool(wanted) and wanted <= set(environ.split(b"\0")))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(READ_LIMIT)


def _lineage(pid: int, found: Mapping[int, _Process]) -> set[int]:
    line = {pid}
    while pid in found:
        pid = found[pid].parent
        line.add(pid)
    return line


def _belongs(pid: int, found: Mapping[int, _Process]) -> bool:
    """Tell whether a process, or any of its ancestors, is of the step."""
    while pid in found:
        if found[pid].is_of_step:
            return True
        pid = found[pid].parent
    return False
