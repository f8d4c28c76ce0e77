# SPDX-License-Identifier: BSD-3-Clause
"""docs/slurm.md shows the states as resmgrs/slurm_nodes.py has them."""

from __future__ import annotations

import re
from pathlib import Path

from scrjob.resmgrs.slurm_nodes import STATES, SUFFIXES, Condition

PAGE = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text("utf-8")


def test_every_word_stands_in_the_row_of_its_meaning() -> None:
    documented = {}
    for condition in Condition:
        (row,) = re.findall(rf"^\| {condition.value} \|.*$", PAGE, re.MULTILINE)
        words = re.findall(r"`([A-Z_]+)`", row)
        documented.update(dict.fromkeys(words, condition))
    assert documented == STATES


def test_every_suffix_is_explained() -> None:
    assert dict(re.findall(r"`(\W)` `([A-Z_]+)`", PAGE)) == SUFFIXES
