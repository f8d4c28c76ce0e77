# SPDX-License-Identifier: BSD-3-Clause
"""Resource managers: who gave us the nodes."""

from scrjob.resmgrs.auto import AutoResourceManager
from scrjob.resmgrs.resourcemanager import ResourceManager

__all__ = ["AutoResourceManager", "ResourceManager"]
