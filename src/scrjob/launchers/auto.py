# SPDX-License-Identifier: BSD-3-Clause
"""Which launcher starts job steps here: the one that the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from scrjob._plugins import Registry
from scrjob.launchers.joblauncher import JobLauncher

if TYPE_CHECKING:
    from scrjob.protocols import Context

LAUNCHERS = Registry(
    "launcher",
    "scrjob.launchers",
    {
        "local": "scrjob.launchers.local:LocalLauncher",
        "slurm": "scrjob.launchers.srun:SRUN",
        "srun": "scrjob.launchers.srun:SRUN",
    },
)


def choose_launcher(context: Context, name: Optional[str]) -> JobLauncher:
    """Return the launcher called ``name``; without a name the base class, which starts nothing.

    Raises:
        PluginError: the name is unknown, or its plugin does not load.
    """
    launcher: JobLauncher = LAUNCHERS.load(name)() if name else JobLauncher()
    launcher.bind(context)
    return launcher


class AutoJobLauncher:
    """Published name: constructing it gives the launcher of that name."""

    def __new__(cls, launcher: Optional[str] = None) -> JobLauncher:  # type: ignore[misc]
        """Return the launcher called ``launcher``, bound to the real world."""
        from scrjob._context import system_context

        return choose_launcher(system_context(), launcher)
