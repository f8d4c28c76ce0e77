# SPDX-License-Identifier: BSD-3-Clause
"""The srun launcher fulfils its contract, over a strict stand-in for Slurm. A real one: tests/cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import psutil
import pytest

import fakeslurm
from screen import END_OF_INPUT, Screen
from scrjob._context import system_context
from scrjob.errors import CommandError, NotInAllocationError, UsageError
from scrjob.launchers.srun import SRUN
from scrjob.model import Said
from scrjob.testing.contracts import JobLauncherContract

NODES = ["n08", "r1n2", "a-b.c"]
LIMIT_S = 20.0
SLEEP = ["sleep", "600"]


class World:
    """An allocation of the stand-in."""

    def __init__(self, place: Path) -> None:
        self.nodes = list(NODES)
        self.scratch = place / "scratch"
        self.scratch.mkdir()
        self.state = place / "state"
        self.environ = fakeslurm.install(place / "bin", self.state, NODES)

    def launcher(self, **environ: str) -> SRUN:
        launcher = SRUN()
        launcher.bind(system_context({**self.environ, **environ}))
        launcher.hostfile = str(self.scratch / "hostfile")
        return launcher

    def args(self, program: Sequence[str], *, nodes: int) -> list[str]:
        return ["-N", str(nodes), "-n", str(nodes), *program]

    def node_of(self, record: Any) -> str:
        return str(record["environ"]["SLURMD_NODENAME"])

    def calls(self, tool: str) -> list[list[str]]:
        return [words for name, *words in fakeslurm.calls(self.state) if name == tool]

    def end(self) -> None:
        """End what a failed test has left."""
        for step in fakeslurm.steps(self.state):
            for pid in (*step["ranks"], step["pid"]):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are Python programs, which on a busy machine start slowly."""
    monkeypatch.setattr("scrjob.launchers.srun.ASK_LIMIT_S", LIMIT_S)
    monkeypatch.setattr("scrjob.launchers.srun.CANCEL_LIMIT_S", LIMIT_S)


