# SPDX-License-Identifier: BSD-3-Clause
"""Halt conditions, and whether a checkpoint is needed."""

from __future__ import annotations

import os

import pytest

from clientworld import ClientWorld, Rank, write
from scrjob.client.session import Session
from scrjob.formats import halt, paths


def asks(session: Session, rank: Rank) -> tuple[bool, bool]:
    return session.should_exit(), session.need_checkpoint()


def test_without_conditions_a_program_goes_on(world: ClientWorld):
    assert world.run(asks, SCR_CHECKPOINT_INTERVAL="2") == [(False, False)] * 2
    assert world.halt() == halt.Conditions(reason="SCR_FINALIZE_CALLED")


def test_the_reason_of_a_regular_end_does_not_stop_the_next_run(world: ClientWorld):
    world.run(asks)
    assert world.run(asks, SCR_CHECKPOINT_INTERVAL="2") == [(False, False)] * 2


@pytest.mark.parametrize(
    "change",
    [
        {halt.REASON: "JOB_HALTED"},
        {halt.CHECKPOINTS: 0},
        {halt.CHECKPOINTS: -3},
        {halt.BEFORE: 1_000_000_000},
        {halt.BEFORE: 1_000_000_050, halt.SECONDS: 60},
        {halt.AFTER: 999_999_999},
    ],
)
def test_a_condition_stops_it_and_asks_for_a_last_checkpoint(world: ClientWorld, change):
    world.set_halt(**change)
    assert world.run(asks, SCR_CHECKPOINT_INTERVAL="9") == [(True, True)] * 2


@pytest.mark.parametrize(
    "change", [{halt.CHECKPOINTS: 1}, {halt.BEFORE: 1_000_000_061, halt.SECONDS: 60}]
)
def test_a_condition_that_does_not_hold_yet(world: ClientWorld, change):
    world.set_halt(**change)
    assert world.run(lambda s, _: s.should_exit()) == [False, False]


def test_the_end_of_the_allocation_with_seconds_to_spare(world: ClientWorld):
    settings = {"SCR_END_TIME": "1000000100", "SCR_HALT_SECONDS": "60"}

    def program(session: Session, rank: Rank) -> list[bool]:
        before = session.should_exit()
        rank.comm.barrier()
        if rank.number == 0:
            world.clock.advance(40)
        rank.comm.barrier()
        return [before, session.should_exit()]

    assert world.run(program, **settings) == [[False, True]] * 2
    assert world.halt().seconds == 60


@pytest.mark.parametrize("end", ["0", "-1", "soon", ""])
def test_an_end_that_is_not_known_never_stops(world: ClientWorld, end):
    assert world.run(lambda s, _: s.should_exit(), SCR_END_TIME=end, SCR_HALT_SECONDS="60") == [
        False,
        False,
    ]


def test_checkpoints_are_counted_off_output_is_not(world: ClientWorld):
    world.set_halt(**{halt.CHECKPOINTS: 2})

    def program(session: Session, rank: Rank) -> list[bool]:
        seen = []
        for number, is_ckpt in enumerate((True, False, True), 1):
            write(session, rank, f"d.{number}", is_ckpt=is_ckpt, is_output=not is_ckpt)
            seen.append(session.should_exit())
        return seen

    assert world.run(program) == [[False, False, True]] * 2
    assert world.halt().checkpoints == 0


def test_a_reason_that_stands_in_the_file_stays(world: ClientWorld):
    world.set_halt(**{halt.REASON: "JOB_HALTED"})
    world.run(asks)
    assert world.halt().reason == "JOB_HALTED"


def test_a_damaged_halt_file_has_no_conditions(world: ClientWorld):
    os.makedirs(paths.scr_dir(world.prefix))
    with open(paths.halt_file(world.prefix), "wb") as file:
        file.write(b"garbage")
    assert world.run(lambda s, _: s.should_exit()) == [False, False]


def test_a_halt_file_that_cannot_be_written_does_not_stop_the_program(world: ClientWorld):
    os.makedirs(paths.halt_file(world.prefix))  # a directory
    assert world.run(lambda s, _: s.should_exit()) == [False, False]


def test_halt_exit_ends_the_program_after_the_checkpoint_is_safe(world: ClientWorld, caplog):
    world.set_halt(**{halt.CHECKPOINTS: 1})

    def program(session: Session, rank: Rank) -> None:
        write(session, rank, "ckpt.1")
        raise AssertionError("not reached")

    answers = world.run_any(program, SCR_HALT_EXIT="1", SCR_FLUSH="10")
    assert [(type(answer), getattr(answer, "code", None)) for answer in answers] == [
        (SystemExit, 0)
    ] * 2
    assert world.halt().reason == "NO_CHECKPOINTS_LEFT"
    assert world.index().current() == "ckpt.1"
    assert "Job exiting: No more checkpoints remaining." in caplog.text
    assert [r["note"] for r in world.records() if r["label"] == "HALT"] == ["NO_CHECKPOINTS_LEFT"]


def test_halt_exit_ends_a_new_run_in_init(world: ClientWorld):
    world.set_halt(**{halt.REASON: "JOB_HALTED"})
    answers = world.run_any(lambda _s, _r: None, SCR_HALT_EXIT="1")
    assert [type(answer) for answer in answers] == [SystemExit] * 2


def test_need_checkpoint_by_seconds(world: ClientWorld):
    def program(session: Session, rank: Rank) -> list[bool]:
        seen = []
        for _ in range(3):
            seen.append(session.need_checkpoint())
            rank.comm.barrier()
            if rank.number == 0:
                world.clock.advance(6)
            rank.comm.barrier()
        return seen

    assert world.run(program, SCR_CHECKPOINT_SECONDS="10") == [[False, False, True]] * 2
