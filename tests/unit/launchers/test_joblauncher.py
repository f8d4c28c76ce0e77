# SPDX-License-Identifier: BSD-3-Clause
"""The base class of launchers, for plugins that start one launcher process."""

from __future__ import annotations

import signal
import subprocess

import pytest

from scrjob.errors import NotSupportedError
from scrjob.launchers import AutoJobLauncher, JobLauncher
from scrjob.launchers.auto import choose_launcher
from scrjob.model import ExitStatus
from scrjob.testing.fakes import FakeProcess, fake_context


def test_the_base_class_starts_nothing_and_says_so() -> None:
    with pytest.raises(NotSupportedError, match="'UNKNOWN' cannot start job steps"):
        JobLauncher().launch_run(["program"], ["n1"], [])


def test_success_means_exit_code_zero() -> None:
    launcher = JobLauncher()
    assert launcher.wait_run(FakeProcess(["x"], 0), None) == (True, True)
    assert launcher.wait_run(FakeProcess(["x"], 7), None) == (True, False)
    assert launcher.wait_run(FakeProcess(["x"]), 1.0) == (False, None)


def test_exit_status_is_none_while_it_runs() -> None:
    launcher = JobLauncher()
    assert launcher.exit_status(FakeProcess(["x"])) is None
    assert launcher.exit_status(FakeProcess(["x"], -11)) == ExitStatus(139, 11)


def test_what_the_base_class_cannot_know_it_does_not_claim() -> None:
    launcher = JobLauncher()
    assert launcher.nodes_wanted(["-N", "2"]) is None
    assert launcher.step_nodes(None) is None
    assert launcher.rank_pids(None) == {}
    assert launcher.end_orphan("record") is False
    assert launcher.step_record(None) == ""
    with pytest.raises(NotSupportedError, match="cannot end a step by its id"):
        launcher.end_step("42.7")


def test_without_a_name_there_is_the_base_class() -> None:
    context = fake_context()
    launcher = choose_launcher(context, None)
    assert type(launcher) is JobLauncher
    assert launcher.context is context
    assert type(AutoJobLauncher()) is JobLauncher


def test_a_process_in_our_own_group_is_ended_alone() -> None:
    """A launcher of a site starts it with plain Popen: there is no group of its own to signal."""
    with subprocess.Popen(["sleep", "60"]) as process:
        JobLauncher().kill_run(process)
        assert process.poll() == -signal.SIGTERM


def test_an_object_of_a_launchers_own_has_no_known_status() -> None:
    assert JobLauncher().exit_status("f1234") is None
