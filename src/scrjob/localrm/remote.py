# SPDX-License-Identifier: BSD-3-Clause
"""A program on a node as its caller drives it, and one command on many nodes at once."""

from __future__ import annotations

import errno
import fcntl
import os
import selectors
import socket
from typing import TYPE_CHECKING, Callable, Collection, Mapping, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline
from scrjob.localrm._proc import exit_code
from scrjob.localrm._wire import CREDENTIALS

if TYPE_CHECKING:
    from scrjob.localrm.client import Allocation
    from scrjob.protocols import Clock

_READ_BYTES = 1 << 16
LOOK_AGAIN_S = 0.5  # for nodes that are lost meanwhile


class RemoteProgram:
    """A program on a node, driven by its caller: when ``fileno`` is ready, call ``advance``.

    Attributes:
        node: where it runs.
        pid: its process id as the node counts; 0 before it was started.
        keeper: process id, as this side sees it, of what looks after it on the node; 0 unknown.
        status: its wait status once it has ended.
        start_error: errno if the program could not be started.
        unsent: what of the request is still to be sent: wait for writing too.
        failure: why there is no status and will be none, in one line.
    """

    def __init__(self, node: str, address: str, request: bytes, streams: Sequence[int]) -> None:
        self.node = node
        self.pid = 0
        self.keeper = 0
        self.status: Optional[int] = None
        self.failure: Optional[str] = None
        self.start_error: Optional[int] = None
        self.unsent = memoryview(request)
        self._line = b""
        self._streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in streams]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address)
        except BlockingIOError:
            self._fail("too many requests are waiting there")
        except OSError as error:
            self._fail(_explain(error))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come."""
        return self.status is not None or self.failure is not None

    @property
    def events(self) -> int:
        """Return what to wait for, as ``selectors`` has it."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)

    @property
    def code(self) -> Optional[int]:
        """Return the exit code, 128+N for signal N, None without one."""
        return None if self.status is None else exit_code(self.status)

    def advance(self) -> None:
        """Send and receive what can be without waiting."""
        if self.over:
            return
        try:
            self._send()
            self._receive()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(_explain(error))

    def close(self) -> None:
        """Leave; if the program still runs, all that it started there is killed."""
        self._socket.close()
        self._drop_streams()

    def _send(self) -> None:
        while self.unsent:
            try:
                if self._streams:
                    sent = socket.send_fds(self._socket, [self.unsent], self._streams)
                    self._drop_streams()
                else:
                    sent = self._socket.send(self.unsent)
            except BlockingIOError:
                return
            self.unsent = self.unsent[sent:]

    def _receive(self) -> None:
        while self.status is None and self.failure is None:
            data, ancillary, _, _ = self._socket.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(CREDENTIALS.size)
            )
            if not data:
                self._fail("the node died, or the connection to it was closed")
                return
            if ancillary and not self.keeper:
                self.keeper = CREDENTIALS.unpack(ancillary[0][2])[0]
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                self._understand(line)
        self.close()

    def _understand(self, line: bytes) -> None:
        kind, _, rest = line.partition(b" ")
        if kind == b"S":
            self.pid = int(rest)
        elif kind == b"X":
            self.status = int(rest)
        elif kind == b"E":
            number, _, name = rest.partition(b" ")
            self.start_error = int(number)
            self.failure = f"cannot be started: {os.fsdecode(name)}: {os.strerror(int(number))}"

    def _fail(self, why: str) -> None:
        self.failure = why
        self.close()

    def _drop_streams(self) -> None:
        while self._streams:
            os.close(self._streams.pop())


def _explain(error: OSError) -> str:
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        return "the node is dead"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "the node died, or the connection to it was closed"
    return f"cannot talk to the node: {error.strerror}"


class Answer(NamedTuple):
    """What a command said on a node; ``code`` is None, with the reason in ``failure``, if it has none."""

    code: Optional[int]
    stdout: bytes
    stderr: bytes
    failure: Optional[str]


def run_on_nodes(
    allocation: Allocation,
    argv: Sequence[str],
    nodes: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: str,
    timeout_s: float,
    clock: Clock,
    lost: Optional[Callable[[], Collection[str]]] = None,
) -> dict[str, Answer]:
    """Run a command on nodes at the same time, without stdin, and return each one's answer.

    A node that does not end in time is given up and, if it can still hear, told to kill the command; so is
    one that ``lost()`` names by and by.
    """
    deadline = Deadline(clock, timeout_s)
    with selectors.DefaultSelector() as selector:
        calls = [_Call(allocation, node, argv, environ, cwd) for node in nodes]
        for call in calls:
            call.register(selector)
        look_s = float("inf") if lost is None else LOOK_AGAIN_S
        gone: Collection[str] = ()
        while not deadline.passed() and any(
            not call.done and call.program.node not in gone for call in calls
        ):
            for key, _ in selector.select(min(deadline.left(), look_s)):
                key.data[0].on_ready(selector, key)
            gone = () if lost is None else lost()
        return {
            node: call.answer(
                selector,
                "the node is lost" if node in gone else f"no answer within {timeout_s:g} s",
            )
            for node, call in ((call.program.node, call) for call in calls)
        }


class _Call:
    """One command on one node, with the pipes of its output."""

    def __init__(
        self,
        allocation: Allocation,
        node: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        cwd: str,
    ) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        pipes = [os.pipe(), os.pipe()]
        try:
            streams = [null, pipes[0][1], pipes[1][1]]
            self.program = allocation.start(node, argv, environ=environ, cwd=cwd, streams=streams)
        except BaseException:
            for reader, _ in pipes:
                os.close(reader)
            raise
        finally:
            for fd in (null, pipes[0][1], pipes[1][1]):
                os.close(fd)
        self._texts = {reader: bytearray() for reader, _ in pipes}
        self._open = set(self._texts)

    @property
    def done(self) -> bool:
        """Tell whether the program is over and its output has been read to the end."""
        return self.program.over and not self._open

    def register(self, selector: selectors.BaseSelector) -> None:
        """Have the selector wake us."""
        for reader in self._texts:
            selector.register(reader, selectors.EVENT_READ, (self,))
        if not self.program.over:
            selector.register(self.program, self.program.events, (self,))

    def on_ready(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        """Take what came."""
        if key.fileobj is not self.program:
            self._read(selector, key.fd)
            return
        selector.unregister(self.program)
        self.program.advance()
        if not self.program.over:
            selector.register(self.program, self.program.events, (self,))

    def _read(self, selector: selectors.BaseSelector, reader: int) -> None:
        data = os.read(reader, _READ_BYTES)
        self._texts[reader] += data
        if not data:
            selector.unregister(reader)
            self._open.discard(reader)
            os.close(reader)

    def answer(self, selector: selectors.BaseSelector, unless_over: str) -> Answer:
        """Return the answer as far as it came, and let go of everything.

        ``unless_over``: why there is none if the program still runs.
        """
        failure = self.program.failure
        if not self.program.over:
            failure = unless_over
        self.program.close()
        for reader in self._open:
            selector.unregister(reader)
            os.close(reader)
        out, err = (bytes(text) for text in self._texts.values())
        return Answer(self.program.code, out, err, failure)
