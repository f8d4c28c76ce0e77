# SPDX-License-Identifier: BSD-3-Clause
"""The world of client tests."""

from __future__ import annotations

import pytest

from clientworld import ClientWorld


@pytest.fixture
def world(tmp_path) -> ClientWorld:
    return ClientWorld(tmp_path)
