# SPDX-License-Identifier: BSD-3-Clause
"""Faults for real: a node is killed, stopped, emptied. Nothing here tells anybody what was done.

Each deed is what a hand could do with ``kill`` or ``rm``; the manager must find out by itself.
"""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

from scrjob.errors import ScrError
from scrjob.localrm import _proc, directory

if TYPE_CHECKING:
    from scrjob.localrm.client import Allocation, NodeStatus


def fail(allocation: Allocation, node: str) -> None:
    """Kill a node: KILL to its first process, with which all its processes and its storage go."""
    found = _living(allocation, node)
    _proc.send_signal(found.pid, signal.SIGKILL)


def hang(allocation: Allocation, node: str) -> None:
    """Stop all processes of a node; it keeps its storage and answers nobody.

    Raises:
        ScrError: some process could not be stopped.
    """
    found = _living(allocation, node)
    if not _proc.stop_tree(found.pid):
        raise ScrError(f"{node}: some of its processes do not stop")


def wipe(allocation: Allocation, node: str) -> None:
    """Remove all files of a node's own storage; its processes live on.

    Shared directories below the storage are other file systems, and are left alone.
    """
    found = _living(allocation, node)
    if allocation.info.private:
        tops = [f"/proc/{found.pid}/root{path}" for path in allocation.info.storage]
    else:
        tops = [directory.plain_storage(allocation.path, node)]
    for top in tops:
        try:
            fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # a base below /tmp that nobody made
            continue
        try:
            _empty(fd, os.fstat(fd).st_dev)
        finally:
            os.close(fd)


def revive(allocation: Allocation, node: str) -> NodeStatus:
    """Let a stopped node go on, or have a dead one booted anew; one that is up is left alone."""
    found = allocation.node(node)
    if found.state != "dead" and found.pid and allocation.outside:
        _proc.continue_tree(found.pid)
    return allocation.revive(node)


def _living(allocation: Allocation, node: str) -> NodeStatus:
    found = allocation.node(node)
    if not allocation.outside:
        raise ScrError("nodes are failed from outside: this is a process of a node itself")
    if found.state == "dead" or not found.pid:
        raise ScrError(f"{node} is not running: {found.reason or found.state}")
    return found


def _empty(directory_fd: int, device: int) -> None:
    """Remove what is in an open directory and on the same file system."""
    for name in os.listdir(directory_fd):
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if status.st_dev != device:
            continue
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=directory_fd)
            continue
        fd = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd
        )
        try:
            _empty(fd, device)
            occupied = bool(os.listdir(fd))
        finally:
            os.close(fd)
        if not occupied:
            os.rmdir(name, dir_fd=directory_fd)
