# SPDX-License-Identifier: BSD-3-Clause
"""Node states: the call, the parser over recorded and over hostile answers, what states mean."""

from __future__ import annotations

import logging
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrjob.errors import CommandError, OutputParseError, ScrError
from scrjob.hostlist import expand_hosts, splithosts
from scrjob.resmgrs.slurm_nodes import (
    REASON_LIMIT,
    STATES,
    SUFFIXES,
    Condition,
    NodeState,
    build_show_nodes,
    judge,
    parse_show_nodes,
    state_words,
)
from scrjob.testing.fakes import said
from slurmcases import CASES, result

THREE = ["n1", "n2", "n3"]
HEALTHY, AVOID, SILENT, LOST = Condition


def found(case: str, nodes: list[str] = THREE) -> dict[str, tuple[str, str]]:
    states = parse_show_nodes(result(case), nodes)
    return {node: (state.state, state.reason) for node, state in states.items()}


def condition(
    state: str, *, reserved: bool = False, held: bool = True, reason: str = ""
) -> Condition:
    return judge(NodeState(state, reason), held=held, reserved=reserved).condition


# --- the call ---


@pytest.mark.parametrize("case", ["nodes-healthy", "nodes-reboot-issued", "nodes-not-found"])
def test_the_recorded_call_is_the_one_that_is_built(case: str) -> None:
    nodes = {"nodes-healthy": THREE, "nodes-reboot-issued": ["n4"]}.get(case, ["n1", "n2", "nope"])
    argv = build_show_nodes(nodes)
    assert argv[0] == "scontrol"
    assert argv[1:] == list(CASES[case].argv)


def test_a_list_with_text_behind_a_bracket_is_not_folded() -> None:
    """Slurm 22.05 answers "Invalid hostlist" to such a list."""
    assert build_show_nodes(["n1-ib", "n2-ib"])[-1] == "n1-ib,n2-ib"
    assert build_show_nodes(["r1n8", "r1n9", "r2n8", "r2n9"])[-1] == "r[1-2]n[8-9]"


def test_names_too_long_for_one_argument_mean_all_nodes() -> None:
    nodes = [f"node-{i}-{'x' * 20}" for i in range(10_000)]
    assert build_show_nodes(nodes) == ["scontrol", "--oneliner", "--", "show", "node"]


def test_ten_thousand_usual_names_are_asked_for_in_one_short_call() -> None:
    assert build_show_nodes([f"n{i:05}" for i in range(1, 10_001)])[-1] == "n[00001-10000]"


NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9.-]{0,12}", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=30, unique=True))
def test_the_call_names_exactly_the_nodes(nodes: list[str]) -> None:
    text = build_show_nodes(nodes)[-1]
    assert sorted(expand_hosts(text)) == sorted(nodes)
    assert all(word.endswith("]") for word in splithosts(text) if "[" in word)


# --- the parser ---


def test_flags_are_seen_beside_the_base_state() -> None:
    """Lesson A3: two bad nodes at once, each by its own record, and states other than down."""
    assert found("nodes-idle-drained-fail-powering-down") == {
        "n1": ("IDLE+DRAIN", "bad fan"),
        "n2": ("IDLE+FAIL", "soon"),
        "n3": ("IDLE+POWERING_DOWN", ""),
    }
    assert {n: s[0] for n, s in found("nodes-idle-powered-down").items()} == {
        "n1": "DOWN+DRAIN",
        "n2": "IDLE+FAIL",
        "n3": "IDLE+POWERED_DOWN",
    }


def test_a_reason_is_one_line_without_who_and_when() -> None:
    assert found("nodes-draining")["n2"] == ("MIXED+DRAIN", "bad fan")
    assert found("nodes-failing")["n2"] == ("MIXED+FAIL", "DIMM 3: errors")
    assert found("nodes-dead")["n2"] == ("DOWN+NOT_RESPONDING", "Not responding")


def test_an_administrators_text_cannot_pass_for_a_record() -> None:
    states = found("nodes-hostile-reason")
    assert {node: state for node, (state, _) in states.items()} == {
        "n1": "MIXED",
        "n2": "MIXED+DRAIN",
        "n3": "MIXED",
    }
    assert states["n2"][1] == "two"
    assert {n: s[0] for n, s in found("nodes-hostile-comment").items()} == dict.fromkeys(
        THREE, "MIXED"
    )


