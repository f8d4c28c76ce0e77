# SPDX-License-Identifier: BSD-3-Clause
"""One suite of tests for each kind of plugin.

A plugin's own test module inherits the suite and supplies a *world* as a fixture::

    class TestMyManager(ResourceManagerContract):
        capabilities = frozenset({"end_time"})

        @pytest.fixture
        def world(self, tmp_path):
            return MyWorld(tmp_path)

The world arranges and observes without the plugin's own code. ``capabilities`` says what plugin and
world can do; for a capability that is missing the suite asserts that the plugin says so.
"""

from __future__ import annotations

from scrjob.testing.contracts.datapath import DataPathContract
from scrjob.testing.contracts.launcher import JobLauncherContract
from scrjob.testing.contracts.metadata import MetadataContract
from scrjob.testing.contracts.nodetest import NodeTestContract
from scrjob.testing.contracts.remoteexec import RemoteExecContract
from scrjob.testing.contracts.resmgr import ResourceManagerContract

__all__ = [
    "DataPathContract",
    "JobLauncherContract",
    "MetadataContract",
    "NodeTestContract",
    "RemoteExecContract",
    "ResourceManagerContract",
]
