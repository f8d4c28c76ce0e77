# SPDX-License-Identifier: BSD-3-Clause
"""For all tests: what the machine offers, a clean environment, unpacked golden data.

Where CI=true a machine that lacks one of the worlds is an error at once: skips must not hide that
tests never run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import tarfile
from pathlib import Path
from typing import Any, Callable, Generator

import pytest

pytest.register_assert_rewrite("scrjob.testing")

from archives import unpack  # noqa: E402 - after the line above, as the next one
from worlds import WORLDS, in_ci  # noqa: E402 - imports scrjob.testing

GOLDEN = Path(__file__).parent / "data" / "golden"
FOREIGN_PREFIXES = (
    *("SCR_", "SLURM_", "LSB_", "LS_", "PBS_", "FLUX_"),
    *("PMI", "MPI", "HYDRA_", "SALLOC_", "SBATCH_"),
)


# The longest modules are in these, and their tests mostly wait: others have the processors meanwhile.
WAITING = {Path(__file__).parent / name for name in ("cluster", "local")}


def is_worker(config: pytest.Config) -> bool:
    """Return whether this is one of the processes of ``pytest -n``, not the one that sums up."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run in CI where a world is missing; let interruptions reach the tests that are about them."""
    # What a shell runs in the background ignores them, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    missing = [f"{name} ({why})" for name, test in WORLDS.items() if (why := test())]
    if missing and in_ci():
        raise pytest.UsageError(f"CI must have: {', '.join(missing)}")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Leave out the long tests unless they are asked for by name; in parallel, begin with what waits."""
    if "soak" not in config.option.markexpr:
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]
    yield
    if is_worker(config):
        items.sort(key=lambda item: WAITING.isdisjoint(item.path.parents))


@pytest.hookimpl(wrapper=True, trylast=True)  # innermost: coverage combines the data around us
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Remove what killed processes left of coverage's data unfinished: it would be warned of."""
    result = yield
    if session.config.getoption("--cov", None) and not is_worker(session.config):
        for part in session.config.rootpath.glob(".coverage.*"):
            with contextlib.closing(sqlite3.connect(part)) as data:
                try:
                    begun = data.execute("select version from coverage_schema").fetchone()
                except sqlite3.DatabaseError:
                    begun = None
            if begun is None:
                part.unlink()
    return result


def pytest_report_header() -> str:
    """Tell which worlds there are, for a log that says what was really tested."""
    found = [f"{name}: {test() or 'yes'}" for name, test in WORLDS.items()]
    return f"worlds: {'; '.join(found)}"


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """No setting of the machine leaks into a test; the odd zone finds naive time arithmetic."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    if request.node.get_closest_marker("unmeasured"):
        # Coverage shows in what a process imports, and writes where another user may not.
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
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
                unpack(archive, base)
            unpacked[case] = base / case
        return unpacked[case]

    return get
