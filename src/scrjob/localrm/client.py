# SPDX-License-Identifier: BSD-3-Clause
"""Talking to an allocation from outside its manager: its state, and programs on its nodes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import selectors
import socket
import struct
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline, SystemClock, wait_for
from scrjob.errors import NotInAllocationError, ScrError, UsageError
from scrjob.localrm import directory
from scrjob.localrm._linux import exit_code
from scrjob.localrm._wire import Request, at, encode_request

if TYPE_CHECKING:
    from scrjob.protocols import Clock

ANSWER_LIMIT_S = 5.0  # for the manager, which never does anything slow
REVIVE_LIMIT_S = 30.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)
_READ_BYTES = 1 << 16


class NodeStatus(NamedTuple):
    """A node as the manager sees it.

    ``state``: booting, up, silent or dead; ``reason``: one line of evidence if not up; ``since``:
    Unix seconds; ``pid``: its first process, 0 while not known.
    """

    name: str
    state: str
    reason: str
    since: float
    pid: int


class Status(NamedTuple):
    """An allocation now; ``end`` is Unix seconds or None for no limit; ``ended`` tells why it is over."""

    info: directory.Info
    path: str
    ended: Optional[str]
    manager: int
    command: int
    end: Optional[float]
    nodes: list[NodeStatus]


class Allocation:
    """An allocation that somebody else holds.

    Args:
        path: its directory.
        clock: for deadlines.

    Raises:
        NotInAllocationError: there is none.
    """

    def __init__(self, path: str, clock: Optional[Clock] = None) -> None:
        self.path = path
        self.info = directory.read_info(path)
        self._clock = clock or SystemClock()
        self._directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self.outside = True
        """Whether the nodes' process ids mean the same here; known once the manager was asked."""

    def __del__(self) -> None:
        fd = getattr(self, "_directory", None)
        if fd is not None:
            os.close(fd)

    @classmethod
    def of_environment(
        cls, environ: Mapping[str, str], clock: Optional[Clock] = None
    ) -> Allocation:
        """Return the allocation in which a process with this environment runs.

        Raises:
            NotInAllocationError: in none.
        """
        path = environ.get(directory.DIR_VARIABLE)
        if not path:
            raise NotInAllocationError(
                "not in an allocation of scr_local alloc: SCR_LOCAL_DIR is not set"
            )
        return cls(path, clock)

    def status(self) -> Status:
        """Return the state of the allocation, also when it has ended.

        Raises:
            NotInAllocationError: nothing of it is left.
            ScrError: the manager does not answer.
        """
        try:
            answer = self._ask({"do": "status"})
        except NotInAllocationError:
            return Status(self.info, self.path, self._why_ended(), 0, 0, None, [])
        return self._understand(answer)

    def live_status(self) -> Status:
        """Return the state of a living allocation.

        Raises:
            NotInAllocationError: it has ended; says why.
            ScrError: the manager does not answer.
        """
        status = self.status()
        if status.ended is not None:
            raise NotInAllocationError(f"allocation {self.info.job_id} has ended: {status.ended}")
        return status

    def set_limit(self, seconds: Optional[float]) -> Status:
        """Let the allocation end in so many seconds from now, None: never; returns its new state."""
        return self._understand(self._ask({"do": "limit", "seconds": seconds}))

    def revive(self, node: str, limit_s: float = REVIVE_LIMIT_S) -> NodeStatus:
        """Boot a node anew if it is dead, and wait until it is up.

        Raises:
            ScrError: it is not up after ``limit_s`` seconds; says why.
        """
        self._ask({"do": "revive", "node": node})

        def settled() -> Optional[NodeStatus]:
            found = self.node(node)
            return None if found.state in ("booting", "silent") else found

        found = wait_for(settled, clock=self._clock, limit_s=limit_s)
        if found is None or found.state != "up":
            why = "it does not answer yet" if found is None else found.reason
            raise ScrError(f"{node} could not be revived: {why}")
        return found

    def node(self, name: str) -> NodeStatus:
        """Return the state of one node; raises UsageError if there is none of that name."""
        for node in self.live_status().nodes:
            if node.name == name:
                return node
        raise UsageError(f"no node {name!r}; the nodes are {', '.join(self.info.nodes)}")

    def watch(self) -> socket.socket:
        """Return a socket that gives one JSON line with all nodes, then one for each node that changes.

        It closes when the manager dies.
        """
        connection = self._connect()
        connection.sendall(b'{"do": "watch"}\n')
        return connection

    def start(
        self,
        node: str,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: str,
        streams: Sequence[int],
    ) -> RemoteProgram:
        """Start a program on a node; returns at once, ``RemoteProgram.advance`` does the talking.

        Args:
            node: its name.
            argv: program and arguments, byte for byte (surrogateescape).
            environ: its whole environment, to which the node adds its own variables.
            cwd: its working directory, as the node sees it.
            streams: descriptors for its stdin, stdout and stderr; may be closed after the call.
        """
        if node not in self.info.nodes:
            raise UsageError(f"no node {node!r}; the nodes are {', '.join(self.info.nodes)}")
        request = Request(
            [os.fsencode(word) for word in argv],
            {os.fsencode(k): os.fsencode(v) for k, v in environ.items()},
            os.fsencode(cwd),
            _umask(),
        )
        try:
            data = encode_request(request)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return RemoteProgram(node, at(self._directory, directory.socket_name(node)), data, streams)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_LIMIT_S)
        try:
            connection.connect(at(self._directory, "manager"))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise NotInAllocationError(
                f"allocation {self.info.job_id} has ended: {self._why_ended()}"
            ) from None
        except OSError as error:
            connection.close()
            raise ScrError(
                f"the manager of allocation {self.info.job_id} does not answer: {error}"
            ) from error
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.outside = _CREDENTIALS.unpack(peer)[0] != 0  # 0: of another process namespace
        return connection

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        line = b""
        with self._connect() as connection:
            try:
                connection.sendall(json.dumps(request).encode("ascii") + b"\n")
                while not line.endswith(b"\n"):
                    part = connection.recv(_READ_BYTES)
                    if not part:
                        break
                    line += part
            except (BrokenPipeError, ConnectionResetError):
                line = b""
            except OSError as error:
                raise ScrError(
                    f"the manager of allocation {self.info.job_id} does not answer: {error}"
                ) from error
        if not line.endswith(b"\n"):
            raise NotInAllocationError(
                f"allocation {self.info.job_id} has ended: {self._why_ended()}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ScrError(f"the manager refuses: {answer['error']}")
        return answer

    def _why_ended(self) -> str:
        if not os.path.exists(self.path):
            return "it ended in order"
        return (
            directory.read_ended(self.path)
            or "its manager is gone without a word, killed most likely"
        )

    def _understand(self, answer: Mapping[str, Any]) -> Status:
        return Status(
            info=self.info,
            path=self.path,
            ended=None,
            manager=answer["manager"],
            command=answer["command"],
            end=answer["end"],
            nodes=[NodeStatus(**node) for node in answer["nodes"]],
        )


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
                _READ_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
            if not data:
                self._fail("the node died, or the connection to it was closed")
                return
            if ancillary and not self.keeper:
                self.keeper = _CREDENTIALS.unpack(ancillary[0][2])[0]
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
) -> dict[str, Answer]:
    """Run a command on nodes at the same time, without stdin, and return each one's answer.

    A node that does not end in time is given up and, if it can still hear, told to kill the command.
    """
    deadline = Deadline(clock, timeout_s)
    with selectors.DefaultSelector() as selector:
        calls = [_Call(allocation, node, argv, environ, cwd) for node in nodes]
        for call in calls:
            call.register(selector)
        while any(not call.done for call in calls) and not deadline.passed():
            for key, _ in selector.select(deadline.left()):
                key.data[0].on_ready(selector, key)
        return {call.program.node: call.answer(selector, timeout_s) for call in calls}


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

    def answer(self, selector: selectors.BaseSelector, timeout_s: float) -> Answer:
        """Return the answer as far as it came, and let go of everything."""
        failure = self.program.failure
        if not self.program.over:
            failure = f"no answer within {timeout_s:g} s"
        self.program.close()
        for reader in self._open:
            selector.unregister(reader)
            os.close(reader)
        out, err = (bytes(text) for text in self._texts.values())
        return Answer(self.program.code, out, err, failure)


def read_lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that wait on a watching socket; EOFError when the manager is gone."""
    try:
        data = connection.recv(1 << 20, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    if not data:
        raise EOFError
    for line in data.splitlines():
        yield json.loads(line)
