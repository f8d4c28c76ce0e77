# SPDX-License-Identifier: BSD-3-Clause
"""Runs the tests with one marker in a second pytest at the same time: ``pytest --beside cluster``.

They mostly wait, so two cores do both. The reports of the second pytest are taken over at the end: its
failures, times and totals are in the one summary, and a failure in either fails the run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from typing import IO, Any, Generator, Optional

import pytest

LIMIT_S = 1800.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("beside")
    group.addoption("--beside", metavar="MARKER", help="run these tests in a second pytest")
    group.addoption("--reports-to", metavar="FILE", help="(of the second pytest)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--beside"):
        config.pluginmanager.register(_First(config), "beside-first")
    if config.getoption("--reports-to"):
        config.pluginmanager.register(_Second(config), "beside-second")


class _Second:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._out = open(config.getoption("--reports-to"), "w", encoding="utf-8")  # noqa: SIM115

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        print(json.dumps(data), file=self._out, flush=True)

    def pytest_unconfigure(self) -> None:
        self._out.close()


class _First:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._marker = config.getoption("--beside")
        self._elsewhere = 0
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._said: IO[bytes]
        self._reports: IO[bytes]

    def pytest_sessionstart(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self._reports = tempfile.NamedTemporaryFile()  # noqa: SIM115
        # It ends with us, however we end.
        argv = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        argv += [sys.executable, "-m", "pytest", "-m", self._marker]
        argv += ["--reports-to", self._reports.name, *self._config.args]
        seed = self._config.getoption("randomly_seed", None)
        argv += [f"--randomly-seed={seed}"] if isinstance(seed, int) else []
        self._process = subprocess.Popen(
            argv,
            cwd=self._config.rootpath,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        here = [item for item in items if not item.get_closest_marker(self._marker)]
        self._elsewhere = len(items) - len(here)
        items[:] = here

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        session.testscollected += self._elsewhere  # what per cent are counted of

    # Innermost: coverage collects the data of other processes around us.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        result = yield
        assert self._process is not None
        code = self._process.wait(LIMIT_S)
        hook = self._config.hook
        taken = 0
        for line in self._reports:
            report = hook.pytest_report_from_serializable(
                config=self._config, data=json.loads(line)
            )
            if report.when == "setup":
                hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
            hook.pytest_runtest_logreport(report=report)
            taken += report.when == "teardown"
        # 0: all passed, 1: some did not, 5: there were none.
        if code not in (0, 1, 5) or taken != self._elsewhere:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
            pytest.exit(f"{said}\nthe tests beside ended with {code} after {taken} tests", 1)
        return result

    def pytest_unconfigure(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(LIMIT_S)
        self._said.close()
        self._reports.close()
