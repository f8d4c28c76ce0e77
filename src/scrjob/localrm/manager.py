# SPDX-License-Identifier: BSD-3-Clause
"""The manager of an allocation: boots nodes, notices their deaths, runs the user's command, keeps time.

It believes only what it sees: a node is dead when its first process is gone (its socket closes, its
wait status says how), silent when pings stay unanswered. Nobody reports faults to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional, Sequence

from scrjob._clock import Deadline, wait_for
from scrjob.localrm import _proc, boot, directory
from scrjob.localrm._linux import spawn
from scrjob.localrm._proc import describe_status, exit_code
from scrjob.localrm._wire import CREDENTIALS, listen
from scrjob.localrm.agent import PING, READY

if TYPE_CHECKING:
    from scrjob.protocols import Clock

PING_EVERY_S = 0.5
MISSED_IF_STOPPED = 4
"""Unanswered pings after which a node is silent if its first process is seen to be stopped."""
MISSED_OTHERWISE = 20
"""The same for a first process that could run: on an overloaded machine it only waits its turn."""
BOOT_LIMIT_S = 30.0
LEFTOVER_GRACE_S = 2.0
NODE_END_LIMIT_S = 5.0

EXIT_NODES = 69
_LINE_LIMIT_BYTES = 4096
_MESSAGE_BYTES = 4096


class Plan(NamedTuple):
    """What the allocation is to be: ``limit_s`` seconds or None; ``grace_s`` from TERM to KILL.

    ``interactive``: the command is a shell, which ignores TERM: it gets HUP.
    """

    path: str
    info: directory.Info
    size: str
    command: Sequence[str]
    environ: Mapping[str, str]
    limit_s: Optional[float]
    grace_s: float
    interactive: bool


class _Node:
    """One node as the manager sees it; ``pid`` is its first process, 0 before it reported."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "booting"
        self.reason = ""
        self.since = 0.0
        self.pid = 0
        self.child = 0
        self.missed = 0
        self.waiting = False
        self.wanted = False
        self.control: Optional[socket.socket] = None

    def public(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "pid": self.pid,
        }


