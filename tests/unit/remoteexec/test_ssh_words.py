# SPDX-License-Identifier: BSD-3-Clause
"""The command lines of ssh and pdsh, and what pdsh says."""

from __future__ import annotations

import sys
from typing import Sequence

import pytest

from scrjob.errors import CommandError, ConfigError, PluginLoadError
from scrjob.remoteexec import RemoteExecResult, _ssh
from scrjob.remoteexec.clustershell import ClusterShell
from scrjob.remoteexec.pdsh import (
    PDSH_NAME,
    Pdsh,
    build_pdsh,
    parse_complaints,
    parse_labels,
    pdsh_environ,
    rcmd_module,
)
from scrjob.remoteexec.ssh import Ssh
from scrjob.testing.fakes import FakeJobEnv, FakeParam, FakeRunner, fake_context, said

OPTIONS = _ssh.options(10.0)


def test_ssh_asks_nobody_lends_nothing_and_gives_up_in_time() -> None:
    assert _ssh.options(10.0) == [
        *("-x", "-a", "-T"),
        *("-oBatchMode=yes", "-oControlMaster=no", "-oLogLevel=ERROR"),
        *("-oConnectTimeout=5", "-oServerAliveInterval=5", "-oServerAliveCountMax=2"),
    ]
    assert "-oConnectTimeout=1" in _ssh.options(0.5)
    assert "-oConnectTimeout=30" in _ssh.options(86400.0)


def test_a_users_ssh_has_our_options_behind_its_own_and_another_program_none() -> None:
    assert _ssh.reach(None, 10.0) == ["ssh", *OPTIONS]
    assert _ssh.reach("/opt/bin/ssh -F 'my config'", 10.0) == [
        *("/opt/bin/ssh", "-F", "my config"),
        *OPTIONS,
    ]
    assert _ssh.reach("rsh -K", 10.0) == ["rsh", "-K"]


@pytest.mark.parametrize("setting", ["'open", "  "])
def test_a_setting_without_a_program_is_an_error(setting: str) -> None:
    with pytest.raises(ConfigError, match="SCR_SSH"):
        _ssh.reach(setting, 1.0)


def test_the_fan_out_is_a_positive_number() -> None:
    assert _ssh.fanout(FakeJobEnv()) == 128
    assert _ssh.fanout(FakeJobEnv(param=FakeParam({"SCR_SSH_FANOUT": "7"}))) == 7
    for wrong in ("0", "-1", "many"):
        with pytest.raises(ConfigError, match=f"SCR_SSH_FANOUT={wrong}"):
            _ssh.fanout(FakeJobEnv(param=FakeParam({"SCR_SSH_FANOUT": wrong})))


HOSTILE = [
    *("-oProxyCommand=id", "root@n1", "n1!n2", "n1&n2", "n1^n2", "*", "@all", "n[1-2]", "n1,n2"),
    *("^file", "/n1/", "n1 n2", "n1\n", "", ":", "n1%h", "x" * 300),
]


@pytest.mark.parametrize("node", HOSTILE)
@pytest.mark.parametrize("kind", [Ssh, Pdsh, ClusterShell])
def test_a_name_that_means_something_to_the_tools_is_never_given_to_them(
    kind: type, node: str
) -> None:
    runner = FakeRunner()
    job = FakeJobEnv(context=fake_context(runner=runner))
    result = kind().rexec(["true"], [node], job)
    assert result.rc(node) is None
    assert "cannot be used as a host name" in (result.failure(node) or "")
    assert runner.calls == []


def test_host_names_are_given_as_they_are() -> None:
    names = ["n08", "r1n2", "a-b.c", "x1000c0s0b0n0", "10.0.1.5", "a_b", "ip-10-0-1-5"]
    assert _ssh.reachable(RemoteExecResult(["true"], names)) == names


def test_a_number_that_pdsh_would_cut_is_no_name_for_it() -> None:
    assert PDSH_NAME.fullmatch("n12345678901234")
    assert not PDSH_NAME.fullmatch("n123456789012345")


def test_what_is_missing_is_named() -> None:
    """Also where the library is there and its ssh is not."""
    nothing = fake_context({"PATH": "/nowhere"})
    assert Ssh.available(nothing) == "ssh is not on PATH"
    assert ClusterShell.available(nothing) == "ssh is not on PATH"
    assert Pdsh.available(nothing) == "pdsh is not on PATH"
    other = fake_context({"PATH": "/nowhere", "SCR_SSH": "/bin/sh -x"})
    assert Ssh.available(other) is None


def test_whether_clustershell_is_there_is_asked_without_importing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "ClusterShell", raising=False)
    assert "pip install" in (ClusterShell.available(fake_context({"PATH": "/bin"})) or "")
    assert "ClusterShell" not in sys.modules


