# SPDX-License-Identifier: BSD-3-Clause
"""The fakes behave like what they stand for."""

from __future__ import annotations

import subprocess

import pytest

from scrjob.errors import CommandNotFoundError, CommandTimeoutError, NotSupportedError
from scrjob.remoteexec import RemoteExecResult
from scrjob.testing.fakes import (
    FakeClock,
    FakeJobEnv,
    FakeParam,
    FakeProcess,
    FakeRemoteExec,
    FakeRunner,
    NodeAnswer,
    fake_context,
    hanging,
    said,
)


def test_time_moves_by_sleeping_and_never_back() -> None:
    clock = FakeClock(start=100.0)
    clock.sleep(2)
    clock.sleep(-1)
    assert (clock.now(), clock.monotonic(), clock.naps) == (102.0, 2.0, [2, -1])
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_a_runner_answers_from_its_script_and_notes_calls() -> None:
    runner = FakeRunner(lambda argv: said(argv, "n1\n") if argv[0] == "nodes" else hanging(argv))
    assert runner.run(["nodes"], timeout_s=5, env={"A": "1"}).stdout == "n1\n"
    with pytest.raises(CommandTimeoutError):
        runner.run(["other"], timeout_s=5)
    assert runner.calls == [["nodes"], ["other"]]
    assert runner.options[0] == {"timeout_s": 5, "env": {"A": "1"}, "stdin": None, "cwd": None}


def test_a_runner_without_a_script_has_no_tools() -> None:
    with pytest.raises(CommandNotFoundError):
        FakeRunner().start(["srun"])


def test_a_started_process_ends_when_told() -> None:
    process = FakeRunner(said).start(["srun"])
    assert (process.poll(), process.wait()) == (0, 0)
    running = FakeProcess(["srun"])
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(timeout=3)
    running.returncode = -9
    assert running.wait() == -9


def test_remote_nodes_answer_as_scripted() -> None:
    answers = {"n1": NodeAnswer(0, "out", "err"), "n2": NodeAnswer(None, failure="dead")}
    rexec = FakeRemoteExec(RemoteExecResult, lambda node, _: answers[node])
    result = rexec.bounded(2.0).rexec(["cmd"], ["n1", "n2"], FakeJobEnv())
    assert (result.rc("n1"), result.stdout("n1"), result.stderr("n1")) == (0, "out", "err")
    assert (result.rc("n2"), result.failure("n2")) == (None, "dead")
    assert rexec.calls == [(["cmd"], ["n1", "n2"])]


def test_remote_execution_may_be_broken() -> None:
    rexec = FakeRemoteExec(RemoteExecResult, lambda *_: NotSupportedError("no way"))
    with pytest.raises(NotSupportedError):
        rexec.rexec(["cmd"], ["n1"], FakeJobEnv())


def test_a_job_environment_has_the_usual_directories() -> None:
    env = FakeJobEnv("/p", param=FakeParam({"A": "1"}), context=fake_context({"B": "2"}))
    assert (env.param.get("A"), env.param.get("C")) == ("1", None)
    assert env.context.environ == {"B": "2"}
    assert env.dir_dset(3) == "/p/.scr/scr.dataset.3"
    assert env.dir_cache() == ["/cache/alice/scr.42"]
    assert env.dir_control(base=True) == ["/control"]
