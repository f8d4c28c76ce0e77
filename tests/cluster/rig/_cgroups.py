# SPDX-License-Identifier: BSD-3-Clause
"""Control groups of a rig: one for each host, for memory limits and for slowness.

Version 1 has a tree for each controller, version 2 has one for all; where neither may be written
the rig works without and says so.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Mapping, Optional

CONTROLLERS = ("memory", "cpu")
_REMOVE_LIMIT_S = 5.0
_MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")
_PERIOD_US = 100_000


def make(name: str) -> dict[str, str]:
    """Make the rig's directory for each controller that can be had; return them by controller."""
    found: dict[str, str] = {}
    for controller in CONTROLLERS:
        base = _base(controller)
        if base is None:
            continue
        directory = os.path.join(base, name)
        try:
            os.makedirs(directory, exist_ok=True)
            if _unified(directory):
                for level in (base, directory):
                    _write(os.path.join(level, "cgroup.subtree_control"), f"+{controller}")
        except OSError:
            remove({controller: directory})
        else:
            found[controller] = directory
    return found


def available() -> list[str]:
    """Return the controllers that can be had, by trying."""
    found = make(f"scrjob-try-{os.getpid()}")
    remove(found)
    return list(found)


def remove(cgroups: Mapping[str, str]) -> None:
    """Remove the directories of a rig whose processes are gone."""
    limit = time.monotonic() + _REMOVE_LIMIT_S
    for directory in set(cgroups.values()):
        while os.path.isdir(directory):
            for entry in os.scandir(directory):
                if entry.is_dir():
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)
            try:
                os.rmdir(directory)
            except OSError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.02)


def limit_memory(directory: str, size_bytes: Optional[int]) -> None:
    """Set the limit of a host's memory; None: no limit."""
    for name in _MEMORY_FILES:
        path = os.path.join(directory, name)
        if os.path.exists(path):
            none = "max" if name == "memory.max" else "-1"
            _write(path, none if size_bytes is None else str(size_bytes))


def limit_cpu(directory: str, share: Optional[float]) -> None:
    """Let a host use this share of one CPU; None: no limit."""
    quota = -1 if share is None else max(1000, int(share * _PERIOD_US))
    if _unified(directory):
        _write(f"{directory}/cpu.max", f"{'max' if share is None else quota} {_PERIOD_US}")
    else:
        _write(f"{directory}/cpu.cfs_quota_us", str(quota))


def _base(controller: str) -> Optional[str]:
    """Return the directory in the tree of a controller that ours can be made in.

    Version 1: that of our own group. Version 2: the top, because other groups that hold processes,
    such as our own, cannot hold groups with controllers.
    """
    own = {}
    with open("/proc/self/cgroup", encoding="utf-8") as source:
        for line in source:
            _, names, path = line.rstrip("\n").split(":", 2)
            own.update(dict.fromkeys(names.split(","), path))
    with open("/proc/self/mountinfo", encoding="utf-8") as source:
        for line in source:
            before, _, after = line.partition(" - ")
            device, root, place = before.split()[2:5]
            kind, _, options = after.split()[:3]
            if not kind.startswith("cgroup") or device != _device(place):
                continue  # the latter: another file system is mounted over it
            if kind == "cgroup" and controller in options.split(","):
                return os.path.normpath(
                    f"{place}/{os.path.relpath(own.get(controller, root), root)}"
                )
            if kind == "cgroup2" and controller in _read(f"{place}/cgroup.controllers").split():
                return place
    return None


def _device(path: str) -> str:
    try:
        number = os.stat(path).st_dev
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def _unified(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, "cgroup.subtree_control"))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as source:
        return source.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
