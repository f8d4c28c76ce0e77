# SPDX-License-Identifier: BSD-3-Clause
"""The contract of metadata wrappers is tested too: each fault fails a test that is about it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from scrjob import cli
from scrjob.errors import FormatError
from scrjob.testing.contracts.metadata import MetadataContract


class World:
    """Native wrappers, some of them replaced by sabotaged ones."""

    def __init__(self, directory: Path, **sabotaged: type) -> None:
        self.prefix = str(directory / "prefix")
        Path(self.prefix).mkdir(parents=True)
        self._sabotaged = sabotaged

    def _make(self, name: str) -> Any:
        return self._sabotaged.get(name, getattr(cli, name))(self.prefix)

    def flush_file(self) -> Any:
        return self._make("SCRFlushFile")

    def halt_file(self) -> Any:
        return self._make("SCRHaltFile")

    def index(self) -> Any:
        return self._make("SCRIndex")

    def nodes_file(self) -> Any:
        return self._make("SCRNodesFile")

    def retries_halt(self) -> Any:
        return self._make("SCRRetriesHalt")

    def log(self, **_switches: str) -> Any:
        raise NotImplementedError


class DamageIsEmpty(cli.SCRFlushFile):
    def list_dsets_ckpt(self, before: Any = None) -> list[str]:
        try:
            return super().list_dsets_ckpt(before)
        except FormatError:
            return []


class ForgetsBefore(cli.SCRFlushFile):
    def list_dsets_ckpt(self, before: Any = None) -> list[str]:
        return super().list_dsets_ckpt()


class ZeroIsAbsent(cli.SCRHaltFile):
    def set_checkpoints(self, checkpoints: Any) -> None:
        if checkpoints:
            super().set_checkpoints(checkpoints)


class ListingCreates(cli.SCRHaltFile):
    def execute(self) -> str:
        Path(self.path).parent.mkdir(exist_ok=True)
        return super().execute()


class NeverStops(cli.SCRRetriesHalt):
    def check(self) -> Optional[str]:
        return None


class UnknownIsZero(cli.SCRNodesFile):
    def last_num_nodes(self) -> Optional[int]:
        return super().last_num_nodes() or 0


class AnyIsCurrent(cli.SCRIndex):
    def current(self, name: str) -> bool:
        super().current(name)
        return True


FAULTS = [
    (DamageIsEmpty, "test_damaged_flush_file_is_an_error"),
    (ForgetsBefore, "test_lists_of_datasets"),
    (ZeroIsAbsent, "test_zero_is_a_value"),
    (ListingCreates, "test_listing_makes_no_file"),
    (NeverStops, "test_nothing_collected_halts_at_once"),
    (UnknownIsZero, "test_number_of_nodes_that_is_not_known"),
    (AnyIsCurrent, "test_current"),
]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(100))


@pytest.mark.parametrize(("fault", "test"), FAULTS)
def test_a_fault_is_found(fault: type, test: str, places: Iterator[Path]) -> None:
    method = getattr(MetadataContract(), test)
    name = fault.__mro__[1].__name__
    method(World(next(places)))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        method(World(next(places), **{name: fault}))


@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS])
def test_other_tests_do_not_mind(fault: type, places: Iterator[Path]) -> None:
    """A fault shows where it belongs: most tests still pass."""
    name = fault.__mro__[1].__name__
    failed = []
    for test, method in inspect.getmembers(MetadataContract(), inspect.ismethod):
        if list(inspect.signature(method).parameters) != ["world"] or "log" in test:
            continue
        try:
            method(World(next(places), **{name: fault}))
        except (AssertionError, pytest.fail.Exception):
            failed.append(test)
    assert 1 <= len(failed) <= 4, failed
