# SPDX-License-Identifier: BSD-3-Clause
"""When a node is condemned: not by one kind of evidence once, not after it has answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrjob.supervisor.suspicion import RULES, WINDOW_S, Evidence, Kind, Suspicion

LOST, SILENT, SAID, PING, ECHO = Kind.LOST, Kind.SILENT, Kind.SAID, Kind.PING, Kind.ECHO
UNSURE = [kind for kind in Kind if not RULES[kind].sure]
QUESTIONS = [kind for kind in Kind if RULES[kind].clears]
WORDS = [kind for kind in UNSURE if RULES[kind].again_s is None]


def suspicion(*found: tuple[Kind, float]) -> Suspicion:
    made = Suspicion()
    for kind, when in found:
        made.add(Evidence("n1", kind, f"no word by {kind.value}", when))
    return made


def condemned(made: Suspicion, now: float) -> list[str]:
    return [bad.node for bad in made.condemned(now, 1_000_000.0 + now)]


@pytest.mark.parametrize(
    ("found", "is_lost"),
    [
        ([(LOST, 0)], True),
        ([(PING, 0)], False),
        ([(ECHO, 0)], False),
        ([(SILENT, 0)], False),
        ([(SAID, 0)], False),
        ([(PING, 0), (ECHO, 0)], True),
        ([(PING, 0), (SILENT, 0)], True),
        ([(ECHO, 0), (SAID, 0)], True),
        ([(PING, 0), (PING, 1)], False),
        ([(PING, 0), (PING, 1), (PING, 2), (PING, 3)], True),
        ([(PING, 0), (PING, 3)], True),
        ([(ECHO, 0), (ECHO, 19)], False),
        ([(ECHO, 0), (ECHO, 20)], True),
        ([(SILENT, 0), (SILENT, 50)], False),
        ([(SAID, 0), (SAID, 50)], False),
        ([(PING, 0), (ECHO, WINDOW_S + 1)], False),
        ([(PING, 0), (PING, WINDOW_S + 1)], False),
    ],
)
def test_what_condemns(found: list[tuple[Kind, float]], is_lost: bool) -> None:
    """Lesson B7, and that a healthy but slow node is left alone: two kinds, or one kind twice."""
    made = suspicion(*found)
    assert condemned(made, found[-1][1]) == (["n1"] if is_lost else [])


@given(st.sampled_from(UNSURE), st.floats(0, 1e6), st.floats(0, 1e4))
def test_one_kind_once_never_condemns(kind: Kind, when: float, later: float) -> None:
    assert condemned(suspicion((kind, when)), when + later) == []


@given(
    st.sampled_from(UNSURE),
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_many_of_one_kind_at_once_never_condemn(kind: Kind, moments: list[float]) -> None:
    made = suspicion(*((kind, when) for when in sorted(moments)))
    assert condemned(made, max(moments)) == []


@given(
    st.sampled_from(QUESTIONS),
    st.lists(st.tuples(st.sampled_from(UNSURE), st.floats(0, 50)), max_size=20),
)
def test_an_answer_clears_what_it_proves_wrong(
    question: Kind, found: list[tuple[Kind, float]]
) -> None:
    made = suspicion(*found)
    made.answered("n1", question, 50.0)
    left = [kind for kind, _ in found if kind not in RULES[question].clears]
    assert bool(made.suspects(50.0)) == bool(left)
    if len(set(left)) < 2 and not any(RULES[kind].again_s for kind in left):
        assert condemned(made, 50.0) == []


def test_a_command_that_ran_proves_more_than_a_ping() -> None:
    """The kernel of a node whose processes are stopped still answers pings."""
    made = suspicion((ECHO, 0), (SAID, 1))
    made.answered("n1", PING, 2)
    assert condemned(made, 2) == ["n1"]
    made.answered("n1", ECHO, 2)
    assert made.suspects(2) == []


def test_an_answer_to_an_older_question_clears_nothing_newer() -> None:
    made = suspicion((PING, 5), (SILENT, 5))
    made.answered("n1", ECHO, 4)
    assert condemned(made, 5) == ["n1"]


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_not_said_any_more_is_dropped(kind: Kind) -> None:
    made = suspicion((kind, 0), (PING, 0))
    made.withdraw("n1", kind)
    assert condemned(made, 0) == []


def test_what_is_said_again_is_as_fresh_as_its_last_time() -> None:
    made = suspicion((SILENT, 0), (SILENT, WINDOW_S), (PING, WINDOW_S + 1))
    assert condemned(made, WINDOW_S + 1) == ["n1"]


def test_evidence_about_one_node_is_none_about_another() -> None:
    made = suspicion((PING, 0))
    made.add(Evidence("n2", ECHO, "no answer", 0))
    assert condemned(made, 0) == []
    assert made.suspects(0) == ["n1", "n2"]


def test_the_verdict_tells_all_that_was_seen_and_when() -> None:
    made = suspicion((PING, 10.0))
    made.add(Evidence("n1", ECHO, "no answer within 3 s", 13.5))
    (bad,) = made.condemned(14.0, 1_000_014.0)
    assert (bad.node, bad.test, bad.when) == ("n1", "ping + remote execution", 1_000_014.0)
    assert bad.reason == "no word by ping; no answer within 3 s"
    assert bad.seconds == 4.0
    assert bad.evidence == "no word by ping (4.0 s before); no answer within 3 s (0.5 s before)"


def test_a_sure_word_needs_no_other_in_the_verdict() -> None:
    made = suspicion((PING, 0), (LOST, 1))
    (bad,) = made.condemned(1, 1_000_001.0)
    assert (bad.reason, bad.test) == ("no word by resource manager", "resource manager")
