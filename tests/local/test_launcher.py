# SPDX-License-Identifier: BSD-3-Clause
"""Job steps on virtual nodes, through MPICH and without: placement, exit codes, quick ends, no remains."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from scrjob._clock import SystemClock, wait_for
from scrjob._context import system_context
from scrjob.commands import scr_kill_jobstep, scr_local
from scrjob.errors import UsageError
from scrjob.launchers.local import LocalLauncher
from scrjob.localrm import _proc, steps
from scrjob.testing.local import HeldAllocation

pytestmark = pytest.mark.local

PLAIN = """
import os, signal, sys, time
rank = int(os.environ["SCR_LOCAL_RANK"])
"""
MPI = """
import os, signal, sys, time
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
MPI.COMM_WORLD.Barrier()
"""
KINDS = [
    pytest.param("none", PLAIN, id="plain"),
    pytest.param(
        "mpich",
        MPI,
        id="mpich",
        marks=[
            pytest.mark.mpi,
            pytest.mark.skipif(
                importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"
            ),
        ],
    ),
]
either = pytest.mark.parametrize(("mpi", "head"), KINDS)


class Steps:
    """Starts steps of 4 ranks on the first 2 nodes."""

    def __init__(self, here: HeldAllocation, directory: Path) -> None:
        self.here = here
        self.directory = directory
        self.launcher = LocalLauncher()
        self.launcher.bind(system_context(here.environ))

    def start(self, mpi: str, text: str, *args: str, **lists: list[str]):
        script = self.directory / "program.py"
        script.write_text(text)
        words = ["-N", "2", "-n", "4", f"--mpi={mpi}", sys.executable, str(script), *args]
        return self.launcher.launch_run(words, **lists)

    def wait(self, proc, limit_s: float = 20.0) -> int:
        finished, _ = self.launcher.wait_run(proc, limit_s)
        assert finished, "the step does not end"
        return proc.returncode

    def run(self, mpi: str, text: str, *args: str, **lists: list[str]) -> int:
        return self.wait(self.start(mpi, text, *args, **lists)[0])

    def start_waiting(self, mpi: str, head: str, before: str = ""):
        """Start a step whose ranks all wait; returns when all of them do."""
        for old in self.directory.glob("on*"):
            old.unlink()
        text = f"{head}{before}\nopen(f'on{{rank}}', 'w').close()\ntime.sleep(120)\n"
        proc, step = self.start(mpi, text)
        assert wait_for(
            lambda: len(list(self.directory.glob("on*"))) == 4, clock=SystemClock(), limit_s=20.0
        )
        return proc, step


@pytest.fixture
def on(here: HeldAllocation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    directory = Path(here.cwd)
    monkeypatch.chdir(directory)
    yield Steps(here, directory)
    for node in here.nodes:
        left = _proc.descendants(here.node(node).pid)
        assert left == [], f"left on {node}: {left}"


@either
def test_ranks_are_placed_in_blocks_on_the_first_usable_nodes(
    on: Steps, mpi: str, head: str
) -> None:
    """Lesson B2: both lists are honoured."""
    text = (
        head
        + "open(f'place{rank}', 'w').write(os.environ['SCR_LOCAL_NODE'] + os.environ['SCR_LOCAL_SIZE'])"
    )
    proc, step = on.start(
        mpi, text, nodes=["node4", "node3", "node2", "node1"], down_nodes=["node3"]
    )
    assert on.wait(proc) == 0
    found = [(on.directory / f"place{rank}").read_text() for rank in range(4)]
    assert found == ["node44", "node44", "node24", "node24"]
    assert on.launcher.step_nodes(step) == ["node4", "node2"]
    assert on.launcher.rank_pids(step) == {}
    status = on.launcher.exit_status(proc)
    assert status is not None
    assert status.success


@either
def test_words_pass_byte_for_byte(on: Steps, mpi: str, head: str) -> None:
    words = ["", ":", "a b", "'\"\\", "$HOME", "new\nline", "\udcff", "-n", "--", "é"]
    text = head + "\nimport json\nif rank == 3: json.dump(sys.argv[1:], open('words', 'w'))"
    assert on.run(mpi, text, *words) == 0
    assert json.loads((on.directory / "words").read_text()) == words


@either
def test_odd_environment_passes(on: Steps, mpi: str, head: str) -> None:
    value = "a 'b'\nc=\":\" \udcff"
    on.launcher.bind(system_context({**on.here.environ, "ODD": value}))
    text = head + "\nif rank == 3: open('odd', 'wb').write(os.environb[b'ODD'])"
    text += "\nassert not [name for name in os.environ if name.startswith('SLURM')]"
    assert on.run(mpi, text) == 0
    assert (on.directory / "odd").read_bytes() == os.fsencode(value)


ENDS = [
    ("sys.exit(7)", 7),
    ("if rank == 1: sys.exit(7)\ntime.sleep(60)", 7),
    ("if rank == 1: os._exit(7)\ntime.sleep(60)", 7),
    ("if rank == 2: raise ValueError('x')\ntime.sleep(60)", 1),
    ("if rank == 3: os.kill(os.getpid(), signal.SIGSEGV)\ntime.sleep(60)", 139),
    ("if rank == 0: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)", 137),
]


@either
@pytest.mark.parametrize(("text", "code"), ENDS)
def test_the_exit_code_is_that_of_the_first_rank_that_failed(
    on: Steps, mpi: str, head: str, text: str, code: int
) -> None:
    """Lesson A1: and the others, who wait for it, do not hang."""
    assert (
        on.run(
            mpi, f"import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{head}{text}"
        )
        == code
    )


@pytest.mark.mpi
def test_a_rank_in_a_collective_does_not_wait_for_a_dead_one(on: Steps) -> None:
    pytest.importorskip("mpi4py")
    text = MPI + "if rank == 1: raise ValueError('x')\nMPI.COMM_WORLD.Barrier()"
    assert on.run("mpich", text) == 1


@either
def test_a_nodes_death_ends_the_step_soon(on: Steps, mpi: str, head: str) -> None:
    """Lesson B7."""
    proc, _ = on.start_waiting(mpi, head)
    began = time.monotonic()
    on.here.fail("node2")
    assert on.wait(proc) == 137
    assert time.monotonic() - began < 3.0
    on.here.revive("node2")


@either
def test_kill_ends_all_of_the_step(on: Steps, mpi: str, head: str) -> None:
    """Lesson A9: also ranks that ignore TERM, and what they detached."""
    on.launcher.kill_run(None)
    proc, step = on.start_waiting(
        mpi, head, "import subprocess\nsubprocess.Popen(['sleep', '99'], start_new_session=True)"
    )
    assert {node: len(pids) for node, pids in on.launcher.rank_pids(step).items()} == {
        "node1": 2,
        "node2": 2,
    }
    assert on.launcher.wait_run(proc, 0.01) == (False, None)
    on.launcher.kill_run(step)
    assert on.wait(proc, 1.0) == 143
    on.launcher.kill_run(step)


@either
def test_kill_needs_no_answer_of_a_stopped_node(on: Steps, mpi: str, head: str) -> None:
    proc, step = on.start_waiting(mpi, head)
    on.here.hang("node2")
    began = time.monotonic()
    on.launcher.kill_run(step)
    assert time.monotonic() - began < 4.0
    on.wait(proc, 1.0)
    assert steps.keepers(step) == []
    on.here.revive("node2")


@either
def test_a_step_whose_starter_was_killed_is_over(on: Steps, mpi: str, head: str) -> None:
    proc, step = on.start_waiting(mpi, head)
    os.kill(proc.pid, signal.SIGKILL)
    proc.wait()
    assert wait_for(lambda: not steps.keepers(step), clock=SystemClock(), limit_s=5.0)


def test_another_process_can_end_the_step(on: Steps) -> None:
    proc, step = on.start_waiting("none", PLAIN)
    other = LocalLauncher()
    other.bind(system_context(on.here.environ))
    record = on.launcher.step_record(step)
    assert other.end_orphan(record)
    on.wait(proc, 1.0)
    assert not other.end_orphan(record)
    assert not other.end_orphan("17.0")


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("text", ["", STUBBORN], ids=["polite", "stubborn"])
def test_lesson_a20_a_user_ends_a_step_by_its_id(
    on: Steps, where: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """From any shell of the user's on this machine; the established command crashes."""
    proc, step = on.start_waiting("none", PLAIN, text)
    name = on.launcher.step_record(step)
    if where == "inside":
        monkeypatch.setenv("SCR_LOCAL_DIR", on.here.environ["SCR_LOCAL_DIR"])
    shown = f"step {name} on node1,node2: {sys.executable} {on.directory}/program.py\n"
    assert scr_local.main(["status", "--job", on.here.job_id]) == 0
    assert shown in capsys.readouterr().out
    assert scr_local.main(["status", "--json", "--job", on.here.job_id]) == 0
    (row,) = json.loads(capsys.readouterr().out)["steps"]
    assert (row["id"], row["nodes"]) == (name, ["node1", "node2"])
    assert scr_kill_jobstep.main(["-l", "local", "-j", name]) == 0
    on.wait(proc, 1.0)
    assert steps.keepers(step) == []
    assert scr_kill_jobstep.main(["-l", "local", "-j", name]) == 1
    assert f"no step {name}: it has ended" in capsys.readouterr().err
    assert scr_kill_jobstep.main(["-l", "local", "-j", f"{on.here.job_id}.999"]) == 1
    scr_local.main(["status", "--job", on.here.job_id])
    assert "step" not in capsys.readouterr().out


