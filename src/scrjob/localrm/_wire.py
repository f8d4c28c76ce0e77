# SPDX-License-Identifier: BSD-3-Clause
"""What goes over the sockets of an allocation.

To a node: one request to run a program, with its three streams attached as descriptors::

    "SCRL" | u32 bytes that follow | u32 umask | u32 words of argv | words, each closed by NUL
    words: working directory, argv..., NAME=value...

Back from the node, lines::

    S <pid in the node>     started
    E <errno> <name>        could not be started; nothing follows
    X <wait status>         ended, and nothing that it started is left

To and from the manager: one JSON object a line.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import NamedTuple, Sequence

MAGIC = b"SCRL"
HEADER = struct.Struct("!4sI")
FIXED = struct.Struct("!II")
REQUEST_LIMIT_BYTES = 64 << 20  # more than any kernel takes as arguments and environment
STREAMS = 3
CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7): pid, uid, gid


class Request(NamedTuple):
    """A program to run on a node."""

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    umask: int


def encode_request(request: Request) -> bytes:
    """Return the bytes of a request.

    Raises:
        ValueError: a word has a NUL inside, or there is no program.
    """
    words = [request.cwd, *request.argv, *(k + b"=" + v for k, v in request.env.items())]
    if not request.argv or any(b"\0" in word for word in words):
        raise ValueError("a command needs a program, and no word may hold a NUL")
    body = FIXED.pack(request.umask, len(request.argv)) + b"".join(w + b"\0" for w in words)
    return HEADER.pack(MAGIC, len(body)) + body


def decode_request(body: bytes) -> Request:
    """Return the request whose bytes after the header are ``body``."""
    umask, count = FIXED.unpack_from(body)
    words = body[FIXED.size :].split(b"\0")[:-1]
    env = dict(word.partition(b"=")[::2] for word in words[1 + count :])
    return Request(words[1 : 1 + count], env, words[0], umask)


def receive_request(connection: socket.socket) -> tuple[Request, list[int]]:
    """Wait for a whole request; returns it with its descriptors, which are not inheritable.

    Raises:
        EOFError: the other side left, or said something else.
    """
    head, fds, _, _ = socket.recv_fds(connection, HEADER.size, STREAMS)
    head += receive_exactly(connection, HEADER.size - len(head)) if head else b""
    if len(head) < HEADER.size or len(fds) != STREAMS:
        raise EOFError("no request")
    magic, size = HEADER.unpack(head)
    if magic != MAGIC or size > REQUEST_LIMIT_BYTES:
        raise EOFError("no request of ours")
    for fd in fds:
        os.set_inheritable(fd, False)
    return decode_request(receive_exactly(connection, size)), fds


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes; raises EOFError if the other side leaves before."""
    parts = []
    while size > 0:
        part = connection.recv(min(size, 1 << 16))
        if not part:
            raise EOFError("connection closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def at(directory_fd: int, name: str) -> str:
    """Return a short path of a socket: AF_UNIX has room for 107 bytes only."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def listen(directory_fd: int, name: str) -> socket.socket:
    """Return a listening socket in an open directory, replacing one of a dead predecessor."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)
    server.bind(at(directory_fd, name))
    server.listen(socket.SOMAXCONN)
    return server


def join_words(words: Sequence[bytes]) -> bytes:
    """Return words as the bytes of a file, each closed by NUL."""
    return b"".join(word + b"\0" for word in words)
