# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for all tests: a clean environment and unpacked golden data."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import Callable

import pytest

GOLDEN = Path(__file__).parent / "data" / "golden"
FOREIGN_PREFIXES = ("SCR_", "SLURM_", "LSB_", "LS_", "PBS_", "FLUX_", "PMI", "MPI", "HYDRA_", "SALLOC_", "SBATCH_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the machine leaks into a test; the odd zone finds naive time arithmetic."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TZ", "America/St_Johns")


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the directory of an unpacked golden case; read only, shared by the session."""
    unpacked: dict[str, Path] = {}

    def get(case: str) -> Path:
        if case not in unpacked:
            base = tmp_path_factory.mktemp("golden")
            with tarfile.open(GOLDEN / f"{case}.tar.xz") as archive:
                extract(archive, base)
            unpacked[case] = base / case
        return unpacked[case]

    return get


def extract(archive: tarfile.TarFile, target: Path) -> None:
    """Unpack a trusted archive with modes and times as recorded, on every Python version."""
    if sys.version_info >= (3, 12):
        archive.extractall(target, filter="fully_trusted")
    else:
        archive.extractall(target)
