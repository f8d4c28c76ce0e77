# SPDX-License-Identifier: BSD-3-Clause
"""Processes side by side, on real short-lived ones."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any, Callable, Mapping, Optional, Sequence

import pytest

from scrjob._clock import SystemClock
from scrjob._process import SubprocessRunner
from scrjob.errors import CommandError
from scrjob.remoteexec import _gather
from scrjob.remoteexec._gather import Call, files_left, gather
from scrjob.testing.fakes import FakeRunner, fake_context, missing, said


class Runner(SubprocessRunner):
    """Counts the processes that run at the same time, and keeps what is put off."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.most = 0
        self.later: list[Callable[[], None]] = []

    def pipe(self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> Any:
        self.started.append(super().pipe(argv, env=env))
        self.most = max(self.most, sum(process.poll() is None for process in self.started))
        return self.started[-1]

    def beside(self, function: Callable[[], None], name: str) -> None:
        self.later.append(function)


def python(code: str) -> Call:
    return Call([sys.executable, "-S", "-c", code])


def run(calls: Sequence[Call], limit_s: float = 30.0, side_by_side: int = 8) -> Runner:
    runner = Runner()
    context = fake_context(runner=runner, clock=SystemClock())
    gather(calls, context, {"A": "b"}, limit_s=limit_s, side_by_side=side_by_side)
    return runner


def test_each_call_keeps_its_streams_and_its_end() -> None:
    calls = [
        python("import os, sys; print(os.environ['A']); sys.stderr.write('e\\n'); sys.exit(3)"),
        python("import os; os.kill(os.getpid(), 9)"),
    ]
    run(calls)
    assert (calls[0].lines(), calls[0].ended) == ((["b", ""], ["e", ""]), 3)
    assert (calls[1].lines(), calls[1].ended) == (([""], [""]), -9)


def test_no_more_than_agreed_run_at_the_same_time() -> None:
    calls = [python("import time; time.sleep(0.05)") for _ in range(6)]
    assert run(calls, side_by_side=2).most == 2
    assert [call.ended for call in calls] == [0] * 6


def test_descriptors_bound_the_number_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gather, "files_left", lambda: 7)
    calls = [python("import time; time.sleep(0.05)") for _ in range(3)]
    assert run(calls).most == 1
    assert [call.ended for call in calls] == [0] * 3


def test_a_call_that_is_given_up_is_not_waited_for() -> None:
    """The others are; and what it said before is there."""
    hanging = python("import time; print('begun', flush=True); time.sleep(600)")
    other = python("import time; time.sleep(1.0); print('done')")
    runner = Runner()
    began = time.monotonic()
    gather(
        [hanging, other],
        fake_context(runner=runner, clock=SystemClock()),
        {},
        limit_s=60.0,
        side_by_side=8,
        given_up=lambda call: call is hanging and bool(call.stdout),
    )
    assert time.monotonic() - began < 10.0
    assert hanging.ended is None
    assert hanging.lines()[0] == ["begun", ""]
    assert other.ended == 0
    for function in runner.later:
        function()
    assert not any(call.running for call in (hanging, other))


def test_whether_to_give_up_is_not_asked_at_every_word() -> None:
    """The answer takes reading all that was said, of ten thousand nodes."""
    chatty = python(
        "import time\nfor _ in range(300): print('word', flush=True); time.sleep(0.005)"
    )
    asked: list[Call] = []
    began = time.monotonic()
    gather(
        [chatty],
        fake_context(runner=Runner(), clock=SystemClock()),
        {},
        limit_s=60.0,
        side_by_side=8,
        given_up=lambda call: bool(asked.append(call)),  # type: ignore[func-returns-value]
    )
    assert 2 <= len(asked) <= (time.monotonic() - began) / _gather.LOOK_AGAIN_S
    assert chatty.ended == 0


def test_what_was_said_before_the_deadline_is_there() -> None:
    hanging = python("import time; print('begun', flush=True); time.sleep(600)")
    began = time.monotonic()
    runner = run([hanging, python("print('done')")], limit_s=0.5)
    assert time.monotonic() - began < 5.0
    assert hanging.ended is None
    assert hanging.lines()[0] == ["begun", ""]
    assert runner.started[0].poll() == -signal.SIGTERM
    assert runner.later == []


def test_what_was_not_started_in_time_never_is() -> None:
    calls = [python("import time; time.sleep(600)"), python("print('late')")]
    assert len(run(calls, limit_s=0.3, side_by_side=1).started) == 1
    assert (calls[1].ended, calls[1].problem, calls[1].lines()[0]) == (None, None, [""])


def test_who_takes_leave_slowly_is_waited_for_beside_the_caller() -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.6), sys.exit(7)))\n"
        "print('begun', flush=True); time.sleep(600)"
    )
    runner = run([python(code)], limit_s=0.5)
    (process,) = runner.started
    assert process.poll() is None
    (see_off,) = runner.later
    see_off()
    assert process.poll() == 7


def test_who_does_not_go_is_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gather, "LINGER_S", 0.1)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('begun', flush=True); time.sleep(600)"
    )
    runner = run([python(code)], limit_s=0.5)
    runner.later[0]()
    assert runner.started[0].poll() == -signal.SIGKILL


def test_an_interrupt_ends_all_calls() -> None:
    calls = [python("import time; time.sleep(600)") for _ in range(2)]
    runner = Runner()

    class Clock(SystemClock):
        def monotonic(self) -> float:
            if len(runner.started) == 2 and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return super().monotonic()

    interrupted: list[bool] = []
    context = fake_context(runner=runner, clock=Clock())
    with pytest.raises(KeyboardInterrupt):
        gather(calls, context, {}, limit_s=30.0, side_by_side=8)
    assert [process.poll() for process in runner.started] == [-signal.SIGTERM] * 2


def test_a_program_that_cannot_be_started_does_not_stop_the_others() -> None:
    calls = [Call(["absent", "a", "b"]), Call(["present"])]
    runner = FakeRunner(lambda argv: missing(argv) if argv[0] == "absent" else said(argv, "x\n"))
    gather(calls, fake_context(runner=runner), {}, limit_s=1.0, side_by_side=8)
    with pytest.raises(CommandError, match=r"failed: absent: cannot be started: No such"):
        calls[0].check_started()
    calls[1].check_started()
    assert (calls[1].lines()[0], calls[1].ended) == (["x", ""], 0)


def test_some_descriptors_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert files_left() == 960
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 4096))
    assert files_left() == 0
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert files_left() > 10_000


def test_more_calls_come_later_unless_all_have_ended() -> None:
    runner = Runner()
    context = fake_context(runner=runner, clock=SystemClock())
    first, second = python("import time; time.sleep(600)"), python("print('second')")
    gather([first], context, {}, limit_s=1.5, side_by_side=8, later=(0.2, lambda: [second]))
    assert (first.ended, second.ended) == (None, 0)
    assert [process.poll() for process in runner.started] == [-signal.SIGTERM, 0]
    third, never = python("pass"), python("pass")
    gather([third], context, {}, limit_s=9.0, side_by_side=8, later=(5.0, lambda: [never]))
    assert (third.ended, len(runner.started)) == (0, 3)


def test_what_has_ended_but_not_its_output_is_let_go_of() -> None:
    """A process that it has started keeps the pipe, as a shared ssh connection does."""
    call = python("import os, time; os.fork() or time.sleep(2)")
    runner = run([call], limit_s=0.5)
    assert not call.running
    assert runner.started[0].stdout.closed
    assert runner.started[0].stderr.closed
