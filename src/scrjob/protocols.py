# SPDX-License-Identifier: BSD-3-Clause
"""What lower layers see of the layers above them: clock, runner, process, job environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Protocol, Sequence

if TYPE_CHECKING:
    from scrjob._process import CommandResult

__all__ = ["Clock", "CommandRunner", "Context", "JobEnvironment", "Process"]


class Clock(Protocol):
    """Time, passed in so that tests need not wait."""

    def now(self) -> float:
        """Return Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Process(Protocol):
    """A started process; the part of ``subprocess.Popen`` that callers may use."""

    @property
    def pid(self) -> int:
        """Return the process id."""
        ...

    def poll(self) -> Optional[int]:
        """Return the exit code (-N for signal N), None while it runs."""
        ...

    def wait(self, timeout: Optional[float] = None) -> int:
        """Return the exit code; raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        ...


class PipedProcess(Process, Protocol):
    """A started process whose output is read through pipes."""

    @property
    def stdout(self) -> Any:
        """Return the reading end of its standard output, a binary file."""
        ...

    @property
    def stderr(self) -> Any:
        """Return the reading end of its error output, a binary file."""
        ...


class CommandRunner(Protocol):
    """Starts external commands: argument lists only, every call with a deadline."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        cwd: Optional[str] = None,
    ) -> CommandResult:
        """Run to the end and return what it said, whatever its exit code.

        Raises:
            CommandNotFoundError, CommandTimeoutError.
        """
        ...

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[int] = None,
        stderr: Optional[int] = None,
    ) -> Process:
        """Start a program on the caller's own stdin, stdout and stderr, in a process group of its own.

        ``stdin`` and ``stderr`` are open descriptors for it in place of the caller's.

        Raises:
            CommandNotFoundError.
        """
        ...

    def pipe(self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> PipedProcess:
        """Start a program that leads a session of its own, for a caller who reads its output as it comes.

        Whoever starts it also ends it, closes both streams and waits for it.

        Raises:
            CommandError, CommandNotFoundError: it cannot be started.
        """
        ...

    def beside(self, function: Callable[[], None], name: str) -> None:
        """Call ``function`` on a thread, which does not keep the process alive; ``name`` is for debuggers."""
        ...


class Context(Protocol):
    """What a plugin may touch of the outside world."""

    @property
    def environ(self) -> Mapping[str, str]:
        """Return the environment, also that of started programs."""
        ...

    @property
    def runner(self) -> CommandRunner:
        """Return what starts processes."""
        ...

    @property
    def clock(self) -> Clock:
        """Return the time."""
        ...

    @property
    def hostname(self) -> str:
        """Return the name of this host."""
        ...

    def with_environ(self, extra: Mapping[str, str]) -> Context:
        """Return a context whose environment has ``extra`` on top."""
        ...


class JobEnvironment(Protocol):
    """What plugins and node tests receive as ``jobenv``."""

    prefix: str
    param: Any
    resmgr: Any
    launcher: Any
    rexec: Any
    nodetests: Any
    context: Context

    def user(self) -> str:
        """Return the user's name in SCR's paths."""
        ...

    def job_id(self) -> str:
        """Return the job id in SCR's paths."""
        ...

    def node_list(self) -> list[str]:
        """Return the nodes of SCR_NODELIST, [] if unset."""
        ...

    def job_nodes(self) -> list[str]:
        """Return the job's nodes: SCR_NODELIST, else the manager's, [] unknown."""
        ...

    def dir_prefix(self) -> str:
        """Return the absolute prefix directory."""
        ...

    def dir_scr(self) -> str:
        """Return ``<prefix>/.scr``."""
        ...

    def dir_job(self) -> str:
        """Return ``<prefix>/.scr/scrjob.<jobid>``."""
        ...

    def dir_dset(self, d: Any) -> str:
        """Return ``<prefix>/.scr/scr.dataset.<d>``."""
        ...

    def dir_cache(self, base: bool = False) -> list[str]:
        """Return the cache directories on a node, or their bases."""
        ...

    def dir_control(self, base: bool = False) -> list[str]:
        """Return the control directories on a node, or their bases."""
        ...

    def runnode_count(self) -> int:
        """Return the number of nodes of the last run, 0 unknown."""
        ...
