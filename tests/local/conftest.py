# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for tests that need virtual nodes: skipped with the reason where they cannot be, except in CI."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from scrjob.testing.local import HeldAllocation, allocation, namespaces_refused


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip, or fail in CI, where the kernel refuses namespaces."""
    why = namespaces_refused()
    if why and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have user namespaces: {why}")
    if why:
        pytest.skip(f"no user namespaces here: {why}")


@pytest.fixture(scope="module")
def held(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldAllocation]:
    """One allocation of 4 nodes for the tests of a module; they leave all nodes up."""
    with allocation(4, cwd=tmp_path_factory.mktemp("job 'dir: 1")) as here:
        yield here


@pytest.fixture
def here(held: HeldAllocation) -> Iterator[HeldAllocation]:
    """The module's allocation, with all nodes up before and after."""
    yield held
    for node in held.nodes:
        held.revive(node)  # also one that was stopped so recently that nobody noticed yet
