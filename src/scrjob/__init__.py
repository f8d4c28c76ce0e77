# SPDX-License-Identifier: BSD-3-Clause
"""scrjob keeps a parallel job alive: run, watch, relaunch, scavenge.

Importing the package costs nothing: the names below are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scrjob.cli import (
        SCRFlushFile,
        SCRHaltFile,
        SCRIndex,
        SCRLog,
        SCRNodesFile,
        SCRRetriesHalt,
    )
    from scrjob.jobenv import JobEnv
    from scrjob.param import Param

_HOMES = {
    "JobEnv": "scrjob.jobenv",
    "Param": "scrjob.param",
    "SCRFlushFile": "scrjob.cli",
    "SCRHaltFile": "scrjob.cli",
    "SCRIndex": "scrjob.cli",
    "SCRLog": "scrjob.cli",
    "SCRNodesFile": "scrjob.cli",
    "SCRRetriesHalt": "scrjob.cli",
}

__all__ = [
    "JobEnv",
    "Param",
    "SCRFlushFile",
    "SCRHaltFile",
    "SCRIndex",
    "SCRLog",
    "SCRNodesFile",
    "SCRRetriesHalt",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scrjob' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - keeps "import scrjob" free of any cost

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
