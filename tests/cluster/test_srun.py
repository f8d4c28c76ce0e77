# SPDX-License-Identifier: BSD-3-Clause
"""Steps of a real Slurm, started and ended by the srun launcher."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from plainjob import compile_mpi
from rig import Rig
from scrjob._slurm import fold_nodes
from scrjob.launchers import _srun_options as options
from scrjob.testing.contracts import JobLauncherContract

HERE = Path(__file__).parent
CONTRACT = HERE / "inside_srun_contract.py"
SCENES = HERE / "srun_inside.py"
NAMES = [name for name in dir(JobLauncherContract) if name.startswith("test_")]
LIMIT_S = 90.0


class Inside:
    """Plays a scene in an allocation of five nodes, in a directory of its own."""

    def __init__(self, rig: Rig, place: Path) -> None:
        self.rig = rig
        self.place = place
        self.stderr = ""

    def play(self, *words: str, meanwhile: Optional[Callable[[], None]] = None) -> Any:
        """Return what the scene saw. ``meanwhile`` is called when it is ready."""
        running = self.rig.salloc_start(
            5, [sys.executable, SCENES, *words], ["--exclusive"], cwd=str(self.place)
        )
        if meanwhile is not None:
            self.rig.wait_for((self.place / "ready").exists, "the scene")
            meanwhile()
        out, self.stderr = running.output(LIMIT_S)
        assert running.popen.returncode == 0, self.stderr
        return json.loads(out)

    def leave(self, name: str) -> None:
        (self.place / name).touch()


@pytest.fixture
def inside(rig: Rig, tmp_path: Path) -> Inside:
    return Inside(rig, tmp_path)


# -- the contract ---------------------------------------------------------------------------------

_failures: dict[str, str] = {}


@pytest.mark.parametrize("name", NAMES)
def test_the_contract(name: str, rig: Rig, tmp_path: Path) -> None:
    """All of it is run once, inside an allocation of three nodes."""
    if not _failures:
        root = HERE.parents[1]
        words = ["-q", "-rA", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tmp", CONTRACT]
        pytest_ = [sys.executable, "-m", "pytest", *words]
        told = rig.salloc(3, pytest_, ["--exclusive"], timeout=LIMIT_S, cwd=str(root)).stdout
        passed = set(re.findall(r"^PASSED .*::(\w+)$", told, re.MULTILINE))
        _failures.update({each: "" if each in passed else told for each in NAMES})
    if _failures[name]:
        pytest.fail(_failures[name], pytrace=False)


# -- the words --------------------------------------------------------------------------------------


def test_the_table_of_options_is_sruns(rig: Rig, tmp_path: Path) -> None:
    """``--NAME -V``: the version is not told if it was taken for the option's value."""
    script = tmp_path / "ask.sh"
    lines = [
        f"echo {name}; srun --{name} -V 2>&1; srun --{name}=x -V 2>&1" for name in options._LONG
    ]
    lines += [
        f"echo {letter}; srun -{letter} -V 2>&1; srun -{letter}x -V 2>&1"
        for letter in options._SHORT
    ]
    script.write_text("\n".join([*lines, ""]))
    answers = rig.run(["sh", script]).stdout
    known = 0
    for name in [*options._LONG, *options._SHORT]:
        said = re.search(rf"^{name}\n(.*?)(?=^[\w-]+\n|\Z)", answers, re.DOTALL | re.MULTILINE)
        assert said, name
        if "unrecognized option" in said[1] or name in ("help", "usage", "h", "V", "version"):
            continue  # of a newer Slurm; or it answers before it reads on
        known += 1
        first = said[1].split("\n")[0]
        taken = not first.startswith("slurm")
        kind = options._LONG[options._SHORT.get(name, name)]
        assert taken is (kind is options.NEEDED), f"{name}: {said[1]}"
        if len(name) > 1 and kind is options.NONE:
            assert "doesn't allow an argument" in said[1], name
    assert known > 140


def test_slurm_understands_our_lists(rig: Rig) -> None:
    names = [f"r{rack}n{node:02}-ib" for rack in (1, 2) for node in range(8, 12)]
    names += [f"x{cabinet}s{slot}" for cabinet in (1000, 1001) for slot in range(3)]
    names += ["a-b.c", "ip-10-0-1-5", "ip-10-0-1-6"]
    told = rig.run(["scontrol", "show", "hostnames", fold_nodes(names)], check=True).stdout
    assert sorted(told.split()) == sorted(names)


def test_lists_of_nodes_may_be_files(inside: Inside) -> None:
    seen = inside.play("lists")
    assert seen == [[True, True], ["ran.n2", "ran.n4"], "n2\nn4\n", "n1\nn3\nn5\n"]


def test_parts_of_a_step_have_nodes_of_their_own(inside: Inside) -> None:
    seen = inside.play("parts")
    assert seen["ran"] == {"a": ["n2", "n3"], "b": ["n4"]}
    assert seen["nodes"] == ["n2", "n3", "n4"]
    assert seen["code"] == 143