class Manager:
    """The event loop. One instance is one allocation.

    Args:
        plan: the allocation.
        front: socket to the process that the user started; its end ends us.
        clock: time.
    """

    def __init__(self, plan: Plan, front: socket.socket, clock: Clock) -> None:
        self._plan = plan
        self._front = front
        self._clock = clock
        self._nodes = {name: _Node(name) for name in plan.info.nodes}
        self._selector = selectors.DefaultSelector()
        self._end = None if plan.limit_s is None else plan.info.began + plan.limit_s
        self._command = 0
        self._ending: Optional[Deadline] = None
        self._why = ""
        self._watchers: list[socket.socket] = []
        self._directory = os.open(plan.path, os.O_PATH | os.O_CLOEXEC)
        self._log = os.open(
            os.path.join(plan.path, "agents.log"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )

    def run(self) -> int:
        """Serve until the command has ended; returns the exit code that the user is to see."""
        wake = self._catch_signals()
        server = listen(self._directory, "manager")
        self._selector.register(wake, selectors.EVENT_READ, self._on_signal)
        self._selector.register(self._front, selectors.EVENT_READ, self._on_front)
        self._selector.register(server, selectors.EVENT_READ, self._on_client)
        for node in self._nodes.values():
            self._boot(node)
        deadline = Deadline(self._clock, BOOT_LIMIT_S)
        next_ping = self._clock.monotonic()
        code: Optional[int] = None
        while code is None:
            pause = max(0.0, next_ping - self._clock.monotonic())
            for key, _ in self._selector.select(pause):
                key.data(key.fileobj)
            code = self._reap()
            if self._clock.monotonic() >= next_ping:
                next_ping = self._clock.monotonic() + PING_EVERY_S
                self._ping()
                self._watch_time()
            if code is None and not self._command:
                code = self._try_to_begin(deadline)
        self._finish()
        return code

    # --- signals and the front -------------------------------------------------------------

    def _catch_signals(self) -> int:
        """Return a descriptor that tells of children and of TERM.

        The terminal's signals reach the user's command by themselves and are not for us; they are
        caught, not ignored, because "ignored" would be inherited by the command.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (
            signal.SIGCHLD,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGHUP,
            signal.SIGTSTP,
            signal.SIGTTOU,
        ):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _ignore)
        return reader

    def _on_signal(self, wake: Any) -> None:
        if signal.SIGTERM in os.read(wake, _MESSAGE_BYTES):
            self._ask_command_to_end("the manager was asked to end")

    def _on_front(self, front: Any) -> None:
        message = front.recv(_MESSAGE_BYTES)
        if not message:
            self._selector.unregister(front)
            self._ask_command_to_end("the process that holds the allocation died")
        elif message == b"term":
            self._ask_command_to_end("the allocation was asked to end")

    def _tell(self, text: str) -> None:
        """Have a line shown to the user."""
        with contextlib.suppress(OSError):
            self._front.send(b"say " + os.fsencode(text)[:_MESSAGE_BYTES])

    # --- nodes -----------------------------------------------------------------------------

    def _boot(self, node: _Node) -> None:
        try:
            self._try_to_boot(node)
        except OSError as error:  # no more processes or descriptors
            node.reason = str(error)
            self._lose(node)

    def _try_to_boot(self, node: _Node) -> None:
        plan = self._plan
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if not plan.info.private:
            os.makedirs(directory.plain_storage(plan.path, node.name), 0o700, exist_ok=True)
        spec = boot.NodeSpec(
            name=node.name,
            private=plan.info.private,
            storage=plan.info.storage,
            shared=plan.info.shared,
            size=plan.size,
            overlay=directory.own_node_variables(plan.path, node.name, private=plan.info.private),
        )
        node.state, node.reason, node.since = "booting", "", self._clock.now()
        node.pid = node.missed = 0
        node.waiting = False
        node.control = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda _, node=node: self._hear(node))
        with listen(self._directory, directory.socket_name(node.name)) as server, theirs:
            node.child = boot.start(
                spec,
                python=plan.info.python,
                environ=plan.environ,
                control=theirs,
                server=server,
                log_fd=self._log,
            )
        if (
            plan.info.private
        ):  # see boot.start: gone at once, and must be, before the node may go on
            os.waitpid(node.child, 0)
            node.child = 0
        with contextlib.suppress(OSError):  # its own message, or its end, says more
            ours.send(boot.GO)

    def _hear(self, node: _Node) -> None:
        if node.control is None:
            return
        try:
            data, ancillary, _, _ = node.control.recvmsg(
                _MESSAGE_BYTES, socket.CMSG_SPACE(CREDENTIALS.size)
            )
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._lose(node)
        elif data.startswith(boot.ERROR):
            node.reason = os.fsdecode(data[len(boot.ERROR) :])
        else:
            if data == READY:
                node.pid = CREDENTIALS.unpack(ancillary[0][2])[0]
                if self._plan.info.private:
                    node.child = node.pid
            node.missed = 0
            node.waiting = False
            if node.state != "up":
                self._become(node, "up", "")

    def _become(self, node: _Node, state: str, reason: str) -> None:
        node.state, node.reason, node.since = state, reason, self._clock.now()
        line = json.dumps(node.public()).encode("ascii") + b"\n"
        for watcher in list(self._watchers):
            try:
                watcher.send(line, socket.MSG_DONTWAIT)
            except OSError:
                self._drop(watcher)

    def _lose(self, node: _Node) -> None:
        """The node's socket has closed: its first process is gone or going."""
        if node.control is not None:
            self._selector.unregister(node.control)
            node.control.close()
            node.control = None
        if node.state != "dead":
            what = f"first process (pid {node.pid}) is gone" if node.pid else "did not boot"
            self._become(node, "dead", node.reason or what)

    def _ping(self) -> None:
        """Ping all nodes and judge those that did not answer.

        Time is counted in our own rounds: while we were not running ourselves, nobody missed anything.
        """
        for node in self._nodes.values():
            if node.control is None or not node.pid:
                continue
            if node.waiting:
                node.missed += 1
                self._judge(node)
                continue
            try:
                node.control.send(PING, socket.MSG_DONTWAIT)
                node.waiting = True
            except BlockingIOError:
                node.waiting = True
            except OSError:
                self._lose(node)

    def _judge(self, node: _Node) -> None:
        process = _proc.read_process(node.pid)
        stopped = process is not None and process.state in _proc.STOPPED_STATES
        if node.state != "up" or node.missed < (MISSED_IF_STOPPED if stopped else MISSED_OTHERWISE):
            return
        seen = f"first process (pid {node.pid}) is stopped" if stopped else "no answer to pings"
        self._become(node, "silent", f"not responding for {node.missed * PING_EVERY_S:g} s: {seen}")

    def _reap(self) -> Optional[int]:
        """Collect the dead; returns the exit code of the command if it was among them."""
        code = None
        for pid, status in _proc.reap_children().items():
            if pid == self._command:
                code = exit_code(status)
            for node in self._nodes.values():
                if pid and pid == node.child:
                    self._bury(node, status)
        return code

    def _bury(self, node: _Node, status: int) -> None:
        node.child = 0
        if node.pid:
            node.reason = f"first process (pid {node.pid}) {describe_status(status)}"
        if node.state == "dead":  # the socket was quicker; the reason is better now
            node.since = self._clock.now()
        if not node.wanted:
            self._lose(node)
        if not self._plan.info.private:
            self._clear_plain(node)
        if node.wanted:
            self._revive(node)

    def _revive(self, node: _Node) -> None:
        """Boot a dead node, at once or when the last of it is gone."""
        node.wanted = node.child != 0
        if node.wanted:
            node.state = "booting"
        else:
            self._boot(node)

    def _clear_plain(self, node: _Node) -> None:
        """End what escaped from a plain node whose undertaker was killed, and remove its storage."""
        mark = os.fsencode(f"{directory.NODE_VARIABLE}={node.name}")

        def none_left() -> bool:
            left = [p for p in _proc.descendants(os.getpid()) if _proc.has_mark(p.pid, mark)]
            for process in left:
                _proc.send_signal(process.pid, signal.SIGKILL)
            return not left

        wait_for(none_left, clock=self._clock, limit_s=_proc.KILL_LIMIT_S)
        storage = directory.plain_storage(self._plan.path, node.name)
        shutil.rmtree(storage, ignore_errors=True)

    # --- the command -----------------------------------------------------------------------

    def _try_to_begin(self, deadline: Deadline) -> Optional[int]:
        """Start the command when all nodes are up; returns an exit code if that cannot be."""
        states = {node.state for node in self._nodes.values()}
        if self._ending is not None:
            return 128 + signal.SIGTERM
        if "dead" in states or ("booting" in states and deadline.passed()):
            for node in self._nodes.values():
                if node.state != "up":
                    self._tell(f"{node.name} could not be started: {node.reason or 'no answer'}")
            return EXIT_NODES
        if "booting" in states:
            return None
        plan = self._plan
        env = {**plan.environ, **directory.environment(plan.path, plan.info)}
        try:
            self._command = spawn(
                [os.fsencode(word) for word in plan.command],
                env={os.fsencode(k): os.fsencode(v) for k, v in env.items()},
                death_signal=signal.SIGTERM,
            )
        except OSError as error:
            self._tell(f"{error.filename or plan.command[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        return None

    def _ask_command_to_end(self, why: str) -> None:
        """TERM the command's process group; KILL comes after the grace."""
        if self._ending is not None:
            return
        self._ending = Deadline(self._clock, self._plan.grace_s)
        self._tell(f"{why}; ending the command")
        if self._command:
            number = signal.SIGHUP if self._plan.interactive else signal.SIGTERM
            signal_command(self._command, number)

    def _watch_time(self) -> None:
        if self._end is not None and self._clock.now() >= self._end:
            self._ask_command_to_end("the time limit is reached")
        if self._command and self._ending is not None and self._ending.passed():
            for process in _proc.descendants(self._command):
                _proc.send_signal(process.pid, signal.SIGKILL)
            _proc.send_signal(self._command, signal.SIGKILL)

    # --- clients ---------------------------------------------------------------------------

    def _on_client(self, server: Any) -> None:
        try:
            client, _ = server.accept()
        except OSError:
            return
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ, self._on_request)

    def _on_request(self, client: Any) -> None:
        try:
            line = client.recv(_LINE_LIMIT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            line = b""
        try:
            request = json.loads(line) if line else None
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._drop(client)
            return
        if request.get("do") == "watch":
            self._watchers.append(client)
            self._send(client, self._status())
            return
        self._send(client, self._handle(request))
        self._drop(client)

    def _send(self, client: socket.socket, answer: Mapping[str, Any]) -> None:
        client.settimeout(1.0)
        with contextlib.suppress(OSError):
            client.sendall(json.dumps(answer).encode("ascii") + b"\n")
        client.setblocking(False)

    def _drop(self, client: socket.socket) -> None:
        if client in self._watchers:
            self._watchers.remove(client)
        self._selector.unregister(client)
        client.close()

    def _handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        do = request.get("do")
        if do == "revive":
            node = self._nodes.get(str(request.get("node")))
            if node is None:
                return {"error": "no such node"}
            if node.state == "dead":
                self._revive(node)
        elif do == "limit":
            seconds = request.get("seconds")
            if seconds is not None and not isinstance(seconds, (int, float)):
                return {"error": "no number of seconds"}
            self._end = None if seconds is None else self._clock.now() + seconds
        elif do != "status":
            return {"error": "unknown request"}
        return self._status()

    def _status(self) -> dict[str, Any]:
        return {
            "manager": os.getpid(),
            "command": self._command,
            "end": self._end,
            "ending": self._ending is not None,
            "nodes": [node.public() for node in self._nodes.values()],
        }

    # --- the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        """End all that is left: the command's remains politely, then the nodes."""
        for node in self._nodes.values():
            if node.control is not None and not node.pid:
                self._lose(node)  # it waits for GO or is about to report: its socket's end ends it
        children = {node.child for node in self._nodes.values() if node.child}
        children |= {node.pid for node in self._nodes.values() if node.control is not None}
        end_leftovers(os.getpid(), children, clock=self._clock, grace_s=LEFTOVER_GRACE_S)
        for node in self._nodes.values():
            if node.control is not None and node.pid:
                _proc.send_signal(node.pid, signal.SIGKILL)
        waiting = {node.child for node in self._nodes.values() if node.child}

        def all_gone() -> bool:
            waiting.difference_update(_proc.reap_children())
            return not waiting

        wait_for(all_gone, clock=self._clock, limit_s=NODE_END_LIMIT_S, poll_s=0.02)
        _proc.kill_tree(os.getpid(), clock=self._clock)
        directory.remove(self._plan.path)


def signal_command(command: int, number: int) -> None:
    """Signal a command and those of its descendants that are in its process group.

    Not the group itself: the command shares it with us, with the shell that started us, and with
    whatever script we are part of.
    """
    leader = _proc.read_process(command)
    if leader is None:
        return
    members = [leader, *_proc.descendants(command)]
    for process in members:
        if process.pgrp == leader.pgrp:
            _proc.send_signal(process.pid, number)


def end_leftovers(
    root: int,
    spared: set[int],
    *,
    clock: Clock,
    grace_s: float,
    number: int = signal.SIGTERM,
) -> None:
    """End all below ``root`` except the trees of ``spared``: a signal, a grace, KILL."""

    def left() -> list[_proc.ProcessInfo]:
        table = _proc.process_table()
        kept = set(spared)
        for pid in spared:
            kept.update(p.pid for p in _proc.descendants(pid, table))
        return [p for p in _proc.descendants(root, table) if p.pid not in kept]

    def none_can_end() -> bool:
        return all(process.state in _proc.STOPPED_STATES for process in left())

    for process in left():
        _proc.send_signal(process.pid, number)
    wait_for(none_can_end, clock=clock, limit_s=grace_s)

    def killed() -> bool:
        remaining = left()
        for process in remaining:
            _proc.send_signal(process.pid, signal.SIGKILL)
        return not remaining

    wait_for(killed, clock=clock, limit_s=_proc.KILL_LIMIT_S)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor tells."""
