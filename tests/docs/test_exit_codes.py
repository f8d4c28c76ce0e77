# SPDX-License-Identifier: BSD-3-Clause
"""docs/exit-codes.md says what errors.py does."""

from __future__ import annotations

import re
from pathlib import Path

from scrjob import errors

PAGE = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text("utf-8")


def test_every_class_that_sets_a_code_is_in_the_table_with_it() -> None:
    documented = {
        name: int(code) for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)
    }
    real = {
        name: vars(getattr(errors, name))["exit_code"]
        for name in errors.__all__
        if "exit_code" in vars(getattr(errors, name))
    }
    assert documented == real


def test_every_code_of_an_error_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    codes = {getattr(errors, name).exit_code for name in errors.__all__} - {
        errors.ScrError.exit_code
    }
    assert codes <= explained
    assert {0, 69, 75, 93} <= explained
