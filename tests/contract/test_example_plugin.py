# SPDX-License-Identifier: BSD-3-Clause
"""The example package of the plugin guide fulfils every contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrjob.testing.contracts import (
    JobLauncherContract,
    NodeTestContract,
    RemoteExecContract,
    ResourceManagerContract,
)
from site_world import SiteWorld


@pytest.fixture
def world(tmp_path: Path) -> SiteWorld:
    return SiteWorld(tmp_path)


class TestSiteManager(ResourceManagerContract):
    capabilities = frozenset({"down_nodes", "end_time", "cut_off", "tools"})


class TestSiteLauncher(JobLauncherContract):
    capabilities = frozenset({"signals", "nodes_wanted"})


class TestSiteExec(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})


class TestSiteHealth(NodeTestContract):
    pass