def eventually(question: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (answer := question()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return answer


class TestSrun(JobLauncherContract):
    capabilities = frozenset({"signals", "step_nodes", "nodes_wanted"})


class TestSrunWithoutItsMessages(JobLauncherContract):
    capabilities = frozenset({"signals", "step_nodes", "nodes_wanted"})

    @pytest.fixture
    def world(self, world: World) -> World:
        launcher = world.launcher

        def deaf(**environ: str) -> SRUN:
            made = launcher(**environ)
            made.heeds_messages = False
            return made

        world.launcher = deaf  # type: ignore[method-assign]
        return world


def test_both_lists_reach_srun(world: World) -> None:
    """Lesson B2: and every node of the allocation is in one of them."""
    step, _ = world.launcher().launch_run(["-N1", "true"], ["r1n2", "n08"], ["n08"])
    assert step.wait(LIMIT_S) == 0
    assert world.calls("srun") == [
        ["--nodelist=r1n2", "--exclude=a-b.c,n08", "--kill-on-bad-exit=1", "-N1", "true"]
    ]


def test_without_lists_the_words_go_to_srun_unchanged(world: World) -> None:
    launcher = world.launcher(SLURM_JOB_ID="")
    step, _ = launcher.launch_run(["-N1", "--surprise", "x", "true"])
    assert step.wait(LIMIT_S) == fakeslurm.EXIT_UNKNOWN_CALL
    assert world.calls("srun")[-1] == ["-N1", "--surprise", "x", "true"]
    assert launcher.chosen_nodes(step) is None
    assert launcher.step_nodes(step) is None


def test_the_step_is_known_by_its_srun(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    assert eventually(lambda: launcher.jobstep_id(step.pid)) == "7.0"
    assert launcher.rank_environ(step) == {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    assert launcher.step_nodes(step) == ["n08"]
    assert launcher.jobstep_id(os.getpid()) is None
    launcher.kill_run(step)
    assert launcher.exit_status(step).code == 143
    assert launcher.step_nodes(step) == ["n08"], "what was seen is not forgotten"


def test_the_term_before_the_end(world: World) -> None:
    """Lesson A9: TERM to the whole step, a deadline, then its cancellation."""
    launcher = world.launcher()
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    step, _ = launcher.launch_run(["-N1", sys.executable, "-c", stubborn], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    launcher.kill_run(step)
    assert world.calls("scancel") == [["--signal=TERM", "7.0"], ["7.0"]]
    assert step.poll() == 137


def test_an_abandoned_step_gets_no_grace(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N2", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    launcher.abandon_run(step, ["n08"])
    assert world.calls("scancel") == [["7.0"]]
    assert step.poll() is not None
    launcher.abandon_run(step, ["n08"])
    assert world.calls("scancel") == [["7.0"]]


def runs(pid: int) -> bool:
    """A dead process that nobody has collected does not run."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def break_tool(world: World, tool: str, script: str) -> None:
    path = world.state.parent / "bin" / tool
    path.unlink()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_controller_that_does_not_answer_holds_nobody_up(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrjob.launchers.srun.CANCEL_LIMIT_S", 1.5)
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    break_tool(world, "scancel", "exec sleep 600")
    began = time.monotonic()
    launcher.abandon_run(step, ["n08"])
    assert time.monotonic() - began < 4.0
    assert step.poll() is not None
    assert "does not cancel step 7.0" in caplog.text


def test_a_step_that_srun_never_got_is_given_up(world: World) -> None:
    """Another step has the node."""
    launcher = world.launcher()
    first, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(first))
    second, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    assert launcher.step_nodes(second) is None
    launcher.kill_run(second)
    assert second.poll() == -signal.SIGTERM
    assert not world.calls("scancel")
    launcher.kill_run(first)


def test_beside_what_a_dead_node_left_a_step_overlaps(world: World) -> None:
    """Lesson A23: the CPUs of a step that lost a node are not free for minutes; nobody waits for that."""
    launcher = world.launcher()
    first, _ = launcher.launch_run(["-N2", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(first))
    second, _ = launcher.launch_run(["-N2", "true"], NODES, ["n08"])
    assert second.wait(LIMIT_S) == 0
    assert "--overlap" not in world.calls("srun")[0]
    assert "--overlap" in world.calls("srun")[1]
    launcher.kill_run(first)


def test_beside_a_step_of_somebody_else_it_does_not(world: World) -> None:
    launcher = world.launcher()
    other, _ = launcher.launch_run(["-N1", *SLEEP], ["a-b.c"], [])
    eventually(lambda: launcher.step_nodes(other))
    step, _ = launcher.launch_run(["-N1", "true"], NODES, ["r1n2"])
    assert step.wait(LIMIT_S) == 0
    assert "--overlap" not in world.calls("srun")[1]
    launcher.kill_run(other)


def test_without_an_answer_a_step_that_must_avoid_nodes_overlaps(world: World) -> None:
    break_tool(world, "scontrol", "exit 1")
    for bad, overlaps in ([], False), (["n08"], True):
        step, _ = world.launcher().launch_run(["-N1", "true"], NODES, bad)
        step.wait(LIMIT_S)
        assert ("--overlap" in world.calls("srun")[-1]) is overlaps


def test_a_killed_srun_is_no_ended_step(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    os.kill(step.pid, signal.SIGKILL)
    step.wait(LIMIT_S)
    launcher.kill_run(step)
    assert ["7.0"] in world.calls("scancel")


def test_messages_are_told(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", "sh", "-c", "exit 9"], NODES, [])
    assert launcher.wait_run(step, LIMIT_S) == (True, False)
    (message,) = launcher.messages(step)
    assert (message.said, message.node) == (Said.TASK_FAILED, "n08")


def test_messages_that_are_not_heeded_are_not_read(world: World) -> None:
    launcher = world.launcher()
    launcher.heeds_messages = False
    step, _ = launcher.launch_run(["-N1", "sh", "-c", "exit 9"], NODES, [])
    assert launcher.wait_run(step, LIMIT_S) == (True, False)
    assert launcher.messages(step) == []
    assert step.tee is None


def test_an_end_by_ourselves_is_no_cancellation_by_others(world: World) -> None:
    launcher = world.launcher()
    said = "slurmstepd: error: *** STEP 7.0 ON n08 CANCELLED AT 2026-01-01T00:00:00 ***"
    trap = f"trap 'echo \"{said}\" >&2; exit 1' TERM; while :; do sleep 0.05; done"
    for kill in True, False:
        step, _ = launcher.launch_run(["-N1", "sh", "-c", trap], NODES, [])
        eventually(lambda step=step: launcher.step_nodes(step))
        if kill:
            launcher.kill_run(step)
        else:
            subprocess.run(["scancel", "--signal=TERM", "7.1"], env=world.environ, check=True)
        step.wait(LIMIT_S)
        told = [message.said for message in launcher.messages(step)]
        assert (Said.CANCELLED in told) is not kill


def test_nor_is_an_end_of_what_lost_a_node(world: World) -> None:
    launcher = world.launcher()
    said = "slurmstepd: error: *** STEP 7.0 ON n08 CANCELLED AT 2026-01-01T00:00:00 ***"
    text = f'echo "{said}" >&2; exec sleep 600'
    step, _ = launcher.launch_run(["-N1", "sh", "-c", text], NODES, [])
    eventually(lambda: [message.said for message in launcher.messages(step)] == [Said.CANCELLED])
    launcher.abandon_run(step, ["n08"])
    assert Said.CANCELLED not in [message.said for message in launcher.messages(step)]


def test_an_exit_code_above_128_is_a_code_if_srun_says_so(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", "sh", "-c", "exit 139"], NODES, [])
    step.wait(LIMIT_S)
    assert launcher.exit_status(step) == (139, None)


def test_the_first_failure_is_the_steps(world: World) -> None:
    """The others were ended for it, and srun's own code tells how those ended."""
    launcher = world.launcher()
    text = 'test "$SLURM_PROCID" = 0 || exit 7; exec sleep 600'
    step, _ = launcher.launch_run(["-N2", "sh", "-c", text], NODES, [])
    assert step.wait(LIMIT_S) == 137
    assert launcher.exit_status(step) == (7, None)


def test_long_lists_are_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrjob._slurm.ARGUMENT_BYTES", 8)
    break_tool(world, "srun", f'printf "%s\\n" "$@" > {world.scratch}/words')
    step, _ = world.launcher().launch_run(["-N2", "true"], NODES, ["n08"])
    step.wait(LIMIT_S)
    nodelist, exclude, *_ = (world.scratch / "words").read_text().splitlines()
    hostfile = world.scratch / "hostfile"
    assert nodelist == f"--nodelist={hostfile}.nodelist.0"
    assert exclude == "--exclude=n08"
    assert Path(f"{hostfile}.nodelist.0").read_text() == "a-b.c\nr1n2\n"


def test_lists_of_the_user_may_be_files(world: World) -> None:
    (world.scratch / "bad").write_text("n08\n")
    step, _ = world.launcher().launch_run(["-N1", "-x", f"{world.scratch}/bad", "true"], NODES, [])
    assert step.chosen == ["r1n2"]
    assert step.wait(LIMIT_S) == 0


def test_srun_is_asked_for_options_that_we_do_not_know(world: World) -> None:
    help_text = "      --image=NAME   a site's own"
    break_tool(world, "srun", f'test "$1" = --help && echo "{help_text}" && exit; exit 5')
    launcher = world.launcher()
    assert launcher.nodes_wanted(["--image", "x", "-N2", "true"]) == 2
    assert launcher.nodes_wanted(["--sound", "-N2", "true"]) == 2
    break_tool(world, "srun", "exit 1")
    assert launcher.nodes_wanted(["--image", "x", "-N2", "true"]) == 2, "it is asked once"


def test_a_srun_that_cannot_be_asked_is_no_obstacle(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = world.launcher(PATH="/nowhere")
    assert launcher.nodes_wanted(["--sound", "-N2", "true"]) == 2
    assert "cannot be asked" in caplog.text


def test_srun_is_missing(world: World) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CommandError, match="srun"):
        world.launcher(PATH="/nowhere").launch_run(["-N1", "true"], NODES, [])
    assert os.listdir("/proc/self/fd") == before


def test_outside_an_allocation_no_nodes_can_be_chosen(world: World) -> None:
    launcher = world.launcher(SLURM_JOB_ID="")
    with pytest.raises(NotInAllocationError, match="SLURM_JOB_ID"):
        launcher.launch_run(["-N1", "true"], NODES, [])
    assert launcher.end_orphan("x:1") is False


def test_too_few_nodes_start_nothing(world: World) -> None:
    with pytest.raises(UsageError, match="3 nodes wanted, 2 can be used"):
        world.launcher().launch_run(["-N3", "true"], NODES, ["n08"])
    assert world.calls("srun") == []


GIVING_UP = "echo 'srun: error: Timed out waiting for job step to complete' >&2"


def test_a_srun_that_gave_up_is_no_success(world: World) -> None:
    """Seen with a step that was cancelled in its first moment: srun ended with 0, the tasks ran on."""
    launcher = world.launcher()
    first, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(first))
    (real,) = fakeslurm.steps(world.state)
    srun = world.state.parent / "bin" / "srun"
    kept = srun.read_text()
    break_tool(world, "srun", GIVING_UP)
    second, _ = launcher.launch_run(["-N1", "true"], ["r1n2"], [])
    assert launcher.wait_run(second, LIMIT_S) == (True, False)
    assert launcher.exit_status(second) == (1, None)
    second.number = str(real["number"])  # as if it had been its step
    srun.write_text(kept)
    third, _ = launcher.launch_run(["-N1", "true"], NODES, [])
    assert world.calls("scancel") == [["7.0"]], "what runs on is ended"
    assert first.wait(LIMIT_S) == 137
    assert third.wait(LIMIT_S) == 0


def test_a_cancellation_that_was_missed_is_repeated(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    scancel = world.state.parent / "bin" / "scancel"
    missed = world.scratch / "missed"
    real = scancel.with_name("real-scancel")
    scancel.rename(real)
    scancel.touch()
    break_tool(world, "scancel", f'test -e {missed} && exec {real} "$@"; touch {missed}')
    (rank,) = fakeslurm.steps(world.state)[0]["ranks"]
    launcher.abandon_run(step, ["n08"])
    assert world.calls("scancel") == [["7.0"]], "the second one"
    eventually(lambda: not runs(rank))


def test_a_step_that_outlives_its_cancelled_srun_is_cancelled_again(world: World) -> None:
    launcher = world.launcher()
    step, _ = launcher.launch_run(["-N1", *SLEEP], NODES, [])
    eventually(lambda: launcher.step_nodes(step))
    (listed,) = fakeslurm.steps(world.state)
    scancel = world.state.parent / "bin" / "scancel"
    missed = world.scratch / "missed"
    real = scancel.with_name("real-scancel")
    scancel.rename(real)
    scancel.touch()
    ends_srun = f"touch {missed}; kill -KILL {listed['pid']}"
    break_tool(world, "scancel", f'test -e {missed} && exec {real} "$@"; {ends_srun}')
    launcher.abandon_run(step, ["n08"])
    (rank,) = listed["ranks"]
    eventually(lambda: not runs(rank))


# -- the terminal ---------------------------------------------------------------------------------

TYPING = """
import select, sys, time
from scrjob._context import system_context
from scrjob.launchers.srun import SRUN
launcher = SRUN()
launcher.bind(system_context())
nodes = sys.argv[1].split()
step, _ = launcher.launch_run(sys.argv[2:], *([nodes, []] if nodes else []))
print("up" if step.typed else "not read", flush=True)
step.wait(20)
print("ended", flush=True)
select.select([0], [], [], 20)
time.sleep(0.3)  # who takes it from us has done so by then
print("over", input(), flush=True)
"""


def test_what_is_typed_reaches_the_step_and_then_us_again(world: World) -> None:
    """Lesson B9: srun takes nothing from a terminal whose foreground it is not."""
    argv = [sys.executable, "-c", TYPING, " ".join(NODES), "-N1", "head", "-n1"]
    screen = Screen(argv, dict(world.environ))
    screen.wait(b"up\r\n")
    screen.type(b"hello\n")
    screen.wait(b"hello\r\nhello\r\nended\r\n")
    screen.type(b"later\n")
    assert screen.code() == 0
    assert b"over later\r\n" in screen.seen


def test_the_end_of_input_reaches_the_step(world: World) -> None:
    argv = [sys.executable, "-c", TYPING, " ".join(NODES), "-N1", "cat"]
    screen = Screen(argv, dict(world.environ))
    screen.wait(b"up\r\n")
    screen.type(END_OF_INPUT)
    screen.wait(b"ended\r\n")
    screen.type(b"x\n")
    screen.wait(b"over x\r\n")
    assert screen.code() == 0


@pytest.mark.parametrize("nodes", [" ".join(NODES), ""])
def test_a_program_with_the_terminal_itself_is_left_alone(world: World, nodes: str) -> None:
    """Also when it is passed through."""
    argv = [sys.executable, "-c", TYPING, nodes, "-N1", "--pty", "true"]
    screen = Screen(argv, dict(world.environ))
    screen.wait(b"not read\r\n")
    screen.type(b"x\n")
    assert screen.code() == 0


# -- what a dead supervisor left ------------------------------------------------------------------

STARTER = """
import json, os, sys, time
from scrjob._context import system_context
from scrjob.launchers.srun import SRUN
launcher = SRUN()
launcher.bind(system_context())
step, _ = launcher.launch_run(["-N1", "sleep", "600"], sys.argv[2].split(), [])
while not launcher.step_nodes(step):
    time.sleep(0.01)
with open(sys.argv[1] + ".part", "w") as file:
    json.dump([launcher.step_record(step), step.pid], file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""


def abandoned(world: World, name: str, job: str, nodes: str) -> tuple[str, int]:
    """Start a step from a process that is then killed; return its record and the srun's process id."""
    note = world.scratch / name
    environ = {**world.environ, "SCR_JOB_ID": job, "SCR_PREFIX": str(world.scratch)}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(note), nodes], env=environ
    ) as starter:
        eventually(note.exists)
        starter.kill()
    record, pid = json.loads(note.read_text())
    return record, pid


@pytest.mark.parametrize("srun_lives", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_left_step_is_ended_and_no_other(world: World, srun_lives: bool, recorded: bool) -> None:
    record, pid = abandoned(world, "ours", "one", "n08")
    _, other = abandoned(world, "theirs", "two", "r1n2")
    if not srun_lives:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not runs(pid))
    ours, theirs = (step["ranks"][0] for step in fakeslurm.steps(world.state))
    launcher = world.launcher(SCR_JOB_ID="one", SCR_PREFIX=str(world.scratch))
    assert launcher.end_orphan(record if recorded else "") is True
    eventually(lambda: not runs(ours))
    assert not runs(pid)
    assert runs(theirs)
    assert runs(other)
    assert world.calls("scancel") == [["7.0"]]


def test_a_left_srun_that_waits_for_its_step_is_ended(world: World) -> None:
    """Or it would get one when the nodes are free, beside the step of who comes after."""
    prefix = str(world.scratch)
    theirs = world.launcher(SCR_JOB_ID="two", SCR_PREFIX=prefix)
    other, _ = theirs.launch_run(["-N1", *SLEEP], ["n08"], [])
    eventually(lambda: fakeslurm.steps(world.state))
    ours = world.launcher(SCR_JOB_ID="one", SCR_PREFIX=prefix)
    left, _ = ours.launch_run(["-N1", *SLEEP], ["n08"], [])
    eventually(lambda: len(world.calls("srun")) == 2)
    assert world.launcher(SCR_JOB_ID="one", SCR_PREFIX=prefix).end_orphan("") is True
    assert left.wait(LIMIT_S) == -signal.SIGKILL
    assert other.poll() is None
    assert not world.calls("scancel")
    theirs.kill_run(other)


def test_nothing_was_left(world: World) -> None:
    launcher = world.launcher(SCR_JOB_ID="one", SCR_PREFIX=str(world.scratch))
    assert launcher.end_orphan("") is False
    assert launcher.end_orphan("login:1") is False


def test_the_next_step_overlaps_what_was_left(world: World) -> None:
    record, pid = abandoned(world, "ours", "one", "n08")
    os.kill(pid, signal.SIGKILL)
    launcher = world.launcher(SCR_JOB_ID="one", SCR_PREFIX=str(world.scratch))
    assert launcher.end_orphan(record)
    step, _ = launcher.launch_run(["-N1", "true"], NODES, [])  # the stand-in's list still has it
    assert step.wait(LIMIT_S) == 0
    assert "--overlap" in world.calls("srun")[-1]
