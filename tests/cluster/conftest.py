# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for tests on a real Slurm: a rig of hosts, shared by the session, and rigs of a test's own.

Everything beneath pytest's temporary directory, so also ``tmp_path``, is seen by all hosts at the
same path: it plays the parallel file system.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Generator, Iterator

import pytest

from rig import Rig
from worlds import require

HERE = Path(__file__).parent
NODES = 6
_LOGS = pytest.StashKey[Callable[[], str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all tests here but the long ones."""
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of the daemons' logs to the report of a failed test."""
    report = yield
    logs = item.stash.get(_LOGS, None)
    if report.failed and logs is not None:
        with contextlib.suppress(OSError):
            report.sections.append(("logs of the rig", logs()))
    return report


@pytest.fixture(scope="session")
def _session_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require("cluster")
    shared = [tmp_path_factory.getbasetemp()]
    with Rig(tmp_path_factory.mktemp("rig"), NODES, shared=shared) as rig:
        yield rig


@pytest.fixture
def rig(_session_rig: Rig, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Six healthy hosts, ``n1`` to ``n6``, and no job. The test may break what it likes."""
    if not _session_rig.is_fresh():
        _session_rig.renew()
    request.node.stash[_LOGS] = _session_rig.log_tails
    yield _session_rig
    _session_rig.end_commands()


@pytest.fixture
def make_rig(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Rig]]:
    """Bring up a rig of the test's own: ``make_rig(nodes, cpus=..., options=...)``."""
    require("cluster")
    with contextlib.ExitStack() as rigs:

        def make(nodes: int = 5, **settings: Any) -> Rig:
            settings.setdefault("shared", [tmp_path_factory.getbasetemp()])
            made = rigs.enter_context(Rig(tmp_path_factory.mktemp("rig"), nodes, **settings))
            request.node.stash[_LOGS] = made.log_tails
            return made

        yield make
