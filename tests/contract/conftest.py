# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for the contract suites."""

from __future__ import annotations

import pytest

from worlds import require_namespaces


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip, or fail in CI, where the kernel refuses namespaces."""
    require_namespaces()
