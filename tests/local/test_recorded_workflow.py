# SPDX-License-Identifier: BSD-3-Clause
"""The established commands of a job, called as recorded on a real cluster: ours answer the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Iterator

import pytest

import recordedcalls
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = [pytest.mark.local, pytest.mark.mpi]

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data" / "recorded" / "calls.txt"
PROGRAM = ROOT / "tests" / "support" / "four_checkpoints.py"
WORKFLOW = (
    "scr_prerun",
    "scr_env",
    "scr_list_dir",
    "scr_list_down_nodes",
    "scr_should_exit",
    "scr_postrun",
    "scr_index",
    "scr_halt",
)
LAUNCH = """
import sys
from scrjob.launchers.local import LocalLauncher
launcher = LocalLauncher()
proc, step = launcher.launch_run(["-N", "4", "-n", "4", *sys.argv[1:]])
launcher.wait_run(proc)
sys.exit(launcher.exit_status(proc).code)
"""
NOISE = [
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"secs: \d+", "secs: N"),
    (r"start: \d+", "start: N"),
    # The recording has USER's environment only, and blank lines of the nodes' empty stderr.
    (r"\n+", "\n"),
]


def normal(text: str) -> str:
    for pattern, word in NOISE:
        text = re.sub(pattern, word, text)
    return text.strip()


@pytest.fixture(scope="module")
def here(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldAllocation]:
    tmp_path = tmp_path_factory.mktemp("workflow")
    prefix = tmp_path / "cmds"
    prefix.mkdir()
    with allocation(4, cwd=prefix, share=[ROOT]) as held:
        held.environ.update(
            USER="alice",
            SCR_JOB_ID="83",
            SCR_PREFIX=str(prefix),
            SCR_CACHE_BYPASS="0",
            SCR_FLUSH="0",
            SCR_COPY_TYPE="XOR",
        )
        yield held


def test_the_calls_of_a_job_in_their_order(here: HeldAllocation) -> None:
    prefix = here.environ["SCR_PREFIX"]
    wrong = []
    ran = False
    count = 0
    for call in recordedcalls.parse(RECORDED.read_text()):
        if call.argv[0] not in WORKFLOW or "node9" in call.argv or call.argv[1:] == ["-e"]:
            # node9 is of no allocation: the recorded reason is that of another default test.
            # Virtual nodes without a time limit say so, where the cluster's end was not known.
            continue
        if call.argv[0] == "scr_env" and not ran:
            # On the cluster the application had run by then.
            done = here.run([sys.executable, "-c", LAUNCH, sys.executable, str(PROGRAM)])
            assert done.returncode == 0, done.stderr
            ran = True
        argv = ["local" if word == "srun" else word for word in call.argv]
        done = here.run([sys.executable, "-m", "scrjob", *argv])
        expected = call.answer.stdout.replace("/p/scr/alice/cmds", prefix)
        if (normal(done.stdout.decode()), done.returncode) != (normal(expected), call.answer.code):
            wrong.append((argv, expected, done))
        count += 1
    assert not wrong
    assert count > 25
