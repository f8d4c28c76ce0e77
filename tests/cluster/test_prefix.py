# SPDX-License-Identifier: BSD-3-Clause
"""A prefix directory that the nodes, or some of them, do not see is found before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rig import Rig

pytestmark = pytest.mark.cluster

JOB = ["scr_run", "srun", "-N2", "hostname"]


def test_a_prefix_of_the_login_host_is_refused(rig: Rig) -> None:
    """/tmp is each host's own."""
    done = rig.salloc(3, ["env", "SCR_PREFIX=/tmp/own", *JOB])
    assert (done.returncode, done.stdout) == (78, ""), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("salloc:")]
    assert "'/tmp/own' of login is not seen by 3 of 3 nodes (n[1-3])" in line


def test_a_node_on_which_it_is_not_mounted_is_left_out(rig: Rig, tmp_path: Path) -> None:
    odd = '/tmp/it\'s "mine"'
    for host in ("login", "n1", "n3"):
        rig.exec(host, ["mkdir", odd], check=True)
        rig.exec(host, ["mount", "--bind", str(tmp_path), odd], check=True)
    rig.exec("n2", ["mkdir", "-p", f"{odd}/.scr"], check=True)
    try:
        done = rig.salloc(3, ["env", f"SCR_PREFIX={odd}", *JOB])
    finally:
        for host in ("login", "n1", "n3"):
            rig.exec(host, ["umount", odd], check=True)
            rig.exec(host, ["rmdir", odd], check=True)
        rig.exec("n2", ["rm", "-r", odd], check=True)
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["n1", "n3"]), done.stderr
    assert "node n2 is out: does not see the prefix directory" in done.stderr
