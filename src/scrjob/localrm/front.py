# SPDX-License-Identifier: BSD-3-Clause
"""``scr_local alloc``: prepares an allocation, forks its manager, stays as the process the user sees.

The manager is a process of its own so that either may be killed and the other cleans up: both adopt
orphans, so whatever the dead one left becomes the other's child (or dies by the kernel's word).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import ConfigError, UsageError
from scrjob.localrm import _proc, boot, directory
from scrjob.localrm._linux import adopt_orphans, fill_streams
from scrjob.localrm._proc import describe_status
from scrjob.localrm.manager import Manager, Plan, end_leftovers

if TYPE_CHECKING:
    from scrjob.protocols import Context

logger = logging.getLogger(__name__)

EXIT_LOST = 69
"""Exit code when the manager was killed: the nodes are gone, and with them the allocation."""

DEFAULT_GRACE_S = 30.0
LOST_GRACE_S = 5.0  # for a command whose nodes are gone already
ALWAYS_PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108 - mount points of the nodes' own storage
STORAGE_VARIABLES = ("SCR_CACHE_BASE", "SCR_CNTL_BASE")
MACHINE_DIRECTORIES = ("/", "/proc", "/sys", "/dev")
NODES_LIMIT = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")  # sethostname(2) takes 64 bytes
_SIZE = re.compile(r"[1-9][0-9]*[kKmMgG%]?\Z")
_MESSAGE_BYTES = 8192


class Wish(NamedTuple):
    """What the user asked for; ``limit_s`` and ``grace_s`` in seconds, ``command`` empty for a shell."""

    nodes: Sequence[str]
    command: Sequence[str] = ()
    limit_s: Optional[float] = None
    grace_s: float = DEFAULT_GRACE_S
    share: Sequence[str] = ()
    storage: Sequence[str] = ()
    storage_size: str = ""
    namespaces: bool = True


def node_names(count: int, hostname: str) -> list[str]:
    """Return default names, none of which is the machine's own.

    Raises:
        UsageError: not 1 to 256 nodes.
    """
    if not 0 < count <= NODES_LIMIT:
        raise UsageError(f"{count} nodes: expected 1 to {NODES_LIMIT}")
    for stem in ("node", "vnode"):
        names = [f"{stem}{number}" for number in range(1, count + 1)]
        if not _own_names(hostname).intersection(names):
            break
    return names


def check_names(names: Sequence[str], hostname: str) -> None:
    """Refuse names that cannot be host names or mean this machine.

    MPI's process manager starts what is for ``localhost`` or the machine's own name directly,
    which would be beside the node.

    Raises:
        UsageError: names the first that is wrong.
    """
    for name in names:
        if not _NAME.match(name):
            raise UsageError(f"{name!r} is no name for a node: letters, digits, '.', '_', '-'")
        if name in _own_names(hostname):
            raise UsageError(f"{name!r} is this machine's own name: choose another for a node")
    if len(set(names)) < len(names):
        raise UsageError("two nodes have the same name")
    if not 0 < len(names) <= NODES_LIMIT:
        raise UsageError(f"{len(names)} nodes: expected 1 to {NODES_LIMIT}")


def _own_names(hostname: str) -> set[str]:
    return {"localhost", "localhost.localdomain", hostname, hostname.partition(".")[0]}


def allocate(wish: Wish, context: Context, say: Callable[[str], None]) -> int:
    """Make an allocation, run the command in it, end it; returns the command's exit code.

    To be called from a single-threaded process that does nothing else: it forks, takes over
    signals, and adopts and ends whatever children it has.

    Args:
        wish: what is wanted.
        context: environment, clock and host name.
        say: shows one line to the user.

    Returns:
        The command's exit code (128+N for signal N), 126 or 127 if it cannot be started, 69 if a
        node cannot be booted or the manager was killed.

    Raises:
        UsageError, ConfigError: something asked for cannot be.
    """
    check_names(wish.nodes, context.hostname)
    environ = dict(context.environ)
    storage = storage_directories(wish.storage, environ)
    if not re.fullmatch(_SIZE, wish.storage_size or "1"):
        raise UsageError(f"{wish.storage_size!r} is no size for storage: e.g. 64m or 10%")
    fill_streams()
    adopt_orphans()
    private = wish.namespaces
    if private:
        why = boot.refusal(boot.outermost(storage), wish.storage_size)
        _proc.reap_children()
        if why:
            private = False
            say(
                f"this machine refuses namespaces to users ({why}): nodes are plain directories "
                "without private storage"
            )
    else:
        say("nodes are plain directories without private storage, as asked")
    base = directory.base_directory(environ, os.getuid())
    path, lock = directory.create(base, context.clock.now())
    try:
        info = directory.Info(
            job_id=os.path.basename(path),
            host=context.hostname,
            nodes=list(wish.nodes),
            private=private,
            storage=storage if private else [],
            shared=shared_directories(wish.share, environ, path, storage) if private else [],
            began=context.clock.now(),
            python=sys.executable,
        )
        directory.write_info(path, info)
    except BaseException:
        directory.remove(path)
        raise
    _add_own_commands(environ)
    shell = environ.get("SHELL") or "/bin/sh"
    plan = Plan(
        path=path,
        info=info,
        size=wish.storage_size,
        command=list(wish.command) or [shell],
        environ=environ,
        limit_s=wish.limit_s,
        grace_s=wish.grace_s,
        interactive=not wish.command,
    )
    try:
        return _Front(plan, context, say).run()
    finally:
        os.close(lock)


def storage_directories(asked: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the directories that become each node's own: /tmp, /dev/shm, SCR's bases, what was asked for.

    Raises:
        ConfigError: one cannot be a mount point.
    """
    found = [d for d in map(os.path.realpath, ALWAYS_PRIVATE) if os.path.isdir(d)]
    wanted = [
        (f"{name}={environ[name]}", environ[name])
        for name in STORAGE_VARIABLES
        if environ.get(name)
    ]
    wanted += [(f"--storage {path}", path) for path in asked]
    for what, path in wanted:
        if not os.path.isabs(path):
            raise ConfigError(f"{what}: node storage needs an absolute path")
        real = os.path.realpath(path)
        if real in MACHINE_DIRECTORIES or any(boot.is_below(real, d) for d in ("/proc", "/sys")):
            raise ConfigError(f"{what}: this directory of the system cannot be node storage")
        if not os.path.isdir(real) and not any(boot.is_below(real, top) for top in found):
            raise ConfigError(f"{what}: there is no such directory to put a node's storage on")
        found.append(real)
    return list(dict.fromkeys(found))


