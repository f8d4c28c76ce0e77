# SPDX-License-Identifier: BSD-3-Clause
"""The example package, installed like anybody's: found by its entry points, used by the whole loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

from site_world import SiteWorld

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the package as pip installs it."""
    place = tmp_path_factory.mktemp("site-packages")
    source = place / "source"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    target = place / "target"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-index", "--no-build-isolation", "--target", target, source),
        ],
        check=True,
        timeout=100,
    )
    return target


class Site:
    """The imaginary site with the package installed."""

    def __init__(self, installed: Path, tmp_path: Path) -> None:
        self.world = SiteWorld(tmp_path)
        self.prefix = tmp_path / "prefix"
        for name in ("prefix", "cache", "home"):
            (tmp_path / name).mkdir()
        self.environ = {
            **self.world.environ,
            "PATH": f"{BIN}:{self.world.environ['PATH']}",
            "PYTHONPATH": str(installed),
            "HOME": str(tmp_path / "home"),
            "SCR_PREFIX": str(self.prefix),
            "SCR_CACHE_BASE": str(tmp_path / "cache"),
            "SCR_CNTL_BASE": str(tmp_path / "cache"),
        }

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.prefix,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def site(installed: Path, tmp_path: Path) -> Site:
    return Site(installed, tmp_path)


def test_commands_find_the_sites_allocation(site: Site) -> None:
    assert site.run(["scr_env", "--jobid"]).stdout == "77"
    assert site.run(["scr_env", "--nodes"]).stdout == ",".join(site.world.nodes)


def test_the_sites_own_node_test_is_run(site: Site) -> None:
    site.world.make_sick("r1n2")
    site.world.kill("a-b.c")
    done = site.run(["scr_list_down_nodes", "-j", "siterun", "--reason"])
    assert sorted(done.stdout.splitlines()) == [
        "a-b.c: no heartbeat",
        "r1n2: GPU 3 has fallen off the bus",
    ]


def test_the_run_loop_uses_the_healthy_nodes(site: Site) -> None:
    site.world.make_sick("n08")
    program = 'echo "on $SITE_NODE"; test -n "$SCR_JOB_ID"'
    done = site.run(["scr_run", "siterun", "-N", "2", "sh", "-c", program])
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "on a-b.c", "on r1n2"]


def test_the_programs_code_passes_through(site: Site) -> None:
    """Lesson A1: the application exits 7 and so does scr_run."""
    assert site.run(["scr_run", "siterun", "sh", "-c", "exit 7"]).returncode == 7
    assert os.listdir(site.prefix) == [".scr"]
