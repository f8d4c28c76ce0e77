# SPDX-License-Identifier: BSD-3-Clause
"""Which remote execution reaches the nodes: forced by SCR_REMOTE_EXEC, else what the manager offers."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Iterator, Optional, Sequence

from scrjob._fsio import atomic_write, read_bounded
from scrjob._plugins import Registry
from scrjob.errors import ConfigError, PluginLoadError, ScrError
from scrjob.remoteexec.remoteexec import RemoteExec

if TYPE_CHECKING:
    from scrjob.protocols import Context

logger = logging.getLogger(__name__)

MEMORY = "remote_exec"  # in the job's state directory: name of the back end that works
MEMORY_BYTES = 1000

REMOTE_EXECS = Registry(
    "remote execution",
    "scrjob.remoteexec",
    {
        "local": "scrjob.remoteexec.local:LocalRemoteExec",
        "srun": "scrjob.remoteexec.srun:Srun",
        "clustershell": "scrjob.remoteexec.clustershell:ClusterShell",
        "pdsh": "scrjob.remoteexec.pdsh:Pdsh",
        "ssh": "scrjob.remoteexec.ssh:Ssh",
    },
)


def choose_remote_exec(
    context: Context,
    offered: Sequence[str],
    forced: Optional[str] = None,
    proved: Optional[str] = None,
) -> RemoteExec:
    """Return the back end named ``forced``, else the first offered one that is available.

    ``proved`` names the one that was found to work in this job (see ``trial``): it goes before the others.
    Without any the base class is returned, which refuses every call.

    Raises:
        PluginError: ``forced`` is unknown or does not load.
        ConfigError: ``forced`` cannot be used here.
    """
    if forced:
        kind = REMOTE_EXECS.load(forced)
        why = kind.available(context)
        if why:
            raise ConfigError(f"SCR_REMOTE_EXEC={forced} cannot be used here: {why}")
        return _make(kind, context)
    names = sorted(offered, key=lambda name: name != proved)
    return next(available_ones(context, names), None) or _make(RemoteExec, context)


def available_ones(context: Context, names: Sequence[str]) -> Iterator[RemoteExec]:
    """Make those of the named back ends that are available, in this order."""
    for name in names:
        try:
            kind = REMOTE_EXECS.load(name)
        except PluginLoadError as error:
            logger.warning("%s", error)
            continue
        why = kind.available(context)
        if why:
            logger.debug("remote execution %s is not available: %s", name, why)
        else:
            yield _make(kind, context)


def remember(directory: str, name: str) -> None:
    """Note in a job's state directory which back end works, for the job's other commands."""
    with contextlib.suppress(OSError):  # they then take the first that is available
        atomic_write(os.path.join(directory, MEMORY), f"{name}\n".encode())


def remembered(directory: str) -> Optional[str]:
    """Return what was noted there, None if nothing was."""
    try:
        text = read_bounded(os.path.join(directory, MEMORY), limit=MEMORY_BYTES)
    except (OSError, ScrError):
        return None
    return text.decode("utf-8", "replace").strip() or None


def _make(kind: type[RemoteExec], context: Context) -> RemoteExec:
    rexec = kind()
    rexec.bind(context)
    return rexec
