# SPDX-License-Identifier: BSD-3-Clause
"""Which resource manager is this? Forced by name, else detected from the environment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from scrjob._plugins import Registry
from scrjob.errors import PluginLoadError
from scrjob.resmgrs.resourcemanager import ResourceManager

if TYPE_CHECKING:
    from scrjob.protocols import Context

logger = logging.getLogger(__name__)

RESOURCE_MANAGERS = Registry(
    "resource manager",
    "scrjob.resmgrs",
    {
        # First: an embedded allocation may stand inside that of a real manager.
        "local": "scrjob.resmgrs.local:LocalResourceManager",
        "slurm": "scrjob.resmgrs.slurm:SLURM",
    },
)


def choose_resource_manager(context: Context, forced: Optional[str] = None) -> ResourceManager:
    """Return the manager named ``forced``, else the first that detects itself, else the base class.

    Outside plugins are asked only after the built-in ones.

    Raises:
        PluginError: ``forced`` is unknown; a plugin that was asked for does not load.
    """
    if forced:
        return _make(RESOURCE_MANAGERS.load(forced), context)
    for name in RESOURCE_MANAGERS.names():
        try:
            kind = RESOURCE_MANAGERS.load(name)
        except PluginLoadError as error:
            logger.warning("%s", error)
            continue
        reason = kind.detect(context.environ)
        if reason:
            logger.debug("resource manager %s: %s", name, reason)
            return _make(kind, context)
    return _make(ResourceManager, context)


def _make(kind: type[ResourceManager], context: Context) -> ResourceManager:
    manager = kind()
    manager.bind(context)
    return manager


class AutoResourceManager:
    """Published name: constructing it gives the manager of the real environment."""

    def __new__(cls, resmgr: Optional[str] = None) -> ResourceManager:  # type: ignore[misc]
        """Return the manager named ``resmgr``, else the detected one."""
        from scrjob._context import system_context

        return choose_resource_manager(system_context(), resmgr)
