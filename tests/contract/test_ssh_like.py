# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution over ssh fulfils the contract, by itself, by pdsh and by ClusterShell.

The ssh is a script that runs the command here in the node's name; tests/cluster has real ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scrjob.remoteexec.clustershell import ClusterShell
from scrjob.remoteexec.pdsh import Pdsh
from scrjob.remoteexec.ssh import Ssh
from scrjob.testing.contracts import RemoteExecContract
from sshworld import SshWorld


class TestSsh(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, Ssh)


class TestClusterShell(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, ClusterShell)


class TestPdsh(RemoteExecContract):
    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        return SshWorld(tmp_path, Pdsh)


class TestPdshExec(RemoteExecContract):
    """Through the program that SCR_SSH names, by pdsh's module exec."""

    capabilities = frozenset({"dead_nodes"})

    @pytest.fixture
    def world(self, tmp_path: Path) -> SshWorld:
        world = SshWorld(tmp_path, Pdsh)
        other = world.bin / "reach it"
        world.ssh.rename(other)
        world.jobenv = world.job({"SCR_SSH": f"'{other}' --rsh"})
        return world
