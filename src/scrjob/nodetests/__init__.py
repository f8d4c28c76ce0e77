# SPDX-License-Identifier: BSD-3-Clause
"""Node tests: which nodes must not be used."""

from scrjob.nodetests.nodetest import NodeTest
from scrjob.nodetests.nodetests import NodeTests

__all__ = ["NodeTest", "NodeTests"]
