# SPDX-License-Identifier: BSD-3-Clause
"""Booting a virtual node: its namespaces, its storage, its agent.

No helper program is needed: the kernel lets any user make these namespaces (where it is not told
otherwise), and the mounts inside them. A node's first process stays a direct child of the manager,
so that its real end is seen, and dies with the manager by the kernel's word.

Source: user_namespaces(7), "Defining user and group ID mappings"; pid_namespaces(7), "The namespace
init process".
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Mapping, NamedTuple, NoReturn, Optional, Sequence

from scrjob.localrm import _start
from scrjob.localrm._linux import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    adopt_orphans,
    die_with_parent,
    mount,
    unshare,
)
from scrjob.localrm._proc import kill_tree, reap_children

GO = b"go"
ERROR = b"error "
_MESSAGE_BYTES = 64
NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC


class NodeSpec(NamedTuple):
    """How a node is to be.

    ``private``: with namespaces; ``storage``: directories that become its own (private nodes);
    ``shared``: directories that stay visible below them; ``size``: limit of each storage, as
    tmpfs takes it, "" for the kernel's default; ``overlay``: NAME=value words for its programs.
    """

    name: str
    private: bool
    storage: Sequence[str]
    shared: Sequence[str]
    size: str
    overlay: Sequence[str]


def start(
    spec: NodeSpec,
    *,
    python: str,
    environ: Mapping[str, str],
    control: socket.socket,
    server: socket.socket,
    log_fd: int,
) -> int:
    """Fork a node and return the process that the caller must wait for.

    For a private node that process is gone at once (collect it, then send GO over the other end of
    ``control``); its child, the node's first process, becomes the caller's own child. For a plain
    node it lives as long as the node, ends everything when the agent dies, and then dies as the
    agent did. What goes wrong is said over ``control`` as ERROR and text.

    Args:
        spec: the node.
        python: interpreter of the agent.
        environ: environment of the agent's own interpreter.
        control: the node's end of a SOCK_SEQPACKET pair; the caller keeps the other end.
        server: listening socket for requests.
        log_fd: where the agent's stderr goes.
    """
    manager = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        keep = [control.fileno(), server.fileno()]
        _keep_only(keep, log_fd)
        argv = _start.command(python, "agent", *map(str, keep), *spec.overlay)
        if spec.private:
            _become_private(spec, control)
        else:
            _become_plain(control, manager)
        for fd in keep:
            os.set_inheritable(fd, True)
        os.chdir("/")
        os.execve(argv[0], argv, dict(environ))  # noqa: S606 - no shell is the point
    except OSError as error:
        control.send(ERROR + os.fsencode(f"{spec.name}: {error}"))
    finally:
        os._exit(1)


def _keep_only(keep: Sequence[int], log_fd: int) -> None:
    """Close all descriptors but these; stdin and stdout become /dev/null, stderr the log."""
    null = os.open(os.devnull, os.O_RDWR)
    for number, fd in enumerate((null, null, log_fd)):
        os.dup2(fd, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:  # noqa: PLR2004 - the standard streams
            with contextlib.suppress(OSError):  # one was that of this very listing
                os.close(int(name))
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


def enter_namespaces() -> None:
    """Make this process's own namespaces, with its user and group kept; its children live in all of them.

    Raises:
        OSError: the kernel refuses.
    """
    uid, gid = os.getuid(), os.getgid()
    unshare(NAMESPACES)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _become_private(spec: NodeSpec, control: socket.socket) -> None:
    """Return as the first process of new namespaces that are furnished as a node."""
    os.setsid()  # the terminal's signals are for the user's command
    enter_namespaces()
    if os.fork():
        os._exit(0)
    # The signal set here would come at the end of our first parent already: it must be gone.
    if control.recv(_MESSAGE_BYTES) != GO:
        os._exit(0)
    die_with_parent(signal.SIGKILL)
    socket.sethostname(spec.name)
    furnish(spec.storage, spec.shared, spec.size)


def _become_plain(control: socket.socket, manager: int) -> None:
    """Return as the agent-to-be; the process that forked it stays as its undertaker."""
    os.setsid()
    die_with_parent(signal.SIGKILL, manager)
    adopt_orphans()
    undertaker = os.getpid()
    agent = os.fork()
    if agent == 0:
        if control.recv(_MESSAGE_BYTES) != GO:
            os._exit(0)
        die_with_parent(signal.SIGKILL, undertaker)
        return
    control.close()
    _bury(agent)


def _bury(agent: int) -> NoReturn:
    """Wait for the agent's end, end everything that it left, then die as it did."""
    _, status = os.waitpid(agent, 0)
    kill_tree(os.getpid())
    reap_children()
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def is_below(path: str, directory: str) -> bool:
    """Tell whether ``path`` lies inside ``directory``, which is not ``path`` itself."""
    return path.startswith(directory.rstrip("/") + "/") and path != directory


def outermost(directories: Sequence[str]) -> list[str]:
    """Return those directories that do not lie inside another of them, each once."""
    unique = list(dict.fromkeys(directories))
    return [d for d in unique if not any(is_below(d, other) for other in unique)]


def furnish(storage: Sequence[str], shared: Sequence[str], size: str) -> None:
    """Mount /proc and the node's own storage; shared directories below it stay what they are.

    Args:
        storage: existing absolute directories without symbolic links; below another one they need not exist.
        shared: absolute directories.
        size: limit of each file system, "" for the kernel's default.

    Raises:
        OSError: a mount is refused.
    """
    mount("none", "/", "none", MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    tops = outermost(storage)
    hidden = [path for path in shared if any(is_below(path, top) for top in tops)]
    handles = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in outermost(hidden)}
    for top in tops:
        _mount_tmpfs(top, size)
    for path, fd in handles.items():
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, "none", MS_BIND | MS_REC)
        os.close(fd)
    for inner in storage:
        if inner in tops:
            continue
        os.makedirs(inner, exist_ok=True)
        if any(is_below(inner, path) for path in handles):
            _mount_tmpfs(inner, size)


def _mount_tmpfs(directory: str, size: str) -> None:
    options = "mode=1777" + (f",size={size}" if size else "")
    try:
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, options)
    except OSError as error:
        raise OSError(error.errno, f"{directory}: {error.strerror}") from error


def refusal(storage: Sequence[str], size: str) -> Optional[str]:
    """Return why this machine cannot have private nodes, None if it can, by trying it once."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            enter_namespaces()
            if os.fork() == 0:
                furnish(storage, (), size)
                os.write(writer, b"yes")
        except OSError as error:
            os.write(writer, os.fsencode(error.strerror or str(error)))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = os.fsdecode(pipe.read())
    os.waitpid(child, 0)
    return None if answer == "yes" else (answer or "the trial process died")
