# SPDX-License-Identifier: BSD-3-Clause
"""Where a step runs, as far as its ranks have reported."""

from __future__ import annotations

import pytest

from scrjob.errors import ScrError
from scrjob.supervisor.placement import Placement


def placement(noted: list[list[str]]) -> Placement:
    return Placement(["n1", "n2"], ["n9"], "srun", noted.append)


def test_until_all_have_reported_the_guess_counts_too() -> None:
    noted: list[list[str]] = []
    made = placement(noted)
    assert (made.used(), made.is_known) == (["n1", "n2"], False)
    made.take(["n3"])
    assert (made.used(), made.is_known) == (["n3", "n1", "n2"], False)
    made.take(["n3", "n4"])
    assert (made.used(), made.is_known) == (["n3", "n4"], True)


def test_only_what_is_new_is_noted() -> None:
    noted: list[list[str]] = []
    made = placement(noted)
    for found in ([], ["n1"], ["n1"], ["n1", "n2"]):
        made.take(found)
    assert noted == [["n1"], ["n1", "n2"]]


def test_an_avoided_node_is_an_error() -> None:
    """Lesson B2."""
    with pytest.raises(ScrError, match="launcher srun used n9, which it was told to avoid"):
        placement([]).take(["n1", "n9"])