def test_stdin_and_output_are_the_users(rig: Rig, tmp_path: Path) -> None:
    """Lesson B9."""
    done = rig.salloc(
        2,
        ["scr_srun", "-N1", "cat"],
        ["--exclusive"],
        input="one\ntwo",
        environ={"SCR_PREFIX": str(tmp_path), "SCR_NODE_TESTS": "resmgr"},
    )
    assert (done.returncode, done.stdout) == (0, "one\ntwo")


def test_what_is_typed_reaches_the_program(inside: Inside) -> None:
    """srun takes nothing from a terminal whose foreground it is not. Lesson B9."""
    assert inside.play("terminal", "cat")["code"] == 0


def test_an_interrupt_typed_is_ours(inside: Inside) -> None:
    """Lesson A13: the first asks, the second ends the step."""
    seen = inside.play("terminal", "sleep")
    assert seen["code"] == 130
    assert "second interrupt: ending the run now" in seen["seen"]
    no_beat(inside.rig, "n1")


def test_a_program_may_have_the_terminal_itself(inside: Inside) -> None:
    assert inside.play("terminal", "python")["code"] == 5


def test_spare_nodes_in_a_batch_job_that_counts_tasks_a_node(rig: Rig, tmp_path: Path) -> None:
    """srun alone refuses it: it wants the tasks of three nodes on two."""
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/sh\nexport SCR_PREFIX={tmp_path} SCR_NODE_TESTS=resmgr\n"
        f"srun -N2 hostname > {tmp_path}/plain 2>&1\n"
        f"scr_srun -N2 hostname > {tmp_path}/ours\n"
    )
    where = f"--output={tmp_path}/out"
    rig.run(["sbatch", "--wait", "-N3", "--ntasks-per-node=2", where, script], check=True)
    assert "More processors requested than permitted" in (tmp_path / "plain").read_text()
    assert sorted((tmp_path / "ours").read_text().split()) == ["n1", "n1", "n2", "n2"]


def test_inside_a_step_its_shape_is_not_taken(rig: Rig, tmp_path: Path) -> None:
    script = f"SCR_PREFIX={tmp_path} SCR_NODE_TESTS=resmgr scr_srun --overlap -N3 hostname"
    done = rig.salloc(3, ["srun", "-N1", "-n1", "sh", "-c", script], ["--exclusive"])
    assert sorted(done.stdout.split()) == ["n1", "n2", "n3"]


# -- what is told -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["-N2", "true"], [], [0, None]),
        (
            ["-N2", "sh", "-c", "test $SLURM_PROCID = 0 || exit 7; exec sleep 60"],
            [["TASK_FAILED", "n2"], ["TASK_FAILED", "n1"]],
            [7, None],
        ),
        (
            ["-N1", "sh", "-c", "kill -11 $$; sleep 60"],
            [["TASK_FAILED", "n1"]],
            [139, 11],
        ),
        (
            [
                "-N1",
                "sh",
                "-c",
                "(sleep 0.5; scancel $SLURM_JOB_ID.$SLURM_STEP_ID) & exec sleep 60",
            ],
            [["CANCELLED", None], ["TASK_FAILED", "n1"]],
            [137, 9],
        ),
        (["-N1", "-n99", "true"], [["NOT_STARTED", None]], [1, None]),
    ],
    ids=["success", "exit code", "signal", "cancelled", "too many tasks"],
)
def test_what_srun_says_is_understood(
    inside: Inside, words: list[str], said: list[Any], status: list[Any]
) -> None:
    seen = inside.play("messages", *words)
    assert seen == {"said": said, "status": status}


def test_ranks_are_known_by_their_environment(inside: Inside) -> None:
    seen: list[str] = []

    def look() -> None:
        find = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ | grep -cxF -f marks; done"
        seen.extend(inside.rig.exec("n2", ["sh", "-c", find], cwd=str(inside.place)).stdout.split())
        inside.leave("looked")

    assert set(inside.play("marked", meanwhile=look)) == {"SLURM_JOB_ID", "SLURM_STEP_ID"}
    assert seen.count("2") >= 1


# -- the end of a step ------------------------------------------------------------------------------


def no_beat(rig: Rig, *hosts: str) -> None:
    """The tasks are gone from these hosts."""
    for host in hosts:
        rig.wait_for(
            lambda host=host: rig.exec(host, ["pgrep", "-f", "beat[.]"]).returncode == 1,
            f"the end of the tasks on {host}",
        )


def test_a_step_with_a_dead_node_is_left_in_a_moment(inside: Inside, tmp_path: Path) -> None:
    """Lesson A23: MPI ranks run elsewhere while the old step is still listed, with the CPUs of n1."""
    program = compile_mpi(tmp_path)

    def die() -> None:
        inside.rig.kill("n2")
        inside.leave("dead")

    seen = inside.play("abandon", "--mpi=pmix", "-n4", program, meanwhile=die)
    assert seen["abandon"] < 3.0
    assert seen["chosen"] == ["n1", "n3"]
    assert seen["finished"] == [True, True]
    assert seen["relaunch"] < 5.0
    assert seen["old step is listed"]
    no_beat(inside.rig, "n1")


