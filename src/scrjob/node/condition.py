# SPDX-License-Identifier: BSD-3-Clause
"""In what condition is this node: how often did the kernel kill for want of memory, what room is left?

Counters say nothing alone, they only rise; whoever asks compares two answers. One line each::

    kills COUNT SOURCE    SOURCE: ``memory.events of GROUP``, ``memory.oom_control of GROUP``, ``whole node``
    kernel NUMBER TEXT    a line of the kernel's log about such a kill; later lines have larger numbers
    free FREE SIZE DIR    bytes for the user and of the file system

The groups are those of this process, from the innermost outwards; a kill elsewhere on a shared node
shows in ``whole node`` only.

Source: the kernel's documentation, admin-guide/cgroup-v2 "memory.events", cgroup-v1/memory
"memory.oom_control" (oom_kill since 4.13), ABI/testing/dev-kmsg; /proc/vmstat as seen on 6.18.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Iterator, NamedTuple, Optional, Sequence

COUNTER = "oom_kill"
WHOLE_NODE = "whole node"
KERNEL_LOG = "/dev/kmsg"
KERNEL_WORDS = ("Out of memory: Killed", "out of memory: Killed")
KERNEL_LINES = 4  # the last ones are enough as evidence
READ_LIMIT = 1 << 20
LEVELS_LIMIT = 64


class Mount(NamedTuple):
    """Where a memory hierarchy is mounted: ``root`` is the group that is seen at ``point``."""

    point: str
    root: str
    unified: bool


def counter(text: str) -> Optional[int]:
    """Return the number after ``oom_kill`` in ``NAME NUMBER`` lines, None without one. Pure."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == COUNTER and value.strip().isdigit():
            return int(value)
    return None


def mounts(mountinfo: str) -> list[Mount]:
    """Return the mounts of cgroup v2 and of v1's memory controller. Pure.

    Source: proc(5), /proc/PID/mountinfo: fields 4 and 5, and after " - " type, source, super options.
    """
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        try:
            _, _, _, root, point, *_ = before.split(" ")
            kind, _, options = after.split(" ")
        except ValueError:
            continue
        unified = kind == "cgroup2"
        if unified or (kind == "cgroup" and "memory" in options.split(",")):
            found.append(Mount(_unescape(point), _unescape(root), unified))
    return found


def groups(text: str) -> tuple[Optional[str], Optional[str]]:
    """Return this process's groups in v2 and in v1's memory controller, from /proc/self/cgroup. Pure."""
    unified, memory = None, None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    return unified, memory


def levels(mount: Mount, group: str) -> list[str]:
    """Return the directories of a group and of those around it, innermost first. Pure.

    A group that is not below the mounted one (another namespace) is looked for from the mount's point.
    """
    inside = group
    if mount.root != "/" and (group + "/").startswith(mount.root + "/"):
        inside = group[len(mount.root) :]
    names = [name for name in inside.split("/") if name not in ("", "..")]
    paths = [os.path.join(mount.point, *names[:end]) for end in range(len(names), -1, -1)]
    return paths[:LEVELS_LIMIT]


def kills(proc: str = "/proc") -> Iterator[tuple[int, str]]:
    """Yield (count, source) of each counter that can be read."""
    unified, memory = groups(_read(f"{proc}/self/cgroup"))
    for mount in mounts(_read(f"{proc}/self/mountinfo")):
        group = unified if mount.unified else memory
        name = "memory.events" if mount.unified else "memory.oom_control"
        for path in levels(mount, group) if group is not None else ():
            count = counter(_read(os.path.join(path, name)))
            if count is not None:
                yield count, f"{name} of {path[len(mount.point) :] or '/'}"
    count = counter(_read(f"{proc}/vmstat"))
    if count is not None:
        yield count, WHOLE_NODE


def kernel_lines(path: str = KERNEL_LOG) -> list[tuple[int, str]]:
    """Return (number, text) of the kernel's last lines about kills, [] if its log is not for us."""
    found: list[tuple[int, str]] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        while True:
            try:
                record = os.read(fd, 8192)
            except BrokenPipeError:  # overwritten while we read: the next read goes on
                continue
            if not record:
                break
            line = record.decode("utf-8", "replace").split("\n", 1)[0]
            head, _, text = line.partition(";")
            fields = head.split(",")
            if any(word in text for word in KERNEL_WORDS) and len(fields) > 1:
                found.append((int(fields[1]), text))
    except (OSError, ValueError):  # BlockingIOError: that was all
        pass
    finally:
        os.close(fd)
    return found[-KERNEL_LINES:]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(READ_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _unescape(path: str) -> str:
    """Undo the octal escapes of mountinfo."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


def main(argv: Sequence[str]) -> int:
    """``condition [DIR...]``: print this node's condition; returns 0."""
    lines = [f"kills {count} {source}" for count, source in kills()]
    lines += [f"kernel {number} {text}" for number, text in kernel_lines()]
    for directory in argv:
        with contextlib.suppress(OSError):
            status = os.statvfs(directory)
            free, size = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
            lines.append(f"free {free} {size} {directory}")
    # One line each, whatever the names hold.
    text = "".join(line.replace("\n", "?") + "\n" for line in lines)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    return 0
