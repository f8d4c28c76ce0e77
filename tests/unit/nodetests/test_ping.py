# SPDX-License-Identifier: BSD-3-Clause
"""What fping is asked, and what its words mean."""

from __future__ import annotations

import pytest

from scrjob.errors import CommandError, NotSupportedError, OutputParseError
from scrjob.nodetests.ping import Patience, build_fping, build_ping, parse_fping, unanswered
from scrjob.testing.fakes import FakeJobEnv, FakeRunner, fake_context, missing, said

QUICK = Patience(1, 100, 1000)


def apart(nodes: int) -> float:
    argv = build_fping(["n"] * nodes, QUICK)
    return float(argv[argv.index("-i") + 1])


def test_requests_to_ten_thousand_nodes_are_sent_within_a_second() -> None:
    assert 10_000 * apart(10_000) <= 1000


def test_requests_to_few_nodes_are_not_far_apart() -> None:
    assert apart(3) == 1


def test_any_answer_counts_however_late() -> None:
    said_by_fping = "n1    : - - 2.05\nn2    : - - -\n::1   : 0.05 - -\n"
    assert parse_fping(said_by_fping, ["n1", "n2", "::1"], 1) == {"n2"}


def test_what_is_not_told_is_not_known() -> None:
    with pytest.raises(OutputParseError, match="nothing is said about n2"):
        parse_fping("n1 : 0.1\n", ["n1", "n2"], 0)


def test_a_name_that_does_not_resolve_is_not_told() -> None:
    assert parse_fping("n1 : 0.1\n", ["n1", "n2"], 2) == {"n2"}


def test_ping_waits_for_whole_seconds() -> None:
    assert build_ping("n1", Patience(5, 150, 2400))[3:7] == ["5", "-W", "3", "--"]


def test_nobody_is_asked_when_there_is_nobody() -> None:
    runner = FakeRunner()
    jobenv = FakeJobEnv(context=fake_context(runner=runner))
    assert unanswered([], jobenv, QUICK, 5.0) == set()
    assert runner.calls == []


def test_the_patience_reaches_the_tool() -> None:
    runner = FakeRunner(lambda argv: said(argv, stderr="n1 : 0.1 0.1\n"))
    jobenv = FakeJobEnv(context=fake_context(runner=runner))
    assert unanswered(["n1"], jobenv, Patience(2, 300, 900), 5.0) == set()
    assert runner.calls[0][:8] == ["fping", "-q", "-C", "2", "-p", "300", "-t", "900"]
    assert runner.options[0]["timeout_s"] == 5.0


def test_a_tool_that_fails_says_why() -> None:
    why = "fping: can't create socket (must run as root?)"
    runner = FakeRunner(lambda argv: said(argv, stderr=why, returncode=4))
    with pytest.raises(CommandError, match="must run as root"):
        unanswered(["n1"], FakeJobEnv(context=fake_context(runner=runner)), QUICK, 5.0)


def test_without_any_tool_nodes_cannot_be_pinged() -> None:
    jobenv = FakeJobEnv(context=fake_context(runner=FakeRunner(missing)))
    with pytest.raises(NotSupportedError, match="fping or ping is needed"):
        unanswered(["n1"], jobenv, QUICK, 5.0)


def test_many_nodes_are_not_pinged_by_many_processes_all_the_time() -> None:
    runner = FakeRunner()
    jobenv = FakeJobEnv(context=fake_context(runner=runner))
    with pytest.raises(NotSupportedError, match="to ping 3 nodes all the time fping is needed"):
        unanswered(["n1", "n2", "n3"], jobenv, QUICK, 5.0, 2)
    assert [call[0] for call in runner.calls] == ["fping"]
