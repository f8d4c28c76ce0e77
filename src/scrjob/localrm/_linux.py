# SPDX-License-Identifier: BSD-3-Clause
"""The system calls that Python 3.9 does not offer: namespaces, mounts, parent-death signals.

Source: unshare(2), user_namespaces(7), mount(2), prctl(2) of Linux man-pages 6.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from typing import Callable, Mapping, Optional, Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

EXIT_CANNOT_EXECUTE = 126  # as shells have it
EXIT_NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``; that of processes takes effect for children."""
    _call("unshare", ctypes.c_int(flags))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Attach a file system; the arguments are those of the system call."""
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind),
        ctypes.c_ulong(flags),
        os.fsencode(options),
    )


def die_with_parent(number: int, parent: Optional[int] = None) -> None:
    """Have the kernel send us signal ``number`` when our parent dies.

    Args:
        number: the signal.
        parent: its process id if it is known; if it is dead already, we get the signal now.
    """
    _call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _call("prctl", ctypes.c_int(_PR_SET_CHILD_SUBREAPER), ctypes.c_ulong(1), 0, 0, 0)


def spawn(
    argv: Sequence[bytes],
    *,
    env: Mapping[bytes, bytes],
    cwd: Optional[bytes] = None,
    streams: Sequence[int] = (0, 1, 2),
    new_session: bool = False,
    umask: Optional[int] = None,
    death_signal: Optional[int] = None,
    before: Optional[Callable[[], None]] = None,
) -> int:
    """Start a program in a child process and return its process id.

    Unlike subprocess it leaves inheritable descriptors open, knows parent-death signals and
    costs nothing to import.

    Args:
        argv: program (looked up in the PATH of ``env`` if without a slash) and arguments.
        env: whole environment of the program.
        cwd: its working directory; None for ours.
        streams: descriptors that become its stdin, stdout and stderr.
        new_session: make it the leader of a session of its own.
        umask: its file mode mask; None for ours.
        death_signal: signal that it gets when we die.
        before: called in the new process just before it becomes the program.

    Raises:
        OSError: the directory or the program is not there or cannot be used; names it.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            if new_session:
                os.setsid()
            _set_streams(streams)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
                signal.signal(number, signal.SIG_DFL)
            if umask is not None:
                os.umask(umask)
            what = cwd or b""
            if cwd is not None:
                os.chdir(cwd)
            if death_signal is not None:
                die_with_parent(death_signal, parent)
            if before is not None:
                before()
            what = argv[0]
            os.execvpe(what, list(argv), dict(env))  # noqa: S606 - no shell is the point
        except OSError as error:
            os.write(writer, b"%d %s" % (error.errno or 0, what))
        finally:
            os._exit(EXIT_NOT_FOUND)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(child, 0)
        number_text, _, name = failure.partition(b" ")
        raise OSError(int(number_text), os.strerror(int(number_text)), os.fsdecode(name))
    return child


def fill_streams() -> None:
    """Open /dev/null in the place of a closed stdin, stdout or stderr, which some other file would take."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:  # noqa: PLR2004 - the standard streams
            os.close(fd)
            return


def _set_streams(streams: Sequence[int]) -> None:
    """Make ``streams`` descriptors 0, 1, 2, whatever their numbers are."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in streams]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
