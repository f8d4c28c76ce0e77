# SPDX-License-Identifier: BSD-3-Clause
"""Which remote execution reaches the nodes: forced by SCR_REMOTE_EXEC, else what the manager offers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob._plugins import Registry
from scrjob.errors import ConfigError, PluginLoadError
from scrjob.remoteexec.remoteexec import RemoteExec

if TYPE_CHECKING:
    from scrjob.protocols import Context

logger = logging.getLogger(__name__)

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
    context: Context, offered: Sequence[str], forced: Optional[str] = None
) -> RemoteExec:
    """Return the back end named ``forced``, else the first offered one that is available.

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
    for name in offered:
        try:
            kind = REMOTE_EXECS.load(name)
        except PluginLoadError as error:
            logger.warning("%s", error)
            continue
        why = kind.available(context)
        if not why:
            return _make(kind, context)
        logger.debug("remote execution %s is not available: %s", name, why)
    return _make(RemoteExec, context)


def _make(kind: type[RemoteExec], context: Context) -> RemoteExec:
    rexec = kind()
    rexec.bind(context)
    return rexec