def test_a_signal_to_the_step_reaches_the_ranks(on: Steps) -> None:
    text = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))"
    proc, _ = on.start_waiting("none", PLAIN, text)
    os.kill(proc.pid, signal.SIGUSR1)
    assert on.wait(proc) == 5


@either
def test_streams_are_the_users_own(on: Steps, mpi: str, head: str) -> None:
    """Lesson A19: output is live, and stdin goes to rank 0."""
    code = (
        "import sys; from scrjob.launchers.local import LocalLauncher as L; launcher = L();"
        "proc, step = launcher.launch_run(sys.argv[1:]); sys.exit(proc.wait())"
    )
    script = "read x; echo $SCR_LOCAL_RANK:$x; read y; echo err >&2; echo $y"
    user = on.here.start(
        [sys.executable, "-c", code, "-n", "2", "-N2", "--mpi", mpi, "sh", "-c", script],
        stdin=-1,
    )
    assert user.stdin is not None
    assert user.stdout is not None
    user.stdin.write(b"first\n")
    user.stdin.flush()
    lines = {user.stdout.readline() for _ in range(3)}
    assert lines == {b"0:first\n", b"1:\n", b"\n"}
    out, err = user.communicate(b"second\n", timeout=20)
    assert out == b"second\n"
    assert err == b"err\nerr\n"
    assert user.returncode == 0


