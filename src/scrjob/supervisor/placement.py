# SPDX-License-Identifier: BSD-3-Clause
"""Where a step runs: as its ranks report, and until all have, as was asked for."""

from __future__ import annotations

from typing import Callable, Sequence

from scrjob.errors import ScrError


class Placement:
    """The nodes of one step, as far as known.

    Args:
        guess: where it was meant to run.
        avoided: nodes that it was told to avoid.
        launcher: the launcher's name, for messages.
        note: gets the nodes of which ranks have reported, each time that there are more.
    """

    def __init__(
        self,
        guess: Sequence[str],
        avoided: Sequence[str],
        launcher: str,
        note: Callable[[list[str]], None],
    ) -> None:
        self._guess = list(guess)
        self._avoided = set(avoided)
        self._launcher = launcher
        self._note = note
        self._found: list[str] = []

    @property
    def is_known(self) -> bool:
        """Tell whether as many nodes have reported as were meant."""
        return len(self._found) >= len(self._guess)

    def used(self) -> list[str]:
        """Return the nodes whose loss is the step's."""
        return list(dict.fromkeys(self._found if self.is_known else [*self._found, *self._guess]))

    def take(self, found: Sequence[str]) -> None:
        """Take what the launcher tells.

        Raises:
            ScrError: the step runs where it must not.
        """
        wrong = sorted(self._avoided.intersection(found))
        if wrong:
            raise ScrError(
                f"launcher {self._launcher} used {', '.join(wrong)}, which it was told to avoid; the "
                "step was ended"
            )
        if list(found) != self._found:
            self._found = list(found)
            self._note(self._found)
