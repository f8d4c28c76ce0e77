# SPDX-License-Identifier: BSD-3-Clause
"""A Slurm cluster of many hosts on one machine, made of Linux namespaces; see README.md."""

from __future__ import annotations

from ._base import RigError
from ._commands import Running
from ._needs import memory_limits_missing, missing
from ._plan import LOGIN, Plan
from ._rig import Rig

__all__ = ["LOGIN", "Plan", "Rig", "RigError", "Running", "memory_limits_missing", "missing"]
