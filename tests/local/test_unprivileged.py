# SPDX-License-Identifier: BSD-3-Clause
"""No root is needed: all of it as another user, for CI itself is root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scrjob

pytestmark = pytest.mark.local

SPARE_UID = 65534
TRIAL = """
set -e
exec 2>&1
test "$(id -u)" = "$1"
scr_local() { "$PY" -m scrjob scr_local "$@"; }
scr_local exec node1 sh -c 'echo mine > /dev/shm/f; cat /dev/shm/f; id -u; grep CapEff /proc/self/status'
scr_local exec node2 ls /dev/shm/f || echo unseen
scr_local fail node1
until scr_local status | grep -q '^node1 *dead'; do :; done
scr_local revive node1
scr_local exec node1 ls /dev/shm/f || echo gone
scr_local exec node1 touch /tmp/w; scr_local wipe node1; scr_local exec node1 ls /tmp/w || echo wiped
scr_local hang node2; scr_local revive node2; scr_local exec node2 hostname
"""


def interpreter() -> str:
    """Return a Python that the spare user may run: ours may lie in a directory that is closed to others."""
    for path in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if path and as_user(path, "-c", "").returncode == 0:
            return path
    pytest.skip("no Python here may be run by another user")


def as_user(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run as the spare user; through a shell: at setpriv's own exec root's capabilities are still there."""
    uid = str(SPARE_UID)
    return subprocess.run(
        [
            *("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"),
            *("sh", "-c", 'exec "$@"', "sh", *argv),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.unmeasured
@pytest.mark.skipif(os.getuid() != 0, reason="we are not root: every other test shows it")
def test_another_user_can_do_all_of_it(namespaces: None) -> None:
    python = interpreter()
    base = Path("/var/tmp") / f"scrjob-test-{os.getpid()}"
    base.mkdir()
    try:
        os.chown(base, SPARE_UID, SPARE_UID)
        package = base / "lib" / "scrjob"
        shutil.copytree(
            Path(scrjob.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
        )
        environ = {
            **os.environ,
            "HOME": str(base),
            "SCR_LOCAL_BASE": str(base),
            "PYTHONPATH": str(base / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PY": python,
        }
        done = as_user(
            *(python, "-m", "scrjob", "scr_local", "alloc", "-N2", "--"),
            *("sh", "-c", TRIAL, "sh", str(SPARE_UID)),
            cwd=base,
            env=environ,
        )
        said = [line for line in done.stdout.splitlines() if not line.startswith("ls: ")]
        assert said == [
            "mine",
            str(SPARE_UID),
            "CapEff:\t0000000000000000",
            "unseen",
            "gone",
            "wiped",
            "node2",
        ], done
        assert done.returncode == 0
        assert done.stderr == ""
    finally:
        shutil.rmtree(base)