def shared_directories(
    asked: Sequence[str], environ: Mapping[str, str], path: str, storage: Sequence[str]
) -> list[str]:
    """Return what nodes must see although it may lie below their own storage.

    The current directory, HOME, SCR_PREFIX (made if absent), Python, this package, the
    allocation's directory, and what was asked for; each also without its symbolic links.

    Raises:
        ConfigError: something asked for is no directory, or is itself node storage.
    """
    implied = [
        path,
        os.getcwd(),
        environ.get("HOME", ""),
        sys.prefix,
        sys.base_prefix,
        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        *environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
    prefix = environ.get("SCR_PREFIX")
    if prefix:
        with contextlib.suppress(FileExistsError):
            os.makedirs(prefix)
    wanted = [(f"--share {d}", d) for d in asked] + (
        [(f"SCR_PREFIX={prefix}", prefix)] if prefix else []
    )
    for what, wanted_path in wanted:
        if not os.path.isdir(wanted_path):
            raise ConfigError(f"{what}: there is no such directory")
        if os.path.realpath(wanted_path) in storage:
            raise ConfigError(f"{what}: is each node's own storage; take a directory below it")
    found = [d for d in implied if os.path.isabs(d) and os.path.isdir(d)] + [d for _, d in wanted]
    both = [p for d in found for p in (os.path.abspath(d), os.path.realpath(d))]
    return [d for d in dict.fromkeys(both) if d not in storage]


def _add_own_commands(environ: dict[str, str]) -> None:
    """Let the command find ours, also where the virtual environment was not activated."""
    ours = os.path.dirname(sys.executable)
    known = environ.get("PATH", os.defpath).split(os.pathsep)
    if ours not in known:
        environ["PATH"] = os.pathsep.join([*known, ours])


class _Front:
    """The process that the user started, once the manager is its child."""

    def __init__(self, plan: Plan, context: Context, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._context = context
        self._say = say
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._manager = os.fork()
        if self._manager == 0:
            self._ours.close()
            _be_manager(plan, theirs, context)
        theirs.close()
        self._code: Optional[int] = None

    def run(self) -> int:
        """Wait for the manager; returns the exit code to end with."""
        wake = self._catch_signals()
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._ours, select.POLLIN)
        status: Optional[int] = None
        while status is None:
            for fd, _ in poll.poll():
                if fd == wake:
                    if {signal.SIGTERM, signal.SIGHUP}.intersection(os.read(wake, _MESSAGE_BYTES)):
                        with contextlib.suppress(OSError):
                            self._ours.send(b"term")
                    status = _proc.reap_children().get(self._manager)
                elif not self._listen():
                    poll.unregister(self._ours)
        while self._listen():
            pass  # what it said before its end
        self._ours.close()
        if self._code is not None:
            return self._code
        return self._lost(status)

    def _catch_signals(self) -> int:
        """TERM and HUP ask the manager to end; INT and QUIT reach the command by themselves."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (
            signal.SIGCHLD,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGQUIT,
        ):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _ignore)
        return reader

    def _listen(self) -> bool:
        """Take one message of the manager; False when there is none any more."""
        try:
            message = self._ours.recv(_MESSAGE_BYTES)
        except OSError:
            return False
        word, _, rest = message.partition(b" ")
        if word == b"say":
            self._say(os.fsdecode(rest))
        elif word == b"exit":
            self._code = int(rest)
        return bool(message)

    def _lost(self, status: int) -> int:
        """The manager died: its nodes die with it, the command must end, and it is written down why."""
        why = f"the manager (pid {self._manager}) {describe_status(status)}"
        clock = self._context.clock
        directory.write_ended(self._plan.path, clock.now(), why)
        self._say(f"{why}; the nodes died with it; ending the command")
        number = signal.SIGHUP if self._plan.interactive else signal.SIGTERM
        end_leftovers(os.getpid(), set(), clock=clock, grace_s=LOST_GRACE_S, number=number)
        directory.clear_steps(self._plan.path)
        return EXIT_LOST


def _be_manager(plan: Plan, front: socket.socket, context: Context) -> None:
    """Run as the manager; never returns."""
    code = 1
    try:
        adopt_orphans()
        code = Manager(plan, front, context.clock).run()
        front.send(b"exit %d" % code)
    except Exception:
        logger.critical("the manager failed", exc_info=True)
    finally:
        os._exit(code)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor tells."""
