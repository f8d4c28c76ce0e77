# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution by ClusterShell's Task, over ssh."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any, Callable, Collection, NamedTuple, Optional, Sequence

from scrjob.errors import PluginLoadError
from scrjob.remoteexec import _ssh, _wrapper
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment


LOOK_AGAIN_S = 0.5  # for nodes that are lost meanwhile


class ClusterShell(RemoteExec):
    """Runs a command through a ClusterShell task; the library is imported at the first call."""

    name = "clustershell"

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None if the library is installed and ssh is on PATH, else the reason."""
        if importlib.util.find_spec("ClusterShell") is None:
            return "ClusterShell is not installed: pip install ClusterShell"
        return _ssh.missing(context)

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` on each of ``nodes``; see the base class.

        Raises:
            UsageError: a node is named twice.
            ConfigError: SCR_SSH or SCR_SSH_FANOUT cannot be understood.
            PluginLoadError: ClusterShell cannot be imported.
            CommandError: ssh cannot be started.
        """
        _wrapper.refuse_duplicates(nodes)
        result = RemoteExecResult(argv, nodes)
        reached = _ssh.reachable(result)
        if not reached:
            return result
        answers = in_own_thread(
            lambda: run_task(
                reached,
                _ssh.text_for(argv, jobenv, self.timeout_s),
                words=_ssh.words_for(jobenv, self.timeout_s),
                fanout=_ssh.fanout(jobenv),
                limit_s=self.timeout_s + _wrapper.LATE_S,
                context=jobenv.context,
                lost=self.lost and self._lost_ones,
            )
        )
        gone = self._lost_ones()
        for node in reached:
            out, err = (answers.lines.get((node, name), ()) for name in ("stdout", "stderr"))
            code = answers.codes.get(node)
            said = _wrapper.LOST if node in gone else ""
            if code is not None:
                said = f"ssh ended with exit code {code}"
            _wrapper.enter(result, node, (out, err), self.timeout_s, said)
        return result


class Answers(NamedTuple):
    """What came: lines by node and stream ("stdout", "stderr"), exit codes of ssh by node."""

    lines: dict[tuple[str, str], list[str]]
    codes: dict[str, int]


def in_own_thread(work: Callable[[], Answers]) -> Answers:
    """Return what ``work`` does: a task belongs to a thread, and the caller's may have a task of its own."""
    import threading  # noqa: PLC0415 - only where nodes are asked

    found: list[Answers] = []
    problems: list[BaseException] = []

    def attempt() -> None:
        try:
            found.append(work())
        except BaseException as problem:  # noqa: BLE001 - raised again by the caller's thread
            problems.append(problem)

    thread = threading.Thread(target=attempt, name="clustershell", daemon=True)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found[0]


def run_task(
    nodes: Sequence[str],
    text: str,
    *,
    words: Sequence[str],
    fanout: int,
    limit_s: float,
    context: Context,
    lost: Optional[Callable[[], Collection[str]]] = None,
) -> Answers:
    """Run ``text`` on ``nodes`` by this thread's ClusterShell task; return what came within ``limit_s``.

    Less than that if only those are missing whom ``lost()`` names by and by.

    Raises:
        PluginLoadError: ClusterShell cannot be imported.
    """
    answers = Answers({}, {})
    try:
        from ClusterShell.Engine.Engine import E_READ  # noqa: PLC0415 - costs 90 ms, with the others
        from ClusterShell.Event import EventHandler  # noqa: PLC0415 - same
        from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # noqa: PLC0415 - same
        from ClusterShell.Task import TimeoutError as TaskTimeout  # noqa: PLC0415 - same
        from ClusterShell.Task import task_self  # noqa: PLC0415 - same
        from ClusterShell.Worker.Ssh import SshClient, WorkerSsh  # noqa: PLC0415 - same
    except ImportError as error:
        raise PluginLoadError(f"ClusterShell cannot be imported: {error}") from error

    class Client(SshClient):  # type: ignore[misc]
        def _build_cmd(self) -> tuple[list[str], None]:
            return [*words, str(self.key), text], None

        def _exec_nonblock(self, commandlist: list[str], **_: Any) -> Any:
            # ClusterShell's own way runs Python between fork and exec: a risk beside other threads, and slow.
            process = context.runner.pipe(commandlist, env=context.environ)
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
                self.streams.set_stream(name, os.dup(stream.fileno()), E_READ)
                stream.close()
            return process

    class Worker(WorkerSsh):  # type: ignore[misc]
        SHELL_CLASS = Client

    class Handler(EventHandler):  # type: ignore[misc]
        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            del worker
            line = msg.decode("utf-8", "surrogateescape")
            answers.lines.setdefault((node, sname), []).append(line)

        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            del worker
            answers.codes[node] = rc

        def ev_timer(self, timer: Any) -> None:
            del timer
            waiting = answers.codes.keys() ^ set(nodes)
            if lost is not None and waiting.issubset(lost()):
                task.abort()

    task = task_self()
    try:
        task.set_info("fanout", fanout)
        task.set_default("stdout_msgtree", False)
        task.set_default("stderr_msgtree", False)
        # Host names only: nothing in them has a meaning for NodeSet but their numbers, and those it keeps.
        names = NodeSet.fromlist(nodes, resolver=RESOLVER_NOGROUP)
        worker = Worker(names, command=text, handler=Handler(), stderr=True, timeout=None)
        worker.set_write_eof()
        task.schedule(worker)
        if lost is not None:
            task.timer(LOOK_AGAIN_S, handler=Handler(), interval=LOOK_AGAIN_S, autoclose=True)
        with contextlib.suppress(TaskTimeout):
            task.resume(limit_s)
    finally:
        task.abort(kill=True)
    return answers
