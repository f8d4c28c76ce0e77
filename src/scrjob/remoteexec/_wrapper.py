# SPDX-License-Identifier: BSD-3-Clause
"""What runs around a command on a node, so that its answer survives any transport.

pdsh, ClusterShell and srun move lines of text: they cut long ones, put labels in front, drop NUL bytes,
carriage returns and the last line's end, mix in messages of their own, and tell of many exit codes only the
largest. So a few lines of shell on the node send both streams, each between two marks::

    scrjob:begin NODE       (NODE as Slurm calls it, "" without Slurm)
    H4sIAAAAAAAEA8tIzcnJ5...     (base64 of gzip, whose checksum tells whether all of it came)
    scrjob:end:CODE;        (the exit code, 128+N for signal N, or "late")

The same lines give the command no input, end it at its deadline whether or not anybody still listens, and end
what it left running. A node needs a POSIX shell, gzip, and coreutils' ``timeout`` and ``base64``.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import zlib
from binascii import Error as BinasciiError
from binascii import a2b_base64
from typing import TYPE_CHECKING, Iterable, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import UsageError

if TYPE_CHECKING:
    from scrjob.remoteexec.remoteexec import RemoteExecResult

BEGIN, END, LATE = "scrjob:begin", "scrjob:end", "late"
LATE_S = 0.5  # that a caller waits beyond the deadline, so that a node can say "late" itself
LINE_CHARS = (
    900  # slurmstepd sends at most 1024 bytes at once; whole base64 groups, so a multiple of 4
)

# Inside of `timeout`, which makes a process group: the command, without our descriptors (`exec`, so that no
# builtin of the shell takes its place); its exit code goes to 5; then the group is killed, itself included.
# Where no code came the deadline was first. No `wait`, no background: pdsh hands down a blocked SIGCHLD.
_INSIDE = (
    'exec 7>&2 2>/dev/null; (exec "$@" 2>&7 3>&- 4>&- 5>&- 6>&- 7>&-); echo $? >&5; kill -s KILL 0'
)
_PACK = f"gzip -1 -c | base64 -w {LINE_CHARS}"
# 3 and 4 are the transport's streams, 6 is the way of the command's stdout to its gzip.
SCRIPT = (
    "t=$1; shift; "
    f"echo {BEGIN} $SLURMD_NODENAME; echo {BEGIN} >&2; "
    "exec 3>&1 4>&2 2>/dev/null </dev/null; "
    f"c=$({{ {{ timeout -s KILL $t sh -c '{_INSIDE}' sh \"$@\" 2>&1 >&6"
    f" | {_PACK} >&4; }} 6>&1 | {_PACK} >&3; }} 5>&1); "
    f'c=${{c:-{LATE}}}; echo "{END}:$c;"; echo "{END}:$c;" >&4'
)

DECODE = 'eval "$(printf %b "$0")"'
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
"""What a login on the node would not know by itself: Python, scrjob and the user's tools are found by it."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAST_LINES = 8  # of a stream, in which the mark at the end is if it has come
_GZIP = 31  # zlib's number for the format of gzip
_PIECE = re.compile(r"[A-Za-z0-9+/=:;]*")
_END = re.compile(rf"{END}:(\w+);")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _./=:,+@-")


LOST = "the node is lost"


def whole_seconds(seconds: float) -> int:
    """Return a limit that every ``timeout`` understands: at least 1."""
    return max(1, math.ceil(seconds))


def node_argv(argv: Sequence[str], limit_s: float) -> list[str]:
    """Return the argument list that runs ``argv`` on a node, for transports that keep argument lists."""
    return ["sh", "-c", SCRIPT, "scrjob", str(whole_seconds(limit_s)), *argv]


def node_text(argv: Sequence[str], limit_s: float, environ: Mapping[str, str], cwd: str) -> str:
    """Return the text that runs ``argv`` on a node, for transports that hand it to the user's login shell.

    That may be any shell, and inside single quotes csh minds line breaks and exclamation marks, fish
    backslashed quotes: so nearly all of it is written in octal. The command gets ``environ`` and begins in
    ``cwd`` if there is such a directory.
    """
    words = [str(whole_seconds(limit_s)), *argv]
    setting = "".join(f" {name}={shlex.quote(value)}" for name, value in environ.items())
    lines = [
        f"cd {shlex.quote(cwd)} 2>/dev/null",
        f"export{setting}" if setting else ":",
        f"set -- {shlex.join(words)}",
        SCRIPT,
    ]
    encoded = "".join(
        chr(byte) if byte in _PLAIN else f"\\0{byte:03o}"
        for byte in "\n".join(lines).encode("utf-8", "surrogateescape")
    )
    return f"exec sh -c '{DECODE}' '{encoded}'"


