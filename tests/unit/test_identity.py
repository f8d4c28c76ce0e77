# SPDX-License-Identifier: BSD-3-Clause
"""User and job id in paths."""

from __future__ import annotations

import os
import pwd

import pytest

from scrjob.errors import ConfigError
from scrjob.identity import path_part, user_name


def test_the_order_of_sources() -> None:
    assert user_name("ann", {"USER": "bob"}) == "ann"
    assert user_name(None, {"USER": "bob"}) == "bob"


def test_without_any_the_uid_tells() -> None:
    """Lesson A21."""
    assert user_name(None, {}) == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("name", [".", "..", "/etc", "a/../../b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="job id"):
        path_part("job id", name)


def test_arrays_of_jobs_have_slashes() -> None:
    assert path_part("job id", "12/3") == "12/3"
