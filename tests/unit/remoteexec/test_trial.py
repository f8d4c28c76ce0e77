# SPDX-License-Identifier: BSD-3-Clause
"""Which back end works is found out once a job, before its first run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, ClassVar, Optional, Sequence, Union

import pytest

from scrjob._plugins import Registry
from scrjob.errors import CommandError, ConfigError, NotSupportedError
from scrjob.jobenv import JobEnv
from scrjob.prerun import prerun
from scrjob.remoteexec import RemoteExec, RemoteExecResult, auto
from scrjob.remoteexec.auto import remember, remembered
from scrjob.remoteexec.trial import QUESTION, settle, try_out
from scrjob.resmgrs.resourcemanager import ResourceManager
from scrjob.testing.fakes import FakeJobEnv, FakeParam, NodeAnswer, fake_context

NODES = ["n1", "n2", "n3"]
Said = Callable[[str], Union[NodeAnswer, Exception]]


class Way(RemoteExec):
    """A back end whose nodes say what a test wants."""

    said: Said = staticmethod(lambda node: NodeAnswer(stdout=f"host-{node}\n"))

    @classmethod
    def available(cls, context: Any) -> Optional[str]:
        return None

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        asked.append((self.name, list(argv), list(nodes), self.timeout_s))
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            answer = self.said(node)
            if isinstance(answer, Exception):
                raise answer
            result.append_stdout(node, answer.stdout)
            result.set_rc(node, answer.rc)
            if answer.rc is None:
                result.set_failure(node, answer.failure)
        return result


asked: list[Any] = []


@pytest.fixture(autouse=True)
def calls() -> list[Any]:
    asked.clear()
    return asked


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Way]]:
    """Three back ends, all there; returns their classes to be changed."""
    made = {name: type(name, (Way,), {"name": name}) for name in ("one", "two", "three")}
    registry = Registry("remote execution", "scrjob.test_none", dict.fromkeys(made, "x:y"))
    monkeypatch.setattr(registry, "load", made.__getitem__)
    monkeypatch.setattr(auto, "REMOTE_EXECS", registry)
    return made


class Manager(ResourceManager):
    remote_exec = ("one", "two", "three")
    down: ClassVar[Union[dict[str, str], Exception]] = {}

    def job_id(self) -> Any:
        return "42"

    def job_nodes(self) -> Any:
        return list(NODES)

    def down_nodes(self) -> Any:
        if isinstance(self.down, Exception):
            raise self.down
        return self.down


class Job(FakeJobEnv):
    def job_nodes(self) -> list[str]:
        return list(NODES)


def job(manager: ResourceManager, forced: str = "") -> Job:
    context = fake_context()
    rexec = auto.choose_remote_exec(context, manager.remote_exec, forced)
    param = FakeParam({"SCR_REMOTE_EXEC": forced} if forced else {})
    return Job(resmgr=manager, rexec=rexec, param=param, context=context)


def silent(*nodes: str) -> Said:
    """Only other nodes than these answer."""

    def answer(node: str) -> NodeAnswer:
        if node in nodes:
            return NodeAnswer(rc=None, failure="Permission denied")
        return NodeAnswer(stdout=f"{node}\n")

    return answer


def test_the_first_that_reaches_most_nodes_is_taken(
    ways: dict[str, type[Way]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobenv = job(Manager())
    ways["one"].said = staticmethod(silent("n3"))
    settle(jobenv)
    assert jobenv.rexec.name == "one"
    assert asked == [("one", list(QUESTION), NODES, 6.0)]
    assert caplog.messages == ["commands on nodes go through one: 2 of 3 nodes answered in 0.0 s"]


def test_thousands_of_nodes_get_longer_to_answer(ways: dict[str, type[Way]]) -> None:
    many = [f"n{number}" for number in range(10_000)]
    assert try_out(ways["one"](), many, job(Manager())).answered == len(many)
    assert asked[-1][-1] == 16.0


def test_one_that_is_there_but_reaches_nobody_is_passed_over(
    ways: dict[str, type[Way]], caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson A2: what does not really run on the nodes is not chosen, and that is told."""
    ways["one"].said = staticmethod(silent(*NODES))
    ways["two"].said = staticmethod(lambda _: NotSupportedError("no"))
    jobenv = job(Manager())
    settle(jobenv)
    assert jobenv.rexec.name == "three"
    assert jobenv.rexec.context is jobenv.context
    assert caplog.messages == [
        "remote execution one: 0 of 3 nodes answer: n1: Permission denied",
        "remote execution two: 0 of 3 nodes answer: no",
    ]


