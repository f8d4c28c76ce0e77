# SPDX-License-Identifier: BSD-3-Clause
"""SCR's serial executables as classes, with two back ends that answer alike.

*Native* (default) works in this process over ``scrjob.formats``; *executable* runs the programs of a
real SCR installation. See README.md. Names are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrjob.cli.scr_copy import SCRCopy
    from scrjob.cli.scr_flush_file import SCRFlushFile
    from scrjob.cli.scr_halt_cntl import SCRHaltFile
    from scrjob.cli.scr_index import SCRIndex
    from scrjob.cli.scr_log import SCRLog
    from scrjob.cli.scr_nodes_file import SCRNodesFile
    from scrjob.cli.scr_retries_halt import SCRRetriesHalt

__all__ = [
    "SCRCopy",
    "SCRFlushFile",
    "SCRHaltFile",
    "SCRIndex",
    "SCRLog",
    "SCRNodesFile",
    "SCRRetriesHalt",
]

_HOMES = {
    "SCRCopy": "scr_copy",
    "SCRFlushFile": "scr_flush_file",
    "SCRHaltFile": "scr_halt_cntl",
    "SCRIndex": "scr_index",
    "SCRLog": "scr_log",
    "SCRNodesFile": "scr_nodes_file",
    "SCRRetriesHalt": "scr_retries_halt",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scrjob.cli' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - a command loads only the wrapper that it uses

    return getattr(importlib.import_module(f"scrjob.cli.{home}"), name)