def pdsh(nodes: list[str], text: str, module: str = "ssh", words: Sequence[str] = ()) -> list[str]:
    return build_pdsh(nodes, text, module=module, words=words, timeout_s=10.0, fanout=4)


def test_pdsh_leaves_the_command_as_it_is() -> None:
    """It replaces %h, %u and %n in it, so every % is doubled."""
    argv = pdsh(["n1", "n2"], "echo 100%h")
    head = ["pdsh", "-R", "ssh", "-f", "4", "-u", "10", "-t", "5", "-w", "n1,n2"]
    assert argv == [*head, "echo 100%%h"]


def test_pdsh_starts_another_program_by_its_module_exec() -> None:
    argv = pdsh(["n1"], "echo", module="exec", words=["reach", "50%"])
    assert argv[3:] == ["-f", "4", "-u", "10", "-w", "n1", "reach", "50%%", "%h", "echo"]


def test_long_lists_of_nodes_are_cut_into_arguments_that_fit() -> None:
    nodes = [f"node{number:0100d}x" for number in range(2000)]
    argv = pdsh(nodes, "true")
    lists = [argv[at + 1] for at, word in enumerate(argv) if word == "-w"]
    assert ",".join(lists).split(",") == nodes
    assert max(map(len, lists)) < 100_000


def test_pdsh_never_runs_the_bare_command_here() -> None:
    """Lesson A2: the site's module is taken, but not "exec" without a program that reaches nodes."""
    assert rcmd_module({}, None) == "ssh"
    assert rcmd_module({"PDSH_RCMD_TYPE": "mrsh"}, None) == "mrsh"
    assert rcmd_module({"PDSH_RCMD_TYPE": "exec"}, None) == "ssh"
    assert rcmd_module({"PDSH_RCMD_TYPE": "mrsh"}, "reach") == "exec"


def test_pdsh_hears_nothing_of_the_users_own_targets() -> None:
    environ = {"WCOLL": "f", "FANOUT": "1", "DSHPATH": "/x", "PDSH_SSH_ARGS_APPEND": "-v", "A": "b"}
    made = pdsh_environ(environ, 10.0)
    assert made == {"A": "b", "PDSH_SSH_ARGS_APPEND": " ".join(["-v", *OPTIONS])}


def test_pdsh_labels_lines_with_short_names_unless_two_are_the_same() -> None:
    assert parse_labels(["a: x: y", "n1: z"], ["a.x", "n1"]) == {"a.x": ["x: y"], "n1": ["z"]}
    lines = ["a.x: 1", "a.y: 2", "a: who?", "b: 3", "pdsh@here: b: ssh exited"]
    found = parse_labels(lines, ["a.x", "a.y", "b.z"])
    assert found == {"a.x": ["1"], "a.y": ["2"], "b.z": ["3"]}


def test_what_pdsh_says_of_a_node_is_known() -> None:
    assert parse_complaints(["pdsh@h: n1: ssh exited with exit code 255", "n1: x: y"]) == {
        "n1": "ssh exited with exit code 255"
    }


def test_pdsh_that_refuses_the_call_is_broken_and_no_node_is() -> None:
    def refuse(argv: object) -> object:
        return said(["pdsh"], stderr="pdsh@h: module mrsh not found\n", returncode=1)

    job = FakeJobEnv(context=fake_context(runner=FakeRunner(refuse)))
    with pytest.raises(
        CommandError, match="pdsh -R ssh: exit code 1: pdsh@h: module mrsh not found"
    ):
        Pdsh().rexec(["true"], ["n1"], job)


def test_pdsh_that_is_gone_is_no_answer_of_a_node() -> None:
    job = FakeJobEnv(context=fake_context())
    with pytest.raises(CommandError, match="No such file"):
        Pdsh().rexec(["true"], ["n1"], job)


def test_ssh_that_is_gone_is_told_for_each_node() -> None:
    result = Ssh().rexec(["true"], ["n1"], FakeJobEnv(context=fake_context()))
    assert "No such file" in (result.failure("n1") or "")


def test_the_launcher_of_the_published_class_changes_nothing() -> None:
    assert vars(Pdsh("srun")) == vars(Pdsh())


def test_clustershell_whose_ssh_is_gone_is_broken_and_no_node_is() -> None:
    with pytest.raises(CommandError, match="No such file"):
        ClusterShell().rexec(["true"], ["n1"], FakeJobEnv(context=fake_context()))


def test_clustershell_that_does_not_import_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ClusterShell.Event", None)
    with pytest.raises(PluginLoadError, match="ClusterShell cannot be imported"):
        ClusterShell().rexec(["true"], ["n1"], FakeJobEnv(context=fake_context()))