def test_answers_of_this_host_in_the_nodes_place_do_not_count(ways: dict[str, type[Way]]) -> None:
    """Lesson A2: there the batch host answered N times, and nodes that do not exist were healthy."""
    ways["one"].said = staticmethod(lambda _: NodeAnswer(stdout="batchhost\n"))
    jobenv = job(Manager())
    settle(jobenv)
    assert jobenv.rexec.name == "two"


def test_one_that_knows_its_nodes_may_have_many_on_a_host(ways: dict[str, type[Way]]) -> None:
    ways["one"].said = staticmethod(lambda _: NodeAnswer(stdout="laptop\n"))
    ways["one"].knows_its_nodes = True
    jobenv = job(Manager())
    settle(jobenv)
    assert jobenv.rexec.name == "one"


def test_of_those_that_reach_few_the_best_is_taken(ways: dict[str, type[Way]]) -> None:
    ways["one"].said = staticmethod(silent(*NODES))
    ways["two"].said = staticmethod(silent("n2", "n3"))
    ways["three"].said = staticmethod(lambda _: NodeAnswer(rc=127))
    jobenv = job(Manager())
    settle(jobenv)
    assert jobenv.rexec.name == "two"


def test_where_none_reaches_anybody_each_ones_reason_is_told(ways: dict[str, type[Way]]) -> None:
    for way in ways.values():
        way.said = staticmethod(lambda _: NodeAnswer(rc=127))
    message = "on any of 3 nodes: one: n1: exit code 127; two: n1: exit .*; set SCR_REMOTE_EXEC"
    with pytest.raises(ConfigError, match=message):
        settle(job(Manager()))


def test_a_forced_one_has_no_substitute(ways: dict[str, type[Way]]) -> None:
    ways["two"].said = staticmethod(silent(*NODES))
    with pytest.raises(ConfigError, match="two: n1: Permission denied"):
        settle(job(Manager(), "two"))
    assert [name for name, *_ in asked] == ["two"]


def test_nodes_that_are_down_are_not_asked(ways: dict[str, type[Way]]) -> None:
    manager = Manager()
    manager.down = {"n1": "drained"}
    settle(job(manager))
    assert asked[0][2] == ["n2", "n3"]


@pytest.mark.parametrize(
    "down", [CommandError(["sinfo"], returncode=1), dict.fromkeys(NODES, "down")]
)
def test_if_no_node_is_known_to_be_up_all_are_asked(
    ways: dict[str, type[Way]], down: Union[dict[str, str], Exception]
) -> None:
    manager = Manager()
    manager.down = down
    settle(job(manager))
    assert asked[0][2] == NODES


def test_where_no_way_is_offered_nothing_is_tried() -> None:
    jobenv = job(ResourceManager())
    settle(jobenv)
    assert type(jobenv.rexec) is RemoteExec


def test_what_works_is_remembered_for_the_jobs_other_commands(
    ways: dict[str, type[Way]], tmp_path: Path
) -> None:
    ways["one"].said = staticmethod(silent(*NODES))

    def command() -> JobEnv:
        return JobEnv(str(tmp_path), resmgr=Manager(), context=fake_context())

    assert command().rexec.name == "one"
    prerun(command())
    assert command().rexec.name == "two"
    asked.clear()
    prerun(command())
    assert asked == []  # it is known


def test_a_memory_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    assert remembered(str(tmp_path)) is None
    remember(str(tmp_path), "srun")
    assert remembered(str(tmp_path)) == "srun"
    (tmp_path / "remote_exec").write_bytes(b"\n")
    assert remembered(str(tmp_path)) is None
    (tmp_path / "remote_exec").write_bytes(b"x" * 5000)
    assert remembered(str(tmp_path)) is None
    remember(str(tmp_path / "nowhere"), "srun")  # no harm


def test_a_remembered_one_is_only_a_preference(ways: dict[str, type[Way]]) -> None:
    context = fake_context()
    assert auto.choose_remote_exec(context, ["one", "two"], None, "gone").name == "one"
    ways["two"].available = classmethod(lambda *_: "not here")
    assert auto.choose_remote_exec(context, ["one", "two"], None, "two").name == "one"
    assert auto.choose_remote_exec(context, ["one", "two"], "one", "two").name == "one"
