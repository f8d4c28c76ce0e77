# SPDX-License-Identifier: BSD-3-Clause
"""An outside world made of values: clock, processes, settings, remote execution, job environment."""

from __future__ import annotations

import copy
import os
from typing import Any, Callable, Collection, Mapping, NamedTuple, Optional, Sequence, Union

from scrjob._context import RealContext
from scrjob._process import CommandResult
from scrjob.errors import CommandNotFoundError, CommandTimeoutError

Answer = Union[CommandResult, BaseException]
Script = Callable[[Sequence[str]], Answer]


class FakeClock:
    """A clock that moves only when somebody sleeps or a test says so.

    Args:
        start: Unix seconds at the beginning; the monotonic clock begins at 0.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self.naps: list[float] = []

    def now(self) -> float:
        """Return Unix seconds."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Move on at once, and note it in ``naps``."""
        self.naps.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let time pass; it cannot go back.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back by {-seconds} s")
        self._elapsed += seconds


def said(
    argv: Sequence[str], stdout: str = "", *, stderr: str = "", returncode: int = 0
) -> CommandResult:
    """Return what a command that was run would have given."""
    return CommandResult(argv, returncode, stdout, stderr, 0.0)


def missing(argv: Sequence[str]) -> CommandNotFoundError:
    """Return the error of a command that is not installed."""
    return CommandNotFoundError(argv, why="No such file or directory")


def hanging(argv: Sequence[str]) -> CommandTimeoutError:
    """Return the error of a command that did not end in time."""
    return CommandTimeoutError(argv, why="no answer within its deadline")


class FakeProcess:
    """A started process that ends when a test says so."""

    def __init__(self, argv: Sequence[str], returncode: Optional[int] = None) -> None:
        self.argv = list(argv)
        self.pid = 0
        self.returncode = returncode

    def poll(self) -> Optional[int]:
        """Return the exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self.returncode is None:
            import subprocess  # noqa: PLC0415 - the type that real processes raise

            raise subprocess.TimeoutExpired(self.argv, timeout or 0.0)
        return self.returncode


def _said_all(text: str) -> Any:
    reader, writer = os.pipe()
    os.write(writer, text.encode("utf-8", "surrogateescape"))
    os.close(writer)
    return open(reader, "rb", buffering=0)


class FakeRunner:
    """Answers commands from a script and notes every call.

    Args:
        script: gets the argument list, returns a ``CommandResult`` or an exception to raise.

    Attributes:
        calls: the argument lists, in order. ``options`` holds the keyword arguments beside them.
    """

    def __init__(self, script: Script = missing) -> None:
        self._script = script
        self.calls: list[list[str]] = []
        self.options: list[dict[str, Any]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        cwd: Optional[str] = None,
    ) -> CommandResult:
        """Return what the script has for ``argv``, or raise it."""
        self._note(argv, timeout_s=timeout_s, env=env, stdin=stdin, cwd=cwd)
        answer = self._script(argv)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[int] = None,
        stderr: Optional[int] = None,
    ) -> FakeProcess:
        """Return a process that has ended as the script says."""
        del stdin, stderr
        self._note(argv, env=env, cwd=cwd)
        answer = self._script(argv)
        if isinstance(answer, BaseException):
            raise answer
        return FakeProcess(argv, answer.returncode)

    def pipe(self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> Any:
        """Return a process that has said all and ended, as the script says; at most 64 KiB a stream."""
        self._note(argv, env=env)
        answer = self._script(argv)
        if isinstance(answer, BaseException):
            raise answer
        process = FakeProcess(argv, answer.returncode)
        vars(process).update(stdout=_said_all(answer.stdout), stderr=_said_all(answer.stderr))
        return process

    def beside(self, function: Callable[[], None], name: str) -> None:
        """Call it here and now: its answer is there at once."""
        del name
        function()

    def _note(self, argv: Sequence[str], **options: Any) -> None:
        self.calls.append(list(argv))
        self.options.append(options)


def fake_context(
    environ: Optional[Mapping[str, str]] = None,
    *,
    runner: Any = None,
    clock: Any = None,
    hostname: str = "login1",
) -> RealContext:
    """Return a context of fakes; an environment that is not given is empty."""
    return RealContext(
        environ=dict(environ or {}),
        runner=runner or FakeRunner(),
        clock=clock or FakeClock(),
        hostname=hostname,
    )


class FakeParam:
    """Settings from two mappings."""

    def __init__(
        self,
        values: Optional[Mapping[str, str]] = None,
        trees: Optional[Mapping[str, Mapping[str, Any]]] = None,
    ) -> None:
        self._values = dict(values or {})
        self._trees = dict(trees or {})

    def get(self, name: str) -> Optional[str]:
        """Return a value, None if unset."""
        return self._values.get(name)

    def get_hash(self, name: str) -> Optional[Mapping[str, Any]]:
        """Return a descriptor's tree, None if unset."""
        return self._trees.get(name)

    def abtoull(self, stringval: str) -> int:
        """Return bytes; this fake knows plain numbers only."""
        return int(stringval)