def passed_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a command on a node needs of the caller's environment.

    The text stands in process lists, so passwords stay here.
    """
    return {
        name: value
        for name, value in environ.items()
        if (name in PASSED_ON or (name.startswith("SCR_") and "PASS" not in name))
        and _VARIABLE.fullmatch(name)
    }


class Stream(NamedTuple):
    """What came on one stream.

    ``node`` is what stood behind the mark at the begin, None if the command did not begin; ``whole`` tells
    whether ``data`` is all; ``end`` is what stood behind the mark at the end, None if that did not come;
    ``noise`` the last line that is none of ours.
    """

    node: Optional[str]
    data: bytes
    whole: bool
    end: Optional[str]
    noise: str


def parse_stream(lines: Iterable[str]) -> Stream:
    """Return what one stream of one node has between the marks.

    Only the mark at the begin is looked for in one line: slurmstepd hands on the end of a long output in
    pieces of 1024 bytes, and srun makes a line of each.
    """
    node: Optional[str] = None
    noise = ""
    pieces: list[str] = []
    for line in lines:
        # A login script may have said something without a line break just before.
        before, begun, after = line.partition(BEGIN)
        if begun and node is None:
            node, noise = after.strip(), before.strip() or noise
        elif node is not None and _PIECE.fullmatch(line):
            pieces.append(line)
        else:
            noise = line.strip() or noise
    text = "".join(pieces)
    found = _END.search(text)
    data, whole = _unpack(text[: found.start()] if found else text)
    return Stream(node, data, whole, found[1] if found else None, noise)


def begun_on(lines: Iterable[str]) -> Optional[str]:
    """Return the ``node`` of a stream."""
    for line in lines:
        _, begun, after = line.partition(BEGIN)
        if begun:
            return after.strip()
    return None


def has_ended(lines: Sequence[str]) -> bool:
    """Tell whether the mark at the end of a stream has come."""
    return _END.search("".join(lines[-_LAST_LINES:])) is not None


def _unpack(text: str) -> tuple[bytes, bool]:
    """Return the bytes as far as they can be had, and whether they are all, and right."""
    unzip = zlib.decompressobj(wbits=_GZIP)
    try:
        data = unzip.decompress(a2b_base64(text[: len(text) // 4 * 4]))
    except (BinasciiError, zlib.error):
        return b"", False
    return data, unzip.eof and not unzip.unused_data


def enter(
    result: RemoteExecResult,
    node: str,
    lines: tuple[Iterable[str], Iterable[str]],
    limit_s: float,
    said: str = "",
) -> None:
    """Enter what ``node`` answered.

    Args:
        result: where to.
        node: whose answer.
        lines: what came on its stdout and stderr.
        limit_s: the call's deadline in seconds, for messages.
        said: the transport's own word on why there may be no answer.
    """
    out, err = parse_stream(lines[0]), parse_stream(lines[1])
    result.append_stdout(node, out.data.decode("utf-8", "surrogateescape"))
    result.append_stderr(node, err.data.decode("utf-8", "surrogateescape"))
    code = out.end or ""
    if out.whole and err.whole and code == err.end and code.isdecimal():
        result.set_rc(node, int(code))
    else:
        result.set_failure(node, one_line(reason(out, err, limit_s, said)))


def reason(out: Stream, err: Stream, limit_s: float, said: str) -> str:
    """Return why a node has no exit code."""
    late = f"no answer within {round(limit_s, 1):g} s"
    if LATE in (out.end, err.end):
        return late
    if out.end is not None and err.end is not None:
        return "its answer was damaged on the way"
    own = err.noise or said
    if not own:
        return late
    return own if out.node is None and err.node is None else f"its answer broke off: {own}"


def one_line(text: str) -> str:
    """Return ``text`` without line breaks and other control characters, not too long."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:300] or "no answer"


def refuse_duplicates(nodes: Sequence[str]) -> None:
    """Raise UsageError if a node is named twice: one of the two answers would be lost."""
    if len(set(nodes)) < len(nodes):
        raise UsageError(f"a node is named twice: {', '.join(nodes)}")


def here() -> str:
    """Return the current directory, the root if a program has removed it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
