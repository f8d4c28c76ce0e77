# SPDX-License-Identifier: BSD-3-Clause
"""A launcher's stderr on its way to ours: descriptors only, no process."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import termios
import tty
from fcntl import F_GETFL, F_SETFL, fcntl, ioctl
from typing import Iterator

from scrjob._process import SubprocessRunner
from scrjob.launchers._stderr import LINE_BYTES, StderrTee

RUNNER = SubprocessRunner()
LIMIT_S = 20.0


@contextlib.contextmanager
def stderr_is(fd: int) -> Iterator[None]:
    """Let descriptor 2 be a copy of ``fd``, -1 for a closed one."""
    saved = os.dup(2)
    if fd < 0:
        os.close(2)
    else:
        os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class Tee:
    """A tee whose launcher is the test, with a pipe as our stderr."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.made = StderrTee(self.lines.append)
        self.launcher = os.dup(self.made.fd)
        self.made.start(RUNNER)

    def write(self, data: bytes) -> None:
        os.write(self.launcher, data)

    def end(self) -> list[bytes]:
        os.close(self.launcher)
        self.made.finish(LIMIT_S)
        return self.lines


@contextlib.contextmanager
def our_stderr() -> Iterator[int]:
    """Yield the reading end of a pipe that is our stderr. No fixture: pytest has its own between phases."""
    reader, writer = os.pipe()
    with stderr_is(writer):
        os.close(writer)
        yield reader
    os.close(reader)


def read(fd: int, count: int) -> bytes:
    seen = b""
    while len(seen) < count:
        assert select.select([fd], [], [], LIMIT_S)[0], f"only {seen!r}"
        seen += os.read(fd, count - len(seen))
    return seen


def test_a_partial_line_goes_on_at_once() -> None:
    """Lesson A19: live."""
    with our_stderr() as ours:
        tee = Tee()
        tee.write(b"45 %")
        assert read(ours, 4) == b"45 %"
        tee.write(b"\r46 %\nend")
        assert read(ours, 9) == b"\r46 %\nend"
        assert tee.end() == [b"45 %\r46 %"]


def test_no_byte_is_changed() -> None:
    with our_stderr() as ours:
        tee = Tee()
        every = bytes(range(256)) * 8
        tee.write(every)
        assert read(ours, len(every)) == every
        assert b"\n".join([*tee.end(), every.rpartition(b"\n")[2]]) == every


def test_an_endless_line_does_not_fill_the_memory() -> None:
    with our_stderr() as ours:
        tee = Tee()
        for _ in range(4):
            tee.write(b"x" * LINE_BYTES)
            read(ours, LINE_BYTES)
        assert len(tee.made._line) <= LINE_BYTES + 1
        tee.write(b"\nsrun: next\n")
        assert tee.end() == [b"srun: next"]


def test_a_line_of_the_largest_length_is_read() -> None:
    with our_stderr() as ours:
        tee = Tee()
        tee.write(b"x" * LINE_BYTES + b"\n")
        read(ours, LINE_BYTES + 1)
        assert tee.end() == [b"x" * LINE_BYTES]


def test_that_nobody_hears_us_harms_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with stderr_is(writer):
        os.close(writer)
        tee = Tee()
        tee.write(b"one\n")
        tee.write(b"two\n")
        assert tee.end() == [b"one", b"two"]


def test_a_closed_stderr_harms_nobody() -> None:
    with stderr_is(-1):
        tee = Tee()
        tee.write(b"one\n")
        assert tee.end() == [b"one"]


def test_a_stderr_that_does_not_block_loses_nothing() -> None:
    with our_stderr() as ours:
        fcntl(2, F_SETFL, fcntl(2, F_GETFL) | os.O_NONBLOCK)
        tee = Tee()
        much = b"y" * 65535 + b"\n"
        for _ in range(2):
            tee.write(much)
        assert read(ours, 2 * len(much)) == 2 * much
        assert tee.end() == []


def test_on_a_terminal_the_launcher_has_one_of_the_same_size() -> None:
    master, terminal = os.openpty()
    tty.setraw(terminal)
    size = struct.pack("HHHH", 33, 77, 0, 0)
    ioctl(terminal, termios.TIOCSWINSZ, size)
    with stderr_is(terminal):
        tee = Tee()
        assert os.isatty(tee.launcher)
        assert ioctl(tee.launcher, termios.TIOCGWINSZ, bytes(8)) == size
        tee.write(b"a\nb\r\n\x03")
        assert read(master, 6) == b"a\nb\r\n\x03"
        assert tee.end() == [b"a", b"b\r"]
    os.close(master)
    os.close(terminal)


def test_without_a_launcher_nothing_stays_open() -> None:
    with our_stderr():
        before = os.listdir("/proc/self/fd")
        StderrTee(print).drop()
        assert os.listdir("/proc/self/fd") == before


def test_at_the_end_nothing_stays_open() -> None:
    with our_stderr():
        before = os.listdir("/proc/self/fd")
        Tee().end()
        assert os.listdir("/proc/self/fd") == before


def test_a_process_left_behind_is_not_waited_for() -> None:
    with our_stderr() as ours:
        tee = Tee()
        tee.made.finish(0.01)
        tee.write(b"later\n")
        assert read(ours, 6) == b"later\n"
        assert tee.end() == [b"later"]