def test_a_node_told_twice_is_an_error() -> None:
    text = result("nodes-healthy").stdout
    with pytest.raises(OutputParseError, match="two records of node 'n1'"):
        parse_show_nodes(said(["scontrol"], text + text), THREE)


def test_an_unknown_name_is_left_out_and_hides_no_other() -> None:
    assert set(found("nodes-not-found", ["n1", "n2", "nope"])) == {"n1", "n2"}


def test_no_known_name_at_all_is_an_error() -> None:
    """Another cluster answers: its not knowing our nodes says nothing about them."""
    with pytest.raises(OutputParseError, match="no record of any node"):
        found("nodes-none-found", ["nope", "nope2"])


def test_a_controller_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="Unable to contact slurm controller"):
        found("nodes-no-controller")


def test_an_error_beside_records_is_an_error() -> None:
    text = result("nodes-healthy").stdout
    broken = said(["scontrol"], text, stderr="slurm_load_node error", returncode=1)
    with pytest.raises(CommandError, match="slurm_load_node error"):
        parse_show_nodes(broken, THREE)


def test_all_of_a_cluster_may_come_and_only_ours_are_taken() -> None:
    assert set(found("nodes-healthy", ["n3"])) == {"n3"}


def test_no_answer_is_no_healthy_cluster() -> None:
    with pytest.raises(OutputParseError):
        parse_show_nodes(said(["scontrol"], ""), THREE)


@given(st.text(), st.text(), st.integers(0, 2))
def test_any_answer_gives_states_or_our_error(out: str, err: str, code: int) -> None:
    try:
        states = parse_show_nodes(said(["scontrol"], out, stderr=err, returncode=code), THREE)
    except ScrError:
        return
    assert set(states) <= set(THREE)
    assert states


@given(st.text(max_size=1000))
def test_any_reason_becomes_one_short_line(reason: str) -> None:
    text = result("nodes-draining").stdout.replace("bad fan", reason)
    try:
        states = parse_show_nodes(said(["scontrol"], text), THREE)
    except OutputParseError:
        assert "NodeName=" in reason  # a line that looks like a record of one of the others
        return
    assert states["n2"].state == "MIXED+DRAIN"
    for state in states.values():
        assert len(state.reason.splitlines()) <= 1
        assert len(state.reason) <= REASON_LIMIT


def test_formats_of_other_versions_are_understood() -> None:
    text = (
        "NodeName=n1 Arch=x86_64 State=DOWN*+CLOUD ThreadsPerCore=1 Reason=old [root@7]\n"
        "NodeName=n2 CoresPerSocket=2 State=IDLE+DYNAMIC_NORM+PLANNED ThreadsPerCore=1\n"
        "NodeName=n3 CoresPerSocket=2 State=MIXED+NOT_RESPONDING Reason=x Comment=y\n"
    )
    states = parse_show_nodes(said(["scontrol"], text), THREE)
    assert [state_words(states[n].state) for n in THREE] == [
        ["DOWN", "NOT_RESPONDING", "CLOUD"],
        ["IDLE", "DYNAMIC_NORM", "PLANNED"],
        ["MIXED", "NOT_RESPONDING"],
    ]


