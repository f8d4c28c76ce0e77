# SPDX-License-Identifier: BSD-3-Clause
"""The contract of node tests: which of these nodes must not be used, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob._plugins import Plugin

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

DEFAULT_TIMEOUT_S = 15.0


class NodeTest(Plugin):
    """Base class: a test that all nodes pass. A subclass overrides ``execute``.

    Attributes:
        name: what users write in ``SCR_NODE_TESTS``; set by the driver from the plugin's name.
        timeout_s: how long the whole test may take; set by the driver.
        authoritative: True if the verdict is a decision rather than a measurement: it is neither
            repeated nor doubted when it fails many nodes.
    """

    name = ""
    authoritative = False

    def __init__(self) -> None:
        self.timeout_s = DEFAULT_TIMEOUT_S

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return the failed nodes with one-line reasons; only nodes that were given.

        Raises:
            ScrError: the test itself could not be run; says nothing about any node.
        """
        del nodes, jobenv
        return {}
