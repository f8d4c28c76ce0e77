# SPDX-License-Identifier: BSD-3-Clause
"""A command on a terminal of its own, and what is typed there."""

from __future__ import annotations

import os
import pty
import select
import signal
import time

LIMIT_S = 20.0
INTERRUPT = b"\x03"
END_OF_INPUT = b"\x04"


class Screen:
    """A command whose controlling terminal we hold the other end of."""

    def __init__(self, argv: list[str], environ: dict[str, str]) -> None:
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, environ)

    def wait(self, text: bytes) -> None:
        end = time.monotonic() + LIMIT_S
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} not in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def code(self) -> int:
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    break  # the other end is closed
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)
