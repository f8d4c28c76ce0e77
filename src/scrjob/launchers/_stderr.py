# SPDX-License-Identifier: BSD-3-Clause
"""Copies a launcher's stderr on its way to ours, so that its messages can be read as evidence.

Bytes go on unchanged and at once, partial lines too; reading them is done after. If nobody hears our own
stderr any more the launcher does not notice. What it writes after we have died is lost, as it would be
on any closed pipe; srun and others live on without it.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from scrjob.protocols import CommandRunner

STDERR = 2
CHUNK_BYTES = 65536
LINE_BYTES = 8192  # a longer line is no message; memory does not grow with it
FLUSH_LIMIT_S = 1.0  # for the last bytes, when the launcher has ended


class StderrTee:
    """One launcher's stderr.

    Args:
        on_line: gets each whole line, without its end, on a thread of the tee's own.

    Attributes:
        fd: what the launcher gets as stderr; a terminal if ours is one. ``start`` closes it here.
    """

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._source, self.fd = _like(STDERR)
        self._ended = threading.Event()
        self._is_heard = True
        self._line = b""

    def start(self, runner: CommandRunner) -> None:
        """Begin to copy; called when the launcher has its end."""
        os.close(self.fd)
        runner.beside(self._copy, "stderr of the launcher")

    def drop(self) -> None:
        """Close both ends: there is no launcher."""
        os.close(self.fd)
        os.close(self._source)

    def finish(self, limit_s: float = FLUSH_LIMIT_S) -> None:
        """Wait until all has been copied, for a launcher that has ended.

        A process that it left behind may hold its stderr open: that is still copied later.
        """
        self._ended.wait(limit_s)

    def _copy(self) -> None:
        try:
            # A pseudo terminal ends with an error in place of an end of file.
            with contextlib.suppress(OSError):
                while chunk := os.read(self._source, CHUNK_BYTES):
                    self._pass_on(chunk)
                    self._split(chunk)
        finally:
            os.close(self._source)
            self._ended.set()

    def _pass_on(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left and self._is_heard:
            try:
                left = left[os.write(STDERR, left) :]
            except BlockingIOError:  # somebody set our terminal so
                select.select([], [STDERR], [])
            except OSError:
                self._is_heard = False

    def _split(self, chunk: bytes) -> None:
        *whole, self._line = (self._line + chunk).split(b"\n")
        for line in whole:
            if len(line) <= LINE_BYTES:
                self._on_line(line)
        # Of an endless line enough is kept to know at its end that it was too long.
        self._line = self._line[: LINE_BYTES + 1]


def _like(fd: int) -> tuple[int, int]:
    """Return (reading end, writing end) of a pipe, of a raw terminal of the same size if ``fd`` is one."""
    size = _window_size(fd)
    if size is None:
        return os.pipe()
    import fcntl  # noqa: PLC0415 - only for a terminal
    import termios  # noqa: PLC0415 - same
    import tty  # noqa: PLC0415 - same

    source, end = os.openpty()
    tty.setraw(end)  # ours does the rest: no byte is changed twice
    fcntl.ioctl(end, termios.TIOCSWINSZ, size)
    return source, end


def _window_size(fd: int) -> Optional[bytes]:
    """Return the size of a terminal as the kernel packs it, None for anything else."""
    if not os.isatty(fd):
        return None
    import fcntl  # noqa: PLC0415 - only for a terminal
    import termios  # noqa: PLC0415 - same

    return fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
