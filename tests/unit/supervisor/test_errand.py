# SPDX-License-Identifier: BSD-3-Clause
"""Questions beside the loop: one at a time, their errors where the answer is taken."""

from __future__ import annotations

from typing import Callable

import pytest

from scrjob.errors import ScrError
from scrjob.supervisor.errand import Errand
from scrjob.testing.fakes import FakeRunner


class Later(FakeRunner):
    """Keeps what it is to call until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Callable[[], None]] = []

    def beside(self, function: Callable[[], None], name: str) -> None:
        self.kept.append(function)


def test_the_answer_is_taken_once() -> None:
    runner = Later()
    errand: Errand[int] = Errand(runner, "number")
    assert errand.answer() is None
    errand.ask(lambda: 7)
    assert errand.answer() is None
    assert errand.is_out
    runner.kept[0]()
    assert errand.answer() == 7
    assert not errand.is_out
    assert errand.answer() is None


def test_an_error_comes_out_where_the_answer_is_taken() -> None:
    def fails() -> int:
        raise ScrError("no answer")

    errand: Errand[int] = Errand(FakeRunner(), "number")
    errand.ask(fails)
    with pytest.raises(ScrError, match="no answer"):
        errand.answer()
    assert not errand.is_out


def test_a_question_that_is_out_is_not_waited_for_without_limit() -> None:
    runner = Later()
    errand: Errand[int] = Errand(runner, "number")
    errand.ask(lambda: 7)
    errand.settle(0.0)
    runner.kept[0]()
    assert errand.answer() is None
