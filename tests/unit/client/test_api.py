# SPDX-License-Identifier: BSD-3-Clause
"""The published functions and context managers, on one rank."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

import scrjob.client as scr
from clientworld import ClientWorld
from scrjob.errors import UsageError
from threadcomm import ThreadComm, _Shared


@pytest.fixture
def start(world: ClientWorld) -> Iterator[object]:
    """Return a function that begins a run; what is not finalized is ended by force."""

    def init(**settings: str) -> None:
        scr.init(ThreadComm(_Shared(1), 0), context=world.context(**settings))

    yield init
    scr._State.session = None


def save(dataset: scr.Dataset, world: ClientWorld, content: bytes = b"x") -> str:
    path = dataset.route(f"{world.prefix}/{dataset.name}/state")
    with open(path, "wb") as file:
        file.write(content)
    return path


def fail_after(_done: str) -> None:
    raise KeyError


def test_the_names_of_scr_are_there_and_documented():
    for name in scr.__all__:
        assert getattr(scr, name, None) is not None
        if callable(getattr(scr, name)):
            assert getattr(scr, name).__doc__, name
    assert (scr.SCR_FLAG_NONE, scr.SCR_FLAG_CHECKPOINT, scr.SCR_FLAG_OUTPUT) == (0, 1, 2)


def test_the_whole_way_with_functions(start, world: ClientWorld):
    start()
    assert scr.have_restart() is None
    assert scr.need_checkpoint()
    assert scr.start_checkpoint("ckpt.1") == "ckpt.1"
    with open(scr.route_file(f"{world.prefix}/a"), "wb") as file:
        file.write(b"x")
    assert scr.complete_checkpoint() is True
    assert not scr.should_exit()
    scr.finalize()
    start()
    assert scr.have_restart() == "ckpt.1" == scr.start_restart()
    with open(scr.route_file(f"{world.prefix}/a"), "rb") as file:
        assert file.read() == b"x"
    assert scr.complete_restart() is True
    assert scr.start_output(None, scr.SCR_FLAG_OUTPUT | scr.SCR_FLAG_CHECKPOINT) == "scr.dataset.2"
    assert scr.complete_output() is True
    scr.current("scr.dataset.2")
    scr.drop("scr.dataset.2")
    scr.finalize()
    assert world.index().ids() == []


def test_the_whole_way_with_blocks(start, world: ClientWorld):
    start()
    with scr.restart() as old:
        assert not old
        assert old.name == ""
    with scr.checkpoint("ckpt.1") as new:
        save(new, world, b"one")
    assert new.valid
    with scr.output("out.1") as out:
        save(out, world)
    scr.finalize()
    assert os.path.exists(f"{world.prefix}/out.1/state")
    start()
    with scr.restart() as old:
        assert old
        with open(old.route(f"{world.prefix}/ckpt.1/state"), "rb") as file:
            assert file.read() == b"one"
    assert old.valid
    scr.finalize()


def test_an_exception_in_a_block_gives_the_dataset_up_and_goes_on(start, world: ClientWorld):
    start()
    with pytest.raises(KeyError), scr.checkpoint("ckpt.1") as new:
        fail_after(save(new, world))
    assert not new.valid
    assert world.cached() == []
    with scr.checkpoint("ckpt.2") as new:
        save(new, world)
    scr.finalize()


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_exception_while_reading_costs_no_checkpoint(start, world: ClientWorld, error):
    start()
    with scr.checkpoint("ckpt.1") as new:
        save(new, world)
    with pytest.raises(error), scr.restart() as old:
        raise error(old.name)
    assert scr.have_restart() == "ckpt.1"
    with scr.restart() as old:
        old.valid = False
    assert scr.have_restart() is None
    scr.finalize()


def test_a_rank_says_that_it_failed(start, world: ClientWorld):
    start()
    with scr.checkpoint("ckpt.1") as new:
        new.valid = False
    assert not new.valid
    scr.finalize()
    assert world.cached() == []


def test_before_init_and_after_finalize_calls_are_told(start):
    for call in (scr.have_restart, scr.need_checkpoint, scr.finalize, scr.should_exit):
        with pytest.raises(UsageError, match="init comes first"):
            call()
    start()
    with pytest.raises(UsageError, match="second time"):
        start()
    scr.finalize()
    with pytest.raises(UsageError, match="init comes first"):
        scr.route_file("x")


def test_config_before_and_after_init(start, world: ClientWorld):
    assert scr.config("SCR_FLUSH") is None
    scr.config("SCR_SET_SIZE=5")
    start()
    assert scr.config("SCR_SET_SIZE") == "5"
    assert scr.config("SCR_PREFIX") == world.prefix
    with pytest.raises(UsageError, match="before init"):
        scr.config("SCR_SET_SIZE=6")
    scr.finalize()
    start()
    assert scr.config("SCR_SET_SIZE") == "8"
    scr.finalize()


def test_switched_off_nothing_is_touched_and_files_are_where_their_names_say(start, world):
    scr.config("MINE=1")
    start(SCR_ENABLE="0")
    assert scr.config("MINE") == "1"
    assert scr.have_restart() is None
    with scr.restart() as old:
        assert not old
    assert not scr.need_checkpoint()
    with scr.checkpoint("ckpt.1") as new:
        assert new.route("some/where") == "some/where"
    assert new.valid
    with scr.output("o") as new:
        new.valid = False
    assert not new.valid
    assert scr.start_restart() == ""
    assert scr.complete_restart()
    assert not scr.should_exit()
    scr.current("x")
    scr.drop("x")
    scr.finalize()
    assert os.listdir(world.prefix) == []
    assert not os.path.exists(world.shm)


def test_the_stacks_are_armed_only_when_asked_for_and_a_failure_is_not_the_programs(
    start, world: ClientWorld, caplog
):
    os.makedirs(world.base / "stacks")
    start(SCR_STACK_DIR=str(world.base / "stacks"))
    assert os.listdir(world.base / "stacks") == [f"node1.{os.getpid()}.txt"]
    scr.finalize()
    start(SCR_STACK_DIR=str(world.base / "no"))
    scr.finalize()
    assert "cannot prepare for stack traces" in caplog.text


def test_switched_off_in_a_file(start, world: ClientWorld):
    with open(f"{world.prefix}/.scrconf", "w", encoding="ascii") as file:
        file.write("SCR_ENABLE=0\n")
    start()
    assert not scr.need_checkpoint()
    scr.finalize()
    assert not os.path.exists(world.shm)