class NodeAnswer(NamedTuple):
    """What one node says to a command; ``rc`` None is a node that does not answer."""

    rc: Optional[int] = 0
    stdout: str = ""
    stderr: str = ""
    failure: str = "no answer"


class FakeRemoteExec:
    """Remote execution whose nodes answer as a function says.

    Args:
        result: class of the result, ``scrjob.remoteexec.RemoteExecResult``.
        answer: gets node and argument list, returns a ``NodeAnswer`` or an exception to raise.
    """

    name = "fake"
    timeout_s = 30.0
    lost: Optional[Callable[[], Collection[str]]] = None

    def __init__(
        self, result: Any, answer: Callable[[str, Sequence[str]], Union[NodeAnswer, Exception]]
    ) -> None:
        self._result = result
        self._answer = answer
        self.calls: list[tuple[list[str], list[str]]] = []

    def bounded(self, timeout_s: float) -> FakeRemoteExec:
        """Return a copy with another deadline that notes its calls in the same list."""
        other = copy.copy(self)
        other.timeout_s = timeout_s
        return other

    def heeding(self, lost: Callable[[], Collection[str]]) -> FakeRemoteExec:
        """Return a copy that notes its calls in the same list; its nodes answer at once."""
        other = copy.copy(self)
        other.lost = lost
        return other

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: object) -> Any:
        """Return every node's answer."""
        del jobenv
        self.calls.append((list(argv), list(nodes)))
        result = self._result(argv, nodes)
        for node in nodes:
            answer = self._answer(node, argv)
            if isinstance(answer, Exception):
                raise answer
            result.append_stdout(node, answer.stdout)
            result.append_stderr(node, answer.stderr)
            if answer.rc is None:
                result.set_failure(node, answer.failure)
            else:
                result.set_rc(node, answer.rc)
        return result


class FakeJobEnv:
    """A job environment of given parts; satisfies ``protocols.JobEnvironment``."""

    def __init__(
        self,
        prefix: str = "/prefix",
        *,
        param: Any = None,
        resmgr: Any = None,
        launcher: Any = None,
        rexec: Any = None,
        nodetests: Any = None,
        context: Any = None,
    ) -> None:
        self.prefix = prefix
        self.param = param or FakeParam()
        self.resmgr = resmgr
        self.launcher = launcher
        self.rexec = rexec
        self.nodetests = nodetests
        self.context = context or fake_context()

    def user(self) -> str:
        """Return "alice"."""
        return "alice"

    def job_id(self) -> str:
        """Return "42"."""
        return "42"

    def node_list(self) -> list[str]:
        """Return no nodes."""
        return []

    def dir_prefix(self) -> str:
        """Return the prefix."""
        return self.prefix

    def dir_scr(self) -> str:
        """Return ``<prefix>/.scr``."""
        return f"{self.prefix}/.scr"

    def dir_job(self) -> str:
        """Return ``<prefix>/.scr/scrjob.42``."""
        return f"{self.dir_scr()}/scrjob.{self.job_id()}"

    def dir_dset(self, d: object) -> str:
        """Return ``<prefix>/.scr/scr.dataset.<d>``."""
        return f"{self.dir_scr()}/scr.dataset.{d}"

    def dir_cache(self, base: bool = False) -> list[str]:
        """Return one cache directory, or its base."""
        return ["/cache" if base else "/cache/alice/scr.42"]

    def dir_control(self, base: bool = False) -> list[str]:
        """Return one control directory, or its base."""
        return ["/control" if base else "/control/alice/scr.42"]

    def runnode_count(self) -> int:
        """Return 0, unknown."""
        return 0