@pytest.mark.parametrize(
    ("text", "longest", "code"), [("polite", 3.0, 143), ("stubborn", 9.0, 137)]
)
def test_a_step_is_ended_as_a_whole(inside: Inside, text: str, longest: float, code: int) -> None:
    """Lesson A9."""
    seen = inside.play("kill", text, meanwhile=lambda: inside.leave("broken"))
    assert seen["kill"] < longest
    assert seen["again"] < 0.1
    assert seen["code"] == code
    no_beat(inside.rig, "n1", "n2")


def test_a_node_that_died_unnoticed_does_not_hold_up_the_end(inside: Inside) -> None:
    def die() -> None:
        inside.rig.kill("n2")
        inside.leave("broken")

    seen = inside.play("kill", "polite", meanwhile=die)
    assert seen["kill"] < 12.0
    no_beat(inside.rig, "n1")


def test_without_a_controller_a_step_is_ended_too(inside: Inside) -> None:
    # salloc cannot end its allocation without one either.
    starting = threading.Timer(12.0, inside.rig.start_service, ["slurmctld"])

    def stop() -> None:
        inside.rig.stop_service("slurmctld")
        starting.start()
        inside.leave("broken")

    seen = inside.play("kill", "polite", meanwhile=stop)
    starting.join()
    assert seen["kill"] < 12.0
    assert "does not cancel step" in inside.stderr
    no_beat(inside.rig, "n1", "n2")


@pytest.mark.parametrize("killed", ["supervisor", "srun too"])
def test_what_a_dead_supervisor_left_is_ended(inside: Inside, killed: str) -> None:
    """Two simulations in the allocation: the other one's step lives, and writes to nobody's stderr."""
    seen = inside.play("orphan", killed)
    assert seen["found"] is True
    assert seen["ended"] < 5.0
    assert seen["other lives"] is True


# -- ended by its id ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "least", "most", "code"),
    [("polite", 0.0, 5.0, 128 + 15), ("stubborn", 5.0, 12.0, 128 + 9)],
)
def test_lesson_a20_a_user_ends_a_step_by_its_id(
    kind: str, least: float, most: float, code: int, rig: Rig, inside: Inside
) -> None:
    """From another shell, outside of the allocation; other steps go on. The established command crashes."""
    seen: dict[str, Any] = {}

    def end() -> None:
        listed = rig.run(["squeue", "--steps", "--noheader", "--format=%i %N"], check=True).stdout
        ids = {nodes: step for step, nodes in map(str.split, listed.splitlines())}
        ours, theirs = ids["n[1-2]"], ids["n3"]
        began = time.monotonic()
        done = rig.run(["scr_kill_jobstep", "-l", "srun", "-j", ours])
        seen["took"] = time.monotonic() - began
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        for host in ("n1", "n2"):
            no_beat(rig, host)
        again = rig.run(["scr_kill_jobstep", "-l", "srun", "-j", ours])
        assert (again.returncode, again.stderr) == (
            1,
            f"scr_kill_jobstep: no step {ours}: it has ended, or there never was one\n",
        )
        assert rig.run(["scr_kill_jobstep", "-l", "srun", "-j", theirs]).returncode == 0
        unknown = rig.run(["scr_kill_jobstep", "-l", "srun", "-j", "999.0"])
        assert unknown.returncode == 1
        assert "Invalid job id specified" in unknown.stderr
        inside.leave("over")

    assert inside.play("two_steps", kind, meanwhile=end) == [code, 128 + 15]
    assert least <= seen["took"] < most


def test_a_step_that_a_dead_node_keeps_listed_is_ended_all_the_same(
    rig: Rig, inside: Inside
) -> None:
    """Its living ranks are gone, and the command says in time why it cannot promise more."""

    def end() -> None:
        listed = rig.run(["squeue", "--steps", "--noheader", "--format=%i %N"], check=True).stdout
        (step,) = [line.split()[0] for line in listed.splitlines() if line.endswith(" n[1-2]")]
        rig.kill("n2")
        began = time.monotonic()
        done = rig.run(["scr_kill_jobstep", "-l", "srun", "-j", step])
        assert time.monotonic() - began < 20.0
        assert (done.returncode, done.stdout) == (1, "")
        assert f"step {step} is cancelled, but Slurm lists it on" in done.stderr
        no_beat(rig, "n1")
        rig.run(["scr_kill_jobstep", "-l", "srun", "-j", f"{step.partition('.')[0]}.1"])
        inside.leave("over")

    first, second = inside.play("two_steps", "stubborn", meanwhile=end)
    assert first != 0
    assert second == 128 + 15
