# SPDX-License-Identifier: BSD-3-Clause
"""Both back ends copy, build and list the recorded cases alike; for the real tools stand-ins replay them."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

import datapath
from datapathworld import ExecutableWorld, NativeWorld
from scrjob.testing.contracts import DataPathContract

CASES = [
    pytest.param(case, id="-".join(case))
    for case in [
        ("single_4", "none"),
        ("xor_4", "none"),
        ("xor_8", "node4"),
        ("uneven_xor_7", "node3"),
        ("partner_8", "node2+node4"),
        ("nofile_rs_4", "node2+node1"),
        ("rebuilt_rs_4", "node2+node4"),
        ("bypass_xor_4", "node3"),
        ("testapi_xor_4", "node4"),
        *datapath.HOPELESS_CASES,
    ]
]
Golden = Callable[[str], Path]


@pytest.mark.parametrize("recorded", CASES)
class TestNative(DataPathContract):
    @pytest.fixture
    def world(self, recorded: tuple[str, str], golden: Golden, tmp_path: Path) -> NativeWorld:
        return NativeWorld(datapath.load(golden(recorded[0])), recorded[1], tmp_path)


@pytest.mark.parametrize("recorded", CASES)
class TestExecutable(DataPathContract):
    @pytest.fixture
    def world(self, recorded: tuple[str, str], golden: Golden, tmp_path: Path) -> ExecutableWorld:
        return ExecutableWorld(datapath.load(golden(recorded[0])), recorded[1], tmp_path)
