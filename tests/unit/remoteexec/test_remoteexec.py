# SPDX-License-Identifier: BSD-3-Clause
"""The result of a remote call, the base class, and the choice of a back end."""

from __future__ import annotations

from typing import Any

import pytest

from scrjob._plugins import Registry
from scrjob.errors import ConfigError, NotSupportedError, PluginError
from scrjob.remoteexec import RemoteExec, RemoteExecResult, auto
from scrjob.testing.fakes import FakeJobEnv, fake_context


def test_a_result_keeps_each_nodes_answer_apart() -> None:
    result = RemoteExecResult(["cmd", "arg"], ["n2", "n1"])
    result.append_stdout("n1", "a")
    result.append_stdout("n1", "b")
    result.append_stderr("n2", "c")
    result.set_rc("n1", 3)
    assert result.nodes() == ["n2", "n1"]
    assert result.argv() == ["cmd", "arg"]
    assert (result.stdout("n1"), result.stderr("n1"), result.rc("n1")) == ("ab", "", 3)
    assert (result.stdout("n2"), result.stderr("n2"), result.rc("n2")) == ("", "c", None)


def test_silence_is_a_failure_and_never_zero() -> None:
    result = RemoteExecResult(["cmd"], ["n1", "n2", "n3"])
    result.set_rc("n1", 0)
    result.set_failure("n2", "connection lost")
    assert result.failure("n1") is None
    assert (result.rc("n2"), result.failure("n2")) == (None, "connection lost")
    assert (result.rc("n3"), result.failure("n3")) == (None, "no answer")


def test_what_it_returns_belongs_to_the_caller() -> None:
    result = RemoteExecResult(["cmd"], ["n1"])
    result.argv().clear()
    result.nodes().clear()
    assert (result.argv(), result.nodes()) == (["cmd"], ["n1"])


def test_a_node_that_was_not_asked_is_no_answer() -> None:
    with pytest.raises(KeyError):
        RemoteExecResult(["cmd"], ["n1"]).rc("n2")


def test_bounded_is_a_copy() -> None:
    rexec = RemoteExec()
    assert rexec.bounded(2.5).timeout_s == 2.5
    assert rexec.timeout_s == 30.0


def test_the_base_class_reaches_nothing_and_says_so() -> None:
    """Lesson A2: without a way to the nodes no command runs here in their place."""
    assert RemoteExec.available(fake_context()) == "it reaches no nodes"
    with pytest.raises(
        NotSupportedError, match="cannot run 'echo' on 2 nodes; set SCR_REMOTE_EXEC"
    ):
        RemoteExec().rexec(["echo"], ["n1", "n2"], FakeJobEnv())


class Ready(RemoteExec):
    name = "ready"

    @classmethod
    def available(cls, context: Any) -> Any:
        return None


class Unready(RemoteExec):
    name = "unready"

    @classmethod
    def available(cls, context: Any) -> Any:
        return "no server"


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "ready": f"{__name__}:Ready",
        "unready": f"{__name__}:Unready",
        "absent": "scrjob_nowhere:Class",
    }
    registry = Registry("remote execution", "scrjob.test_none", table)
    monkeypatch.setattr(registry, "_import", lambda name, target: _pick(registry, name, target))
    monkeypatch.setattr(auto, "REMOTE_EXECS", registry)


def _pick(registry: Registry, name: str, target: str) -> Any:
    found = {"ready": Ready, "unready": Unready}.get(name)
    return found or Registry._import(registry, name, target)


@pytest.mark.usefixtures("backends")
def test_the_first_available_offer_is_taken() -> None:
    context = fake_context()
    rexec = auto.choose_remote_exec(context, ["absent", "unready", "ready"])
    assert isinstance(rexec, Ready)
    assert rexec.context is context


@pytest.mark.usefixtures("backends")
def test_without_any_the_refusing_base_class_is_taken() -> None:
    assert type(auto.choose_remote_exec(fake_context(), ["unready"])) is RemoteExec


@pytest.mark.usefixtures("backends")
def test_a_forced_one_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(ConfigError, match="SCR_REMOTE_EXEC=unready cannot be used here: no server"):
        auto.choose_remote_exec(fake_context(), ["ready"], "unready")
    with pytest.raises(PluginError, match="unknown remote execution 'nothing'"):
        auto.choose_remote_exec(fake_context(), ["ready"], "nothing")
    assert isinstance(auto.choose_remote_exec(fake_context(), [], "ready"), Ready)


def test_a_published_back_end_with_rexec_alone_can_be_used() -> None:
    class Published(RemoteExec):
        def __init__(self) -> None:
            """As back ends of sites do it: the base class is not called."""

        def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
            return RemoteExecResult(argv, nodes)

    assert Published.available(fake_context()) is None
    assert Published().bounded(2.5).timeout_s == 2.5
