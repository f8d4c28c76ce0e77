# SPDX-License-Identifier: BSD-3-Clause
"""For a loop that must not wait: questions that are asked beside it, and when they are due."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from scrjob.protocols import CommandRunner, JobEnvironment

T = TypeVar("T")


class Every:
    """Tells when something is due again; a period of 0 is always due, None never."""

    def __init__(
        self, jobenv: JobEnvironment, period_s: Optional[float], first: bool = False
    ) -> None:
        self._clock = jobenv.context.clock
        self._period_s = period_s
        self._next = self._clock.monotonic() + (0.0 if first else period_s or 0.0)

    def due(self) -> bool:
        """Tell whether it is due; then it is not until the period is over."""
        if self._period_s is None or self._clock.monotonic() < self._next:
            return False
        self._next = self._clock.monotonic() + self._period_s
        return True


class Errand(Generic[T]):
    """Asks one question at a time; the loop comes by for the answer.

    Args:
        runner: calls the question beside us.
        name: of what is asked, for debuggers.
    """

    def __init__(self, runner: CommandRunner, name: str) -> None:
        self._runner = runner
        self._name = name
        self._asked: Optional[_Question[T]] = None

    @property
    def is_out(self) -> bool:
        """Tell whether a question was asked whose answer was not taken yet."""
        return self._asked is not None

    def ask(self, question: Callable[[], T]) -> None:
        """Ask; an answer that was not taken before is lost."""
        asked = self._asked = _Question(question)
        self._runner.beside(asked.run, self._name)

    def answer(self, wait_s: float = 0.0) -> Optional[T]:
        """Return the answer, once; None as long as there is none, or nothing was asked.

        Args:
            wait_s: how long to wait for it, in seconds.

        Raises:
            Exception: what the question has raised, once.
        """
        asked = self._asked
        if asked is None or not asked.done.wait(wait_s):
            return None
        self._asked = None
        if asked.error is not None:
            raise asked.error
        return asked.found

    def settle(self, limit_s: float) -> None:
        """Wait at most so many seconds for the question that is out, and drop its answer."""
        if self._asked is not None:
            self._asked.done.wait(limit_s)
            self._asked = None


class _Question(Generic[T]):
    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self.found: Optional[T] = None
        self.error: Optional[Exception] = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self.found = self._ask()
        except Exception as error:  # noqa: BLE001 - raised where the answer is taken
            self.error = error
        finally:
            self.done.set()