def test_too_many_nodes_are_refused(on: Steps) -> None:
    with pytest.raises(UsageError, match="5 nodes wanted, 4 can be used"):
        on.launcher.launch_run(["-N", "5", "true"])
    with pytest.raises(UsageError, match="2 nodes wanted, 1 can be used"):
        on.launcher.launch_run(["-N", "2", "true"], nodes=["node1", "node2"], down_nodes=["node2"])


def test_what_the_nodes_cannot_see_is_refused(
    on: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "x.py"
    script.touch()
    with pytest.raises(UsageError, match=r"x\.py: the nodes cannot see it"):
        on.launcher.launch_run(["python3", str(script)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--share"):
        on.launcher.launch_run(["true"])


@either
def test_a_directory_that_only_ranks_miss_ends_the_step(on: Steps, mpi: str, head: str) -> None:
    """The node's own copy of the directory is gone: no rank can start, and nothing hangs."""
    gone = on.directory / "gone"
    gone.mkdir()
    os.chdir(gone)
    proc, _ = on.launcher.launch_run(["-n", "2", f"--mpi={mpi}", "sleep", "60"])
    gone.rmdir()
    assert on.wait(proc) != 0


def test_a_missing_program_gives_127(on: Steps) -> None:
    proc, _ = on.launcher.launch_run(["-n", "1", "--mpi=none", "/no/such"])
    assert on.wait(proc) == 127
