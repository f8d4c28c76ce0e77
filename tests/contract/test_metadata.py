# SPDX-License-Identifier: BSD-3-Clause
"""Both back ends of ``scrjob.cli`` answer alike; as executables serve our own commands."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest

from scrjob import cli
from scrjob._context import system_context
from scrjob.testing.contracts.metadata import MetadataContract


class World:
    def __init__(self, directory: Path, bin_dir: str) -> None:
        self.prefix = str(directory / "a prefix's place")
        Path(self.prefix).mkdir()
        self._options = {"context": system_context(), "bin_dir": bin_dir}

    def flush_file(self) -> Any:
        return cli.SCRFlushFile(self.prefix, **self._options)

    def halt_file(self) -> Any:
        return cli.SCRHaltFile(self.prefix, **self._options)

    def index(self) -> Any:
        return cli.SCRIndex(self.prefix, **self._options)

    def nodes_file(self) -> Any:
        return cli.SCRNodesFile(self.prefix, **self._options)

    def retries_halt(self) -> Any:
        return cli.SCRRetriesHalt(self.prefix, **self._options)

    def log(self, **switches: str) -> Any:
        context = self._options["context"].with_environ(switches)
        return cli.SCRLog(self.prefix, "42", user="alice", **{**self._options, "context": context})


class TestNative(MetadataContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return World(tmp_path, "")


class TestExecutable(MetadataContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return World(tmp_path, sysconfig.get_path("scripts"))
