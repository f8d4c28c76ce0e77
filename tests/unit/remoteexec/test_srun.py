# SPDX-License-Identifier: BSD-3-Clause
"""Steps as a way to run commands: calls, answers, and what is done about refusals."""

from __future__ import annotations

import base64
import gzip
import re
import time
from typing import Any, Callable, Mapping, Optional, Sequence

import pytest

from scrjob._clock import SystemClock
from scrjob._process import CommandResult, SubprocessRunner
from scrjob.errors import CommandError, CommandTimeoutError, UsageError
from scrjob.hostlist import expand_hosts
from scrjob.remoteexec import RemoteExecResult
from scrjob.remoteexec._steps import (
    build_srun,
    error_about,
    in_arguments,
    no_step,
    parse_answers,
    parse_errors,
    step_environ,
)
from scrjob.remoteexec.srun import Srun, ask_tree_width
from scrjob.testing.fakes import FakeJobEnv, FakeRunner, fake_context, missing, said

REFUSED = (
    "srun: error: Unable to create step for job 7: Requested node configuration is not available\n"
)
NO_CONTROLLER = (
    "srun: error: Unable to confirm allocation for job 7: Unable to contact slurm controller\n"
)
ENVIRON = {"SLURM_JOB_ID": "7", "PATH": "/bin"}


def spoken(task: int, text: str, *first: str, end: str = "0") -> str:
    """Return what a task says on one stream."""
    body = base64.b64encode(gzip.compress(text.encode())).decode()
    lines = [*first, body, f"scrjob:end:{end};"]
    return "".join(f"{task:2}: {line}\n" for line in lines)


def step(nodes: Sequence[str], *, silent: Sequence[str] = (), text: str = "") -> CommandResult:
    """Return what srun says of a step on ``nodes``."""
    out = err = "srun: launching StepId=7.0 on host n1, 1 tasks: 0\n"
    for task, node in enumerate(nodes):
        if node not in silent:
            out += spoken(task, text or f"I am {node}", f"scrjob:begin {node}")
            err += spoken(task, "", "scrjob:begin")
    return said(["srun"], out, stderr=err)


def asked(argv: Sequence[str]) -> list[str]:
    (names,) = [word[len("--nodelist=") :] for word in argv if word.startswith("--nodelist=")]
    return expand_hosts(names)


def ask(
    script: Callable[[Sequence[str]], Any],
    nodes: Sequence[str],
    *,
    timeout_s: float = 5.0,
    environ: Mapping[str, str] = ENVIRON,
) -> tuple[RemoteExecResult, FakeRunner]:
    runner = FakeRunner(script)
    rexec = Srun().bounded(timeout_s)
    job = FakeJobEnv(context=fake_context(environ, runner=runner))
    return rexec.rexec(["echo", "x"], nodes, job), runner


def codes(result: RemoteExecResult) -> list[Optional[int]]:
    return [result.rc(node) for node in result.nodes()]