# --- what states mean ---


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("IDLE", HEALTHY),
        ("MIXED", HEALTHY),
        ("ALLOCATED+COMPLETING", HEALTHY),
        ("MIXED+PLANNED", HEALTHY),
        ("MIXED-", HEALTHY),
        ("MIXED+RESERVED", HEALTHY),
        ("IDLE+DYNAMIC_NORM", HEALTHY),
        ("IDLE+CLOUD", HEALTHY),
        ("MIXED+DRAIN", AVOID),
        ("IDLE+DRAIN", AVOID),
        ("DRAINING", AVOID),
        ("DRAINED", AVOID),
        ("MIXED+FAIL", AVOID),
        ("FAILING", AVOID),
        ("MIXED+MAINTENANCE+RESERVED", AVOID),
        ("MIXED$", AVOID),
        ("MIXED+REBOOT_REQUESTED", AVOID),
        ("MIXED@", AVOID),
        ("MIXED+POWER_DOWN", AVOID),
        ("MIXED!", AVOID),
        ("IDLE#", AVOID),
        ("IDLE+POWERING_UP", AVOID),
        ("IDLE+INVALID_REG", AVOID),
        ("FUTURE", AVOID),
        ("MIXED+NOT_RESPONDING", SILENT),
        ("IDLE*", SILENT),
        ("IDLE+DRAIN+NOT_RESPONDING", SILENT),
        ("UNKNOWN", SILENT),
        ("DOWN", LOST),
        ("DOWN+NOT_RESPONDING", LOST),
        ("DOWN*+DRAIN", LOST),
        ("DOWN+FAIL", LOST),
        ("ERROR", LOST),
        ("IDLE+POWERED_DOWN", LOST),
        ("IDLE~", LOST),
        ("IDLE%", LOST),
        ("DOWN+REBOOT_ISSUED", LOST),
        ("IDLE^", LOST),
        ("mixed+drain", AVOID),
    ],
)
def test_the_worst_word_decides(state: str, expected: Condition) -> None:
    assert condition(state) is expected


@pytest.mark.parametrize(
    ("case", "node", "state", "expected"),
    [
        ("planned", "n3", "MIXED+PLANNED", HEALTHY),
        ("maintenance", "n3", "MIXED+RESERVED", HEALTHY),
        ("power-down-pending", "n1", "MIXED+POWER_DOWN", AVOID),
        ("powering-up", "n3", "IDLE+NOT_RESPONDING+POWERING_UP", SILENT),
        ("reboot-issued", "n4", "DOWN+DRAIN+REBOOT_ISSUED", LOST),
        ("set-down", "n3", "DOWN", LOST),
        ("unknown", "n1", "UNKNOWN", SILENT),
    ],
)
def test_recorded_states(case: str, node: str, state: str, expected: Condition) -> None:
    said_of_it = found(f"nodes-{case}", [node])[node]
    assert said_of_it[0] == state
    assert judge(NodeState(*said_of_it), held=True, reserved=False).condition is expected


def test_maintenance_is_what_a_job_in_a_reservation_was_started_for() -> None:
    assert condition("MIXED+MAINTENANCE+RESERVED", reserved=True) is HEALTHY
    assert condition("MIXED$", reserved=True) is HEALTHY
    assert condition("MAINT", reserved=True) is HEALTHY
    assert condition("DOWN+MAINTENANCE+RESERVED", reserved=True) is LOST


def test_a_state_that_nobody_knows_is_not_healthy() -> None:
    for state in ("BROKEN", "", "?", "+", "BROKEN+PLANNED"):
        assert condition(state) is AVOID, state


def test_a_flag_of_a_later_version_condemns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert condition("MIXED+SHINY") is HEALTHY
    assert "SHINY" in caplog.text


@pytest.mark.parametrize("said_of_it", [None, NodeState("IDLE", "")])
def test_a_node_that_slurm_took_away_is_lost(said_of_it: Optional[NodeState]) -> None:
    finding = judge(said_of_it, held=False, reserved=False)
    assert finding.condition is LOST
    assert finding.reason == "Slurm has taken it out of the job"


def test_a_node_that_slurm_does_not_know_is_not_healthy() -> None:
    assert judge(None, held=True, reserved=False) == (SILENT, "not known to the Slurm controller")


def test_the_reason_names_state_and_administrators_words() -> None:
    assert judge(NodeState("MIXED+DRAIN", "bad fan"), held=True, reserved=False).reason == (
        "Slurm state MIXED+DRAIN: bad fan"
    )
    assert judge(NodeState("DOWN", ""), held=True, reserved=False).reason == "Slurm state DOWN"


def test_every_suffix_stands_for_a_known_flag() -> None:
    assert set(SUFFIXES.values()) <= set(STATES)


def test_a_healthy_node_needs_no_reason() -> None:
    assert judge(NodeState("IDLE", "was full"), held=True, reserved=False) == (HEALTHY, "")
