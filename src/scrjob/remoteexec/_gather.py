# SPDX-License-Identifier: BSD-3-Clause
"""Many local processes side by side, with one deadline: what each said, as far as it came.

Import it where nodes are asked, not before: it brings subprocess.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
from typing import TYPE_CHECKING, Callable, Mapping, Optional, Sequence

from scrjob._clock import Deadline, wait_for
from scrjob._process import kill_group, signal_group, wait_process
from scrjob.errors import CommandError

if TYPE_CHECKING:
    from scrjob.protocols import Context, PipedProcess

_READ_BYTES = 1 << 16
EXIT_S = 0.2  # between the end of a process's output and its own
END_GRACE_S = 0.2  # for a process past the deadline to follow TERM
LINGER_S = 40.0  # srun takes up to 20 s to take leave of a dead node
LOOK_AGAIN_S = 0.5  # for nodes that are lost meanwhile; each look reads all that has come so far
FILES_KEPT = 64  # descriptors that are left to the rest of this process
FILES_EACH = 4  # two pipes, and what starting a process needs for a moment


class Call:
    """One process and what it said.

    Attributes:
        argv: its argument list.
        stdout, stderr: what came so far.
        ended: its exit code, -N for signal N; None if it was cut off, or never began.
        problem: why it could not be started, None if it was.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.ended: Optional[int] = None
        self.problem: Optional[CommandError] = None
        self._open = 0
        self._process: Optional[PipedProcess] = None

    def check_started(self) -> None:
        """Raise CommandError if it could not be started."""
        if self.problem is not None:
            raise self.problem

    def lines(self) -> tuple[list[str], list[str]]:
        """Return the lines of both streams."""
        out, err = (data.decode("utf-8", "surrogateescape") for data in (self.stdout, self.stderr))
        return out.split("\n"), err.split("\n")

    def start(
        self, context: Context, environ: Mapping[str, str], selector: selectors.BaseSelector
    ) -> bool:
        """Start it, and have ``selector`` tell of its output; False if it cannot be started."""
        try:
            process = context.runner.pipe(self.argv, env=environ)
        except CommandError as error:
            why = str(error).rpartition(": ")[
                2
            ]  # the whole argument list is too long for a message
            self.problem = CommandError(self.argv[:1], why=f"cannot be started: {why}")
            return False
        for stream, said in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            selector.register(stream, selectors.EVENT_READ, (self, said))
            self._open += 1
        self._process = process
        return True

    def read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
        """Take what came on one stream; True if both have ended, and so the call."""
        data = os.read(key.fd, _READ_BYTES)
        key.data[1].extend(data)
        if data:
            return False
        selector.unregister(key.fileobj)
        self._open -= 1
        if self._open:
            return False
        self._close()
        self.ended = wait_process(self._process, EXIT_S)
        return True

    def leave(self, selector: selectors.BaseSelector) -> None:
        """Hear no more of it; ``end_all`` ends it."""
        if self._process is not None:
            for stream in (self._process.stdout, self._process.stderr):
                if not stream.closed:
                    with contextlib.suppress(KeyError):  # has ended before
                        selector.unregister(stream)

    @property
    def running(self) -> bool:
        """Tell whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """Hear no more of it, and tell it to end if it has not."""
        if self.running:
            signal_group(self._process, signal.SIGTERM)
        self._close()

    def see_off(self) -> None:
        """Wait for an end that may take its time; then kill."""
        if self._process is not None and wait_process(self._process, LINGER_S) is None:
            kill_group(self._process.pid)
            wait_process(self._process, None)

    def _close(self) -> None:
        if self._process is not None:
            self._process.stdout.close()
            self._process.stderr.close()


def gather(
    calls: Sequence[Call],
    context: Context,
    environ: Mapping[str, str],
    *,
    limit_s: float,
    side_by_side: int,
    given_up: Optional[Callable[[Call], bool]] = None,
    later: Optional[tuple[float, Callable[[], Sequence[Call]]]] = None,
) -> None:
    """Run all calls, at most ``side_by_side`` at the same time, and return when they have ended.

    What runs after ``limit_s`` seconds gets TERM. What does not end at once is seen off in the background:
    an srun that is killed leaves its step behind.

    Args:
        calls: what to run.
        context: the outside world.
        environ: of the processes.
        limit_s: seconds for all of them.
        side_by_side: how many at the same time, if there are descriptors for so many.
        given_up: asked every LOOK_AGAIN_S; a call that it names is not waited for.
        later: seconds, and what then gives more calls unless all have ended.
    """
    deadline = Deadline(context.clock, limit_s)
    second = None if later is None else Deadline(context.clock, later[0])
    look = Deadline(context.clock, None if given_up is None else LOOK_AGAIN_S)
    room = max(1, min(side_by_side, files_left() // FILES_EACH))
    known = list(calls)
    waiting = list(reversed(known))
    listening: set[Call] = set()
    try:
        with selectors.DefaultSelector() as selector:
            while (waiting or listening) and not deadline.passed():
                startable = bool(waiting) and len(listening) < room
                if startable:
                    call = waiting.pop()
                    if call.start(context, environ, selector):
                        listening.add(call)
                waits = [0.0 if startable else deadline.left(), look.left()]
                waits += [second.left()] if second is not None else []
                for key, _ in selector.select(min(waits)):
                    call = key.data[0]
                    if call.read(selector, key):
                        listening.discard(call)
                if given_up is not None and look.passed():
                    look = Deadline(context.clock, LOOK_AGAIN_S)
                    for call in filter(given_up, tuple(listening)):
                        call.leave(selector)
                        listening.discard(call)
                if later is not None and second is not None and second.passed():
                    second = None
                    more = later[1]() if listening else ()
                    known += more
                    waiting[:0] = reversed(more)
    finally:
        end_all(known, context)


def end_all(calls: Sequence[Call], context: Context) -> None:
    """End what still runs; what takes longer than a moment is waited for beside the caller."""
    late = [call for call in calls if call.running]
    for call in calls:
        call.end()
    if not wait_for(
        lambda: not any(call.running for call in late),
        clock=context.clock,
        limit_s=END_GRACE_S,
    ):
        left = [call for call in late if call.running]
        context.runner.beside(lambda: see_off(left), "seeing off")


def see_off(calls: Sequence[Call]) -> None:
    """Wait for the ends of calls that take leave of somebody, then kill."""
    for call in calls:
        call.see_off()


def files_left() -> int:
    """Return how many descriptors this process may open, about."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(0, soft - FILES_KEPT)
