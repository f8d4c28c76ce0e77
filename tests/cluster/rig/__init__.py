# SPDX-License-Identifier: BSD-3-Clause
"""A Slurm cluster of many hosts on one machine, made of Linux namespaces; see README.md."""

from __future__ import annotations

from ._plan import LOGIN, Plan
from ._rig import Rig, RigError, Running

__all__ = ["LOGIN", "Plan", "Rig", "RigError", "Running"]
