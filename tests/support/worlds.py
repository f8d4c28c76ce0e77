# SPDX-License-Identifier: BSD-3-Clause
"""Which parts of the outside world tests can use here. In CI a missing one is a failure, not a skip."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from typing import Callable, Mapping, Optional

import pytest

import faults
import rig
from scrjob.testing.local import namespaces_refused


def _mpi() -> Optional[str]:
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    return None if os.access(beside, os.X_OK) or shutil.which("mpiexec") else "no mpiexec"


def _other_user() -> Optional[str]:
    if os.getuid() != 0:
        return None  # whoever runs the tests is one already
    return None if shutil.which("setpriv") else "setpriv is not installed"


def _ping() -> Optional[str]:
    return None if shutil.which("fping") or shutil.which("ping") else "neither fping nor ping"


WORLDS: Mapping[str, Callable[[], Optional[str]]] = {
    "namespaces": functools.lru_cache(maxsize=None)(namespaces_refused),
    "mpi": functools.lru_cache(maxsize=None)(_mpi),
    "unprivileged user": _other_user,
    "ping": _ping,
    "faults": faults.missing,
    "cluster": functools.lru_cache(maxsize=None)(rig.missing),
    "memory limits": functools.lru_cache(maxsize=None)(rig.memory_limits_missing),
}


def in_ci() -> bool:
    return os.environ.get("CI") == "true"


def require(world: str) -> None:
    """Skip the test with the reason if the world is missing; fail it in CI."""
    why = WORLDS[world]()
    if why is None:
        return
    if in_ci():
        pytest.fail(f"CI must have {world}: {why}")
    pytest.skip(f"no {world} here: {why}")


def require_namespaces() -> None:
    """Skip, or fail in CI, where virtual nodes cannot be made."""
    require("namespaces")
