# SPDX-License-Identifier: BSD-3-Clause
"""Which signals the supervisor takes, and which it leaves alone."""

from __future__ import annotations

import os
import signal
from typing import Iterator

import pytest

from scrjob.supervisor.signals import POLITE, SignalWatch


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in POLITE}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", POLITE)
def test_each_is_noted_and_its_handler_comes_back(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    with SignalWatch() as watch:
        os.kill(os.getpid(), number)
        assert watch.first is number
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize("number", POLITE)
def test_a_repeated_one_does_not_change_how_a_process_ends(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    with SignalWatch(ends_process=True) as watch:
        assert watch.first is None
    assert signal.getsignal(number) is signal.SIG_DFL
    with SignalWatch(ends_process=True):
        os.kill(os.getpid(), signal.SIGUSR1)
    if number is signal.SIGINT:  # the user insists
        assert signal.getsignal(number) is signal.SIG_DFL
    else:
        os.kill(os.getpid(), number)


def test_nohup_holds() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with SignalWatch() as watch:
        os.kill(os.getpid(), signal.SIGHUP)
        assert watch.first is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_only_a_second_interrupt_insists() -> None:
    with SignalWatch() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert not watch.stop_now()
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.stop_now()