def test_a_step_takes_nothing_and_lasts_for_all() -> None:
    argv = build_srun(["n1", "n2"], ["echo", "a b"], 5.0)
    assert argv[:19] == [
        *("srun", "--verbose", "--job-name=scrjob-exec"),
        *("--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--nodelist=n[1-2]", "--immediate=3"),
        *("--overlap", "--mem=0", "--gres=none", "--mpi=none", "--cpu-bind=none"),
        *("--input=none", "--label", "--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
        "--export=ALL",
    ]
    assert argv[19:21] == ["sh", "-c"]
    assert argv[22:] == ["scrjob", "5", "echo", "a b"]


def test_options_of_the_users_own_steps_do_not_reach_ours() -> None:
    environ = {
        **ENVIRON,
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_CONF_SERVER": "ctl",
        "SLURM_CLUSTERS": "red,green",
        "SLURM_WORKING_CLUSTER": "green:ctl:6817:9728:109",
        "SLURM_NTASKS": "8",
        "SLURM_EXCLUSIVE": "1",
        "SRUN_CPUS_PER_TASK": "4",
        "SCR_PREFIX": "/p",
    }
    wanted = {
        **ENVIRON,
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_CONF_SERVER": "ctl",
        "SLURM_WORKING_CLUSTER": "green:ctl:6817:9728:109",
        "SCR_PREFIX": "/p",
    }
    assert step_environ(environ) == wanted
    _, runner = ask(lambda argv: step(asked(argv)), ["n1"], environ=environ)
    assert runner.options[0]["env"] == wanted


def test_each_node_says_itself_where_a_task_ran() -> None:
    lines = step(["n2", "n1"])
    answers = parse_answers(lines.stdout.splitlines(), lines.stderr.splitlines())
    assert set(answers) == {"n1", "n2"}
    assert answers["n2"][0][0] == "scrjob:begin n2"


def test_a_task_on_another_node_than_asked_is_no_answer() -> None:
    """Lesson A2: the command runs on the node, or the result says that it did not."""
    result, _ = ask(lambda _: step(["login1"]), ["n1"])
    assert codes(result) == [None]


def test_srun_names_the_node_in_its_errors() -> None:
    errors = parse_errors(
        [
            "srun: launching StepId=1.1 on host n1, 1 tasks: 0",
            "srun: error: Task launch for StepId=1.1 failed on node n12: Communication failure",
            "srun: error: n1: task 0: Killed",
        ]
    )
    assert error_about("n1", errors) == "n1: task 0: Killed"
    assert error_about("n12", errors).startswith("Task launch for StepId=1.1 failed on node n12")
    assert error_about("n3", errors) == errors[0]
    assert error_about("n3", []) == ""


def test_all_nodes_answer_in_one_step() -> None:
    result, runner = ask(lambda argv: step(asked(argv)), ["n2", "n1"])
    assert [(result.rc(n), result.stdout(n)) for n in ("n2", "n1")] == [
        (0, "I am n2"),
        (0, "I am n1"),
    ]
    assert len(runner.calls) == 1


def test_nodes_of_a_refused_step_are_asked_one_by_one() -> None:
    def script(argv: Sequence[str]) -> CommandResult:
        nodes = asked(argv)
        return said(argv, stderr=REFUSED, returncode=1) if "n2" in nodes else step(nodes)

    result, runner = ask(script, ["n1", "n2", "n3"])
    assert codes(result) == [0, None, 0]
    assert "Requested node configuration is not available" in (result.failure("n2") or "")
    assert [asked(call) for call in runner.calls] == [
        ["n1", "n2", "n3"],
        ["n1"],
        ["n2"],
        ["n3"],
    ]


def test_one_bad_node_of_many_does_not_mean_a_step_for_each() -> None:
    """Some dozen steps find it, where thousands would take longer than anybody waits."""
    nodes = [f"n{number:05}" for number in range(400)]
    bad = ["n00007", "n00399"]

    def script(argv: Sequence[str]) -> CommandResult:
        if argv[0] == "scontrol":
            return said(argv, "TreeWidth = 65533")
        group = asked(argv)
        return said(argv, stderr=REFUSED, returncode=1) if {*bad} & {*group} else step(group)

    result, runner = ask(script, nodes)
    assert [node for node in nodes if result.rc(node) != 0] == bad
    assert "Requested node configuration is not available" in (result.failure("n00007") or "")
    asked_of = [len(asked(call)) for call in runner.calls if call[0] == "srun"]
    assert asked_of == [400, *[13] * 30, 10, *[1] * 23]


def test_a_list_that_is_too_long_for_one_argument_means_more_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux takes 131,072 bytes; text behind the number keeps a list from being folded."""
    assert len(in_arguments([f"n{number}" for number in range(10_000)])) == 1
    nodes = [f"node{number:05}-ib.cluster.site.example" for number in range(3000)]
    parts = in_arguments(nodes)
    assert [node for part in parts for node in part] == nodes
    assert [len(part) for part in parts] == [1500, 1500]
    assert all(len(word) < 131_072 for part in parts for word in build_srun(part, ["x"], 5.0))
    assert (in_arguments([]), in_arguments(["n" * 200_000])) == ([], [["n" * 200_000]])
    monkeypatch.setattr("scrjob._slurm.ARGUMENT_BYTES", 10)
    result, runner = ask(lambda argv: step(asked(argv)), ["n1-ib", "n2-ib", "n3-ib"])
    assert [asked(call) for call in runner.calls] == [["n1-ib"], ["n2-ib"], ["n3-ib"]]
    assert codes(result) == [0, 0, 0]


def test_who_did_not_begin_in_a_broken_step_gets_another_one() -> None:
    def script(argv: Sequence[str]) -> CommandResult:
        nodes = asked(argv)
        return step(nodes, silent=["n2"] if len(nodes) > 1 else [])

    result, runner = ask(script, ["n1", "n2"])
    assert codes(result) == [0, 0]
    assert [asked(call) for call in runner.calls] == [["n1", "n2"], ["n2"]]


def test_one_refused_node_alone_is_a_result() -> None:
    result, runner = ask(lambda argv: said(argv, stderr=REFUSED, returncode=1), ["n1"])
    assert codes(result) == [None]
    assert len(runner.calls) == 1


def test_without_the_controller_no_node_is_blamed_nor_asked_again() -> None:
    calls = []

    def script(argv: Sequence[str]) -> CommandResult:
        calls.append(argv)
        return said(argv, stderr=NO_CONTROLLER, returncode=1)

    with pytest.raises(CommandError, match="Unable to contact slurm controller"):
        ask(script, ["n1", "n2"])
    assert len(calls) == 1


def test_a_step_that_never_came_is_no_word_on_a_node() -> None:
    problem = no_step(None, [], 2.0)
    assert isinstance(problem, CommandTimeoutError)
    assert "Slurm made no step within 2 s" in str(problem)


def test_without_srun_nothing_is_known() -> None:
    with pytest.raises(CommandError, match="srun: cannot be started: No such file"):
        ask(missing, ["n1"])


def test_before_a_long_command_a_short_one_finds_out_who_is_there() -> None:
    """srun ends all of a step when it gives up a dead node, and only then has waited for it."""

    def script(argv: Sequence[str]) -> CommandResult:
        nodes = asked(argv)
        return step(nodes, silent=["n2"]) if nodes != ["n2"] else said(argv, returncode=1)

    result, runner = ask(script, ["n1", "n2"], timeout_s=20.0)
    assert codes(result) == [0, None]
    assert [(asked(call), call[-1]) for call in runner.calls] == [
        (["n1", "n2"], "true"),
        (["n2"], "true"),
        (["n1"], "x"),
    ]


@pytest.mark.parametrize(("count", "timeout_s", "look"), [(1, 40, 4), (5000, 40, 9), (9000, 9, 5)])
def test_thousands_of_nodes_get_longer_to_say_that_they_are_there(
    count: int, timeout_s: float, look: int
) -> None:
    """Who does not say so in time does not get the command, and what is in its cache would be lost."""
    runner = FakeRunner(lambda argv: said(argv, stderr=NO_CONTROLLER, returncode=1))
    job = FakeJobEnv(context=fake_context(ENVIRON, runner=runner))
    with pytest.raises(CommandError, match="Unable to contact slurm controller"):
        Srun().bounded(timeout_s).rexec(["x"], [f"n{number}" for number in range(count)], job)
    asked_first = next(call for call in runner.calls if call[0] == "srun")
    assert asked_first[-3:] == ["scrjob", str(look), "true"]


def test_a_node_that_cannot_run_even_true_is_there_all_the_same() -> None:
    result, _ = ask(lambda argv: step(asked(argv)), ["n1"], timeout_s=20.0)
    assert codes(result) == [0]


def test_a_controller_that_is_restarted_is_waited_for_before_a_long_command() -> None:
    answers = [said(["srun"], stderr=NO_CONTROLLER, returncode=1)] * 3

    def script(argv: Sequence[str]) -> CommandResult:
        return answers.pop() if answers else step(asked(argv))

    result, _ = ask(script, ["n1"], timeout_s=40.0)
    assert codes(result) == [0]


def test_a_controller_that_stays_away_is_not_waited_for_too_long() -> None:
    calls = []

    def script(argv: Sequence[str]) -> CommandResult:
        calls.append(argv)
        return said(argv, stderr=NO_CONTROLLER, returncode=1)

    with pytest.raises(CommandError, match="Unable to contact slurm controller"):
        ask(script, ["n1"], timeout_s=40.0)
    assert len(calls) == 11  # a quarter of the time, once a second


def test_what_a_task_says_before_it_begins_is_no_answer() -> None:
    assert parse_answers(["0: slurmstepd: error: no space left"], []) == {}


class HangingSteps(SubprocessRunner):
    """Steps of which some nodes are silent, and which then do not end; notes what was asked."""

    def __init__(self, silent: Callable[[Sequence[str]], Sequence[str]], width: str = "20") -> None:
        self.silent = silent
        self.width = width
        self.between = "0"  # seconds between what is said on stdout and on stderr
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        assert argv == ["scontrol", "show", "config"]
        return said(argv, f"TopologyPlugin = none\nTreeWidth               = {self.width}\n")

    def pipe(self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> Any:
        nodes = asked(argv)
        self.asked.append(nodes)
        silent = self.silent(nodes)
        answer = step(nodes, silent=silent)
        script = 'printf %s "$1"; sleep "$4"; printf %s "$2" >&2; [ "$3" ] && exec sleep 600'
        return super().pipe(
            ["sh", "-c", script, "sh", answer.stdout, answer.stderr, "".join(silent), self.between]
        )


def ask_hanging(
    runner: HangingSteps, nodes: Sequence[str], *, timeout_s: float, lost: Sequence[str] = ()
) -> RemoteExecResult:
    rexec = Srun().bounded(timeout_s)
    if lost:
        rexec = rexec.heeding(lambda: lost)
    context = fake_context(ENVIRON, runner=runner, clock=SystemClock())
    return rexec.rexec(["true"], nodes, FakeJobEnv(context=context))


MANY = [f"n{number}" for number in range(45)]


def test_those_behind_a_dead_node_in_sruns_tree_are_asked_again_without_a_tree() -> None:
    def silent(nodes: Sequence[str]) -> list[str]:
        return MANY[20:42] if len(nodes) == 45 else ["n20"] if "n20" in nodes else []

    runner = HangingSteps(silent)
    result = ask_hanging(runner, MANY, timeout_s=1.5)
    assert [node for node in MANY if result.rc(node) != 0] == ["n20"]
    assert result.failure("n20") == "no answer within 1.5 s"
    assert runner.asked == [MANY, MANY[20:40], MANY[40:42]]


def test_without_a_tree_nobody_is_asked_again() -> None:
    runner = HangingSteps(lambda nodes: nodes[:1], width="50")
    assert codes(ask_hanging(runner, MANY, timeout_s=0.5)) == [None] + [0] * 44
    assert runner.asked == [MANY]
    runner = HangingSteps(lambda nodes: nodes[:1])
    assert codes(ask_hanging(runner, MANY[:16], timeout_s=0.5)) == [None] + [0] * 15
    assert runner.asked == [MANY[:16]]


def test_a_lost_node_is_not_waited_for() -> None:
    runner = HangingSteps(lambda _: ["n2"])
    began = time.monotonic()
    result = ask_hanging(runner, ["n1", "n2"], timeout_s=8.0, lost=["n2"])
    assert time.monotonic() - began < 5.0
    assert (codes(result), result.failure("n2")) == ([0, None], "the node is lost")


def test_the_others_are_heard_out_on_both_streams() -> None:
    runner = HangingSteps(lambda _: ["n2"])
    runner.between = "1"
    result = ask_hanging(runner, ["n1", "n2"], timeout_s=8.0, lost=["n2"])
    assert codes(result) == [0, None]


def test_all_nodes_are_one_step_for_a_job_may_have_only_so_many() -> None:
    def script(argv: Sequence[str]) -> CommandResult:
        return said(argv, "TreeWidth = 20") if argv[0] == "scontrol" else step(asked(argv))

    result, runner = ask(script, MANY)
    assert codes(result) == [0] * 45
    assert [call[0] for call in runner.calls] == ["scontrol", "srun"]


@pytest.mark.parametrize(
    "answer", [said(["scontrol"], "nothing"), said(["scontrol"], returncode=1)]
)
def test_an_unknown_tree_is_taken_for_the_smallest_usual_one(answer: CommandResult) -> None:
    runner = FakeRunner(lambda _: answer)
    environ = {"SLURM_CLUSTERS": "red,green", "SLURM_CLUSTER_NAME": "red"}
    assert ask_tree_width(fake_context(environ, runner=runner)) == 16
    assert runner.options[0]["env"]["SLURM_CLUSTERS"] == "red"


def test_names_that_srun_would_take_for_a_list_or_a_file_are_not_given_to_it() -> None:
    strange = ["n[1-2]", "n1,n2", "/n1", "n 1", ""]
    result, runner = ask(lambda argv: step(asked(argv)), [*strange, "n@1"])
    assert codes(result) == [None] * 5 + [0]
    assert re.search("cannot be a node of Slurm", result.failure("n[1-2]") or "")
    assert asked(runner.calls[0]) == ["n@1"]


def test_the_same_node_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        ask(lambda argv: step(asked(argv)), ["n1", "n1"])


def test_it_is_there_inside_an_allocation_only() -> None:
    assert "SLURM_JOB_ID is not set" in (Srun.available(fake_context({"PATH": "/bin"})) or "")
    inside = {"SLURM_JOB_ID": "7", "PATH": "/nowhere"}
    assert Srun.available(fake_context(inside)) == "srun is not on PATH"
