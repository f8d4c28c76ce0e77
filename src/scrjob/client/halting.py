# SPDX-License-Identifier: BSD-3-Clause
"""Whether the program should stop: rank 0 looks, all ranks are told.

Source: docs/formats/halt.md, "Who stops when".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrjob.formats import halt
from scrjob.formats.kvtree import KVTree

if TYPE_CHECKING:
    from scrjob.client.core import Core


class Halting:
    """The halt conditions as this run has seen them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._memory = KVTree()
        if core.settings.halt_seconds > 0:
            # Reaches the file only if there is none: somebody's own file says what he wants.
            self._memory.put(halt.SECONDS, core.settings.halt_seconds)

    def hits(self, decrement: int = 0) -> list[halt.Hit]:
        """Return the conditions that hold now, after counting off checkpoints. Collective."""
        core = self._core

        def look() -> list[halt.Hit]:
            self._memory = core.prefix.check_halt(self._memory, decrement)
            return halt.program_hits(
                halt.conditions(self._memory),
                now=core.clock.now(),
                end_time=core.settings.end_time,
            )

        found: list[halt.Hit] = core.team.on_first("checking the halt conditions", look)
        return found

    def record(self, reason: str) -> None:
        """Log that the program halts and put the reason into the file, if it has none. Collective."""
        core = self._core

        def write() -> None:
            self._memory.put(halt.REASON, reason)
            core.log.halted(reason)
            self._memory = core.prefix.check_halt(self._memory, 0)

        core.team.on_first("recording why the program ends", write)
