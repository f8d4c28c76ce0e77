# SPDX-License-Identifier: BSD-3-Clause
"""The supervisors that are alive in a prefix, and the request to one to stop its step at once."""

from __future__ import annotations

import glob
import json
import os
import socket
from typing import Any

from scrjob._fsio import read_bounded
from scrjob.errors import FormatError
from scrjob.supervisor.monitor import STOP_FILE
from scrjob.supervisor.state import DONE, LIMIT_BYTES


def stop_now(prefix: str) -> str:
    """Ask every live supervisor of a prefix to end its running step; returns one line about it."""
    told = []
    for path in sorted(
        glob.glob(os.path.join(glob.escape(prefix), ".scr", "scrjob.*", "state.json"))
    ):
        state = _read(path)
        if _is_live(state):
            with open(os.path.join(os.path.dirname(path), STOP_FILE), "wb"):
                told.append(f"process {state['pid']} on {state['host']}")
    if told:
        return f"Asked the supervisor to stop now: {', '.join(told)}"
    return "No live supervisor found: the program stops when it next looks"


def _read(path: str) -> dict[str, Any]:
    try:
        state = json.loads(read_bounded(path, limit=LIMIT_BYTES))
    except (OSError, ValueError, FormatError):
        return {}  # a supervisor that wrote no readable state cannot be asked this way
    return state if isinstance(state, dict) else {}


def _is_live(state: dict[str, Any]) -> bool:
    """Tell whether it may be alive: on this host its process is looked for, elsewhere its phase counts."""
    host, pid = state.get("host"), state.get("pid")
    if not isinstance(pid, int) or state.get("phase") == DONE:
        return False
    if host != socket.gethostname():  # noqa: TID251 - commands are where the world comes in
        return isinstance(host, str)
    return os.path.exists(f"/proc/{pid}")
