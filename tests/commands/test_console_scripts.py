# SPDX-License-Identifier: BSD-3-Clause
"""Every console command is installed, starts, and answers a plea for help or a wrong option."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from scrjob import commands

# name -> exit codes of --help and of an option that does not exist; SCR's own small tools have no
# --help, or print their usage and end with the code of a usage error.
CODES = {
    "kvtree_print": (0, 1),
    "scr_check_node": (0, 1),
    "scr_ckpt_interval": (0, 1),
    "scr_copy": (1, 1),
    "scr_crc32": (1, 1),
    "scr_env": (0, 1),
    "scr_flush_file": (1, 1),
    "scr_halt": (0, 1),
    "scr_halt_cntl": (1, 1),
    "scr_have_restart": (0, 1),
    "scr_hostlist": (0, 1),
    "scr_index": (1, 1),
    "scr_inspect": (0, 1),
    "scr_inspect_cache": (1, 1),
    "scr_kill_jobstep": (0, 1),
    "scr_list_dir": (0, 1),
    "scr_list_down_nodes": (0, 1),
    "scr_local": (0, 64),
    "scr_log_event": (1, 1),
    "scr_log_transfer": (1, 1),
    "scr_nodes_file": (1, 1),
    "scr_postrun": (0, 1),
    "scr_poststage": (0, 1),
    "scr_prerun": (0, 1),
    "scr_print": (0, 1),
    "scr_rebuild_partner": (1, 1),
    "scr_rebuild_rs": (1, 1),
    "scr_rebuild_xor": (1, 1),
    "scr_retries_halt": (1, 0),
    "scr_run": (0, 64),
    "scr_scavenge": (0, 1),
    "scr_should_exit": (0, 1),
    "scr_srun": (0, 64),
}
BIN = Path(sys.executable).parent


def run(argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_table_the_modules_and_the_installed_scripts_agree() -> None:
    modules = {m.name for m in pkgutil.iter_modules(commands.__path__) if m.name[0] != "_"}
    scripts = {
        point.name
        for point in metadata.distribution("scrjob").entry_points
        if point.group == "console_scripts"
    }
    assert modules == scripts == set(CODES)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(("option", "which"), [("--help", 0), ("--no-such-option", 1)])
def test_a_command_answers(name: str, option: str, which: int, tmp_path: Path) -> None:
    done = run([str(BIN / name), option], tmp_path)
    assert done.returncode == CODES[name][which]
    # The established scr_copy has no help and says nothing.
    assert done.stdout + done.stderr or (name, option) == ("scr_copy", "--help")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == [], "asking made files"


def test_any_command_runs_without_its_script(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "scrjob", "scr_hostlist", "-c", "n[1-3]"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "3\n")


@pytest.mark.parametrize("argv", [[], ["scr_nonsense"], ["_shared"]])
def test_the_package_without_a_command_lists_them(argv: list[str], tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "scrjob", *argv], tmp_path)
    assert done.returncode == 64
    assert f"commands: {' '.join(sorted(CODES))}\n" in done.stderr
