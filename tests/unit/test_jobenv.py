# SPDX-License-Identifier: BSD-3-Clause
"""The composition root: names, directories, and parts made when used."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from scrjob.errors import ConfigError, PluginError
from scrjob.jobenv import JobEnv, resolve_prefix
from scrjob.launchers import JobLauncher
from scrjob.remoteexec import RemoteExec
from scrjob.resmgrs import ResourceManager
from scrjob.testing.fakes import FakeParam, fake_context


class Manager(ResourceManager):
    def job_id(self) -> Any:
        return "77"

    def job_nodes(self) -> Any:
        return ["n2", "n1"]


def make(values: Any = None, environ: Any = None, **parts: Any) -> JobEnv:
    parts.setdefault("param", FakeParam(values))
    parts.setdefault("resmgr", Manager())
    return JobEnv("/prefix", context=fake_context(environ), **parts)


def test_directories_are_those_of_scr() -> None:
    env = make({"SCR_USER_NAME": "bob", "SCR_CACHE_BASE": "/ssd", "SCR_CNTL_BASE": "/dev/shm"})
    assert env.dir_prefix() == "/prefix"
    assert env.dir_scr() == "/prefix/.scr"
    assert env.dir_dset(7) == env.dir_dset("7") == "/prefix/.scr/scr.dataset.7"
    assert env.dir_cache() == ["/ssd/bob/scr.77"]
    assert env.dir_cache(base=True) == ["/ssd"]
    assert env.dir_control() == ["/dev/shm/bob/scr.77"]
    assert env.dir_control(base=True) == ["/dev/shm"]


def test_cache_descriptors_come_before_the_base() -> None:
    param = FakeParam(
        {"SCR_USER_NAME": "bob", "SCR_CACHE_BASE": "/ssd"}, {"CACHE": {"/a": {}, "/b": {}}}
    )
    assert make(param=param).dir_cache() == ["/a/bob/scr.77", "/b/bob/scr.77"]


def test_the_users_name_has_three_sources() -> None:
    assert make({"SCR_USER_NAME": "bob"}, {"USER": "eve"}).user() == "bob"
    assert make({}, {"USER": "eve"}).user() == "eve"


def test_without_user_the_uid_is_asked() -> None:
    """Lesson A21: USER is unset under salloc and in containers."""
    assert make().user() == pwd.getpwuid(os.getuid()).pw_name


def test_a_uid_without_a_name_is_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson A21: containers run under users that no passwd file knows."""
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert make().user() == "3999999999"


def test_the_job_id_has_three_sources() -> None:
    assert make({"SCR_JOB_ID": "5"}).job_id() == "5"
    assert make().job_id() == "77"
    assert make(resmgr=ResourceManager()).job_id() == "defjobid"


@pytest.mark.parametrize("name", ["..", ".", "/etc", "../x", "a\0b", "a/../../b"])
def test_names_that_lead_out_of_the_directory_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="user name"):
        make({"SCR_USER_NAME": name}).user()
    with pytest.raises(ConfigError, match="job id"):
        make({"SCR_JOB_ID": name}).job_id()


def test_nodes_are_the_users_list_else_the_managers() -> None:
    assert make({"SCR_NODELIST": "n[08-10]"}).node_list() == ["n08", "n09", "n10"]
    assert make({"SCR_NODELIST": "n[08-10]"}).job_nodes() == ["n08", "n09", "n10"]
    assert make().node_list() == []
    assert make().job_nodes() == ["n2", "n1"]


def test_prefix_is_the_argument_else_the_variable_else_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context = fake_context({"SCR_PREFIX": "/from/variable"})
    assert JobEnv("/given", context=context).prefix == "/given"
    assert JobEnv(context=context).prefix == "/from/variable"
    assert JobEnv(context=fake_context()).prefix == str(tmp_path)


@pytest.mark.parametrize("name", ["two words", "it's", "line\nbreak", "ä\udcff"])
def test_odd_prefixes_survive(tmp_path: Path, name: str) -> None:
    assert resolve_prefix(str(tmp_path / name)) == str(tmp_path / name)


def test_a_relative_prefix_becomes_absolute_and_links_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert resolve_prefix("./link/../link/") == str(tmp_path / "link")


def test_the_users_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    assert resolve_prefix("~/run") == "/home/bob/run"


def test_a_prefix_with_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SCR_PREFIX: .* NUL"):
        resolve_prefix("a\0b")


def test_parts_are_made_once_and_share_the_world() -> None:
    env = make(launcher=None)
    assert env.rexec is env.rexec
    assert type(env.rexec) is RemoteExec
    assert type(env.launcher) is JobLauncher
    assert env.launcher.context is env.rexec.context is env.context
    assert env.launcher.hostfile == "/prefix/.scr/hostfile"


def test_a_launcher_is_a_name_or_an_object() -> None:
    launcher = JobLauncher("mine")
    assert make(launcher=launcher).launcher is launcher
    with pytest.raises(PluginError, match="unknown launcher 'none-such'; known: local"):
        _ = make(launcher="none-such").launcher


def test_an_unknown_resource_manager_is_told() -> None:
    env = JobEnv(
        "/p", param=FakeParam({"SCR_RESOURCE_MANAGER": "none-such"}), context=fake_context()
    )
    with pytest.raises(PluginError, match="unknown resource manager 'none-such'"):
        _ = env.resmgr


def test_node_tests_are_the_users_else_the_managers() -> None:
    named = make({"SCR_NODE_TESTS": "echo, ping"}).nodetests
    assert [t.name for t in named.tests] == [
        "scr_exclude_nodes",
        "resmgr",
        "prefix",
        "echo",
        "ping",
    ]
    manager = Manager()
    manager.node_tests = ("dir_capacity",)
    tests = make(resmgr=manager).nodetests
    assert [t.name for t in tests.tests] == [
        "scr_exclude_nodes",
        "resmgr",
        "prefix",
        "dir_capacity",
    ]


def test_an_attribute_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = make().nonsense


def test_a_node_that_is_listed_twice_is_one_node() -> None:
    assert make({"SCR_NODELIST": "n1,n2,n1"}).node_list() == ["n1", "n2"]


@pytest.mark.parametrize("answer", [None, [], "", "n2,n[1,3]", ["n2", "n1", "n3"]])
def test_what_published_managers_answer(answer: Any) -> None:
    """None, a list, or a text: established managers of sites gave each of them."""

    class Published(ResourceManager):
        def job_nodes(self) -> Any:
            return answer

    expected = ["n2", "n1", "n3"] if answer else []
    assert make(resmgr=Published()).job_nodes() == expected
