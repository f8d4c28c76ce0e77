# SPDX-License-Identifier: BSD-3-Clause
"""The first process of a virtual node: answers the manager, adopts orphans, runs programs on request.

Each request gets a *keeper*, a fork of the agent that starts the program, adopts what the program
leaves behind, and reports the real wait status when nothing of it is left. If the asking side goes
away, the keeper kills everything that it started: a client's death leaves nothing on a node.

Started by ``boot`` through ``_start``; standard library and scrjob's light modules only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import Mapping, NoReturn, Optional, Sequence

from scrjob._clock import SystemClock, wait_for
from scrjob.localrm._linux import adopt_orphans, die_with_parent, spawn
from scrjob.localrm._proc import (
    KILL_LIMIT_S,
    kill_tree,
    process_table,
    reap_children,
    send_signal,
)
from scrjob.localrm._wire import receive_request

READY = b"ready"
PING = b"ping"
PONG = b"pong"
_MESSAGE_BYTES = 64


def main(args: Sequence[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Serve until the manager goes away.

    Args:
        args: descriptor of the manager's socket, descriptor of the listening socket, then
            ``NAME=value`` words that every program of this node gets into its environment.
        environ: not used; programs bring their own.
    """
    del environ
    control = socket.socket(fileno=int(args[0]))
    server = socket.socket(fileno=int(args[1]))
    server.setblocking(False)
    overlay = dict(os.fsencode(word).partition(b"=")[::2] for word in args[2:])
    adopt_orphans()  # pid 1 of a namespace does so anyway; a plain node's agent does not
    wake = _wake_on_child()
    poll = select.poll()
    for fd in (control.fileno(), server.fileno(), wake):
        poll.register(fd, select.POLLIN)
    control.send(READY)
    keepers: set[int] = set()
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if control.fileno() in ready and not _answer(control):
            _leave()
        if server.fileno() in ready:
            _accept(server, control, overlay, keepers)
        if wake in ready:
            os.read(wake, 4096)
            _reap(keepers)


def _answer(control: socket.socket) -> bool:
    """Answer a ping; False if the manager is gone."""
    try:
        if not control.recv(_MESSAGE_BYTES):
            return False
        control.send(PONG)
    except OSError:
        return False
    return True


def _leave() -> NoReturn:
    if os.getpid() != 1:  # with pid 1 the kernel ends all processes of the namespace
        kill_tree(os.getpid())
    os._exit(0)


def _accept(
    server: socket.socket, control: socket.socket, overlay: dict[bytes, bytes], keepers: set[int]
) -> None:
    try:
        connection, _ = server.accept()
    except OSError:  # the client left meanwhile
        return
    agent = os.getpid()
    try:
        keeper = os.fork()
    except OSError:  # no more processes: the client sees its connection closed
        connection.close()
        return
    if keeper:
        connection.close()
        keepers.add(keeper)
        return
    code = 1
    try:
        die_with_parent(signal.SIGKILL, agent)
        server.close()
        control.close()
        _keep(connection, overlay)
        code = 0
    finally:
        os._exit(code)


def _reap(keepers: set[int]) -> None:
    """Collect the dead; end what a keeper that did not end orderly has left to us."""
    ended = reap_children()
    disorderly = any(status != 0 and pid in keepers for pid, status in ended.items())
    keepers.difference_update(ended)
    if not disorderly:
        return

    def no_orphans() -> bool:
        own = os.getpid()
        orphans = [
            p
            for p in process_table().values()
            if p.ppid == own and p.alive and p.pid not in keepers
        ]
        for process in orphans:
            send_signal(process.pid, signal.SIGKILL)
        return not orphans

    wait_for(no_orphans, clock=SystemClock(), limit_s=KILL_LIMIT_S)


def _wake_on_child() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _note)
    return reader


def _note(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor tells, and a caught signal is reset by exec."""


def _keep(connection: socket.socket, overlay: dict[bytes, bytes]) -> None:
    """Serve one request from beginning to end."""
    wake = _wake_on_child()
    adopt_orphans()
    try:
        request, streams = receive_request(connection)
    except (EOFError, OSError):
        return
    try:
        program = spawn(
            request.argv,
            env={**request.env, **overlay},
            cwd=request.cwd,
            streams=streams,
            new_session=True,
            umask=request.umask,
            death_signal=signal.SIGKILL,
        )
    except OSError as error:
        name = os.fsencode(error.filename or "").replace(b"\n", b"?")
        _say(connection, b"E %d %s\n" % (error.errno or 0, name))
        return
    for fd in streams:
        os.close(fd)
    _say(connection, b"S %d\n" % program)
    status = _wait(program, connection, wake)
    if _has_children():
        kill_tree(os.getpid())
    if status is not None:
        _say(connection, b"X %d\n" % status)


def _wait(program: int, connection: socket.socket, wake: int) -> Optional[int]:
    """Return the wait status of the program, None if the client went away before its end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake in ready:
            os.read(wake, 4096)
            ended = reap_children()
            if program in ended:
                return ended[program]
        if connection.fileno() in ready:
            return (
                None  # a client says nothing after its request: this is the end of the connection
            )


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _say(connection: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):  # the client is gone: nobody wants to know
        connection.sendall(line)
