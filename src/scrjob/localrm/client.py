# SPDX-License-Identifier: BSD-3-Clause
"""Talking to an allocation from outside its manager: its state, and programs on its nodes."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional, Sequence

from scrjob._clock import SystemClock, wait_for
from scrjob.errors import NotInAllocationError, ScrError, UsageError
from scrjob.localrm import directory
from scrjob.localrm._wire import CREDENTIALS, Request, at, encode_request

if TYPE_CHECKING:
    from scrjob.localrm.remote import RemoteProgram
    from scrjob.protocols import Clock

ANSWER_LIMIT_S = 5.0  # for the manager, which never does anything slow
REVIVE_LIMIT_S = 30.0
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

    @classmethod
    def of_job(
        cls, job_id: str, environ: Mapping[str, str], clock: Optional[Clock] = None
    ) -> Allocation:
        """Return the allocation with a job id, of this user on this machine.

        Raises:
            NotInAllocationError: there is none.
        """
        path = environ.get(directory.DIR_VARIABLE, "")
        if os.path.basename(path) != job_id:
            base = directory.base_directory(environ, os.getuid())
            path = os.path.join(base, job_id)
            if path not in directory.known(base, os.getuid()):
                raise NotInAllocationError(f"no allocation {job_id!r} of yours on this machine")
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

    def watch(self) -> NodeNews:
        """Return the news of this allocation's nodes."""
        connection = self._connect()
        connection.sendall(b'{"do": "watch"}\n')
        return NodeNews(connection)

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
        from scrjob.localrm.remote import RemoteProgram  # noqa: PLC0415 - most only ask for the state

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
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        self.outside = CREDENTIALS.unpack(peer)[0] != 0  # 0: of another process namespace
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


class NodeNews:
    """What happens to the nodes, as it happens; wait for ``fileno``, then ``read``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._connection.fileno()

    def read(self) -> list[dict[str, Any]]:
        """Return what came: first one object with all ``nodes``, then one for each node that changes.

        Raises:
            EOFError: the manager is gone.
        """
        try:
            data = self._connection.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise EOFError
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]
