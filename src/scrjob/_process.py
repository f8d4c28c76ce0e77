# SPDX-License-Identifier: BSD-3-Clause
"""The one module that starts processes: argument lists only, a deadline for every call."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import CommandError, CommandNotFoundError, CommandTimeoutError

logger = logging.getLogger(__name__)

KILL_GRACE_S = 2.0  # between TERM and KILL for a command past its deadline
GONE_LIMIT_S = (
    1.0  # for killed processes to be gone; a zombie that nobody collects is not waited for longer
)
GONE_POLL_S = 0.002
TOOL_ENV = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
"""Added to the environment of every tool we ask: plain messages, times as Unix seconds."""


class CommandResult(NamedTuple):
    """What a command said. ``returncode`` is -N for signal N; text is UTF-8 with surrogateescape."""

    argv: Sequence[str]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    def check(self) -> CommandResult:
        """Return itself, or raise CommandError unless the exit code is 0."""
        if self.returncode != 0:
            raise CommandError(
                self.argv,
                returncode=self.returncode,
                stdout=self.stdout,
                stderr=self.stderr,
                seconds=self.seconds,
            )
        return self


class SubprocessRunner:
    """Runs commands for real."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        cwd: Optional[str] = None,
    ) -> CommandResult:
        """Run to the end in a session of its own; see ``protocols.CommandRunner``.

        ``env`` None means our own environment; TOOL_ENV is added. stdin is /dev/null unless given.
        Past the deadline the whole process group gets TERM, then KILL.
        """
        began = time.monotonic()
        process = _spawn(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if env is None else env), **TOOL_ENV},
            cwd=cwd,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = _end_group(process)
            raise CommandTimeoutError(
                argv,
                stdout=_text(out),
                stderr=_text(err),
                seconds=time.monotonic() - began,
                why=f"no answer within {timeout_s:g} s",
            ) from None
        except BaseException:
            _end_group(process)
            raise
        result = CommandResult(
            argv, process.returncode, _text(out), _text(err), time.monotonic() - began
        )
        logger.debug("%s -> %d in %.3f s", shlex.join(argv), result.returncode, result.seconds)
        return result

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[int] = None,
        stderr: Optional[int] = None,
    ) -> subprocess.Popen[bytes]:
        """Start on our own streams in a process group of its own; see ``protocols.CommandRunner``."""
        logger.debug("starting %s", shlex.join(argv))
        return _spawn(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stderr=stderr,
            **_OWN_GROUP,
        )

    def pipe(
        self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None
    ) -> subprocess.Popen[bytes]:
        """Start with pipes at stdout and stderr and nothing to read; see ``protocols.CommandRunner``."""
        return _spawn(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if env is None else dict(env),
            start_new_session=True,
        )

    def beside(self, function: Callable[[], None], name: str) -> None:
        """Call ``function`` on a thread of its own; see ``protocols.CommandRunner``."""
        threading.Thread(target=function, name=name, daemon=True).start()


def _own_group() -> None:
    os.setpgid(0, 0)


# Python code between fork and exec is a risk beside other threads; 3.11 can do without.
_OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": _own_group}
)


def _text(data: Optional[bytes]) -> str:
    return (data or b"").decode("utf-8", "surrogateescape")


def _spawn(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(argv), **options)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise CommandNotFoundError(argv, why=error.strerror or "cannot be started") from error
    except (OSError, ValueError) as error:
        raise CommandError(argv, why=f"cannot be started: {error}") from error


def _end_group(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """TERM, grace, KILL for the process's session; returns what it had said."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            said = process.communicate(timeout=KILL_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        _clear_group(process.pid)
        return said
    # A grandchild that left the group may still hold the pipes, and a process that waits for a dead file
    # system cannot even be killed: neither is waited for any longer.
    for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
        with contextlib.suppress(OSError):
            pipe.close()
    if wait_process(process, KILL_GRACE_S) is None:
        logger.warning("process %d cannot be killed: it is left behind", process.pid)
    return b"", b""


def _clear_group(group: int) -> None:
    """Kill what outlived its leader, for it ignores TERM or is just dying, and wait until it is gone."""
    kill_group(group)
    end = time.monotonic() + GONE_LIMIT_S
    while group_exists(group) and time.monotonic() < end:
        time.sleep(GONE_POLL_S)


def signal_group(process: Any, number: int) -> bool:
    """Send a signal to the process group that ``process`` leads; False if it is gone."""
    if process.poll() is not None:
        return False
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_process(process: Any, grace_s: float, limit_s: float) -> None:
    """End a process that leads no group: TERM, a grace, KILL; seconds."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, limit_s)):
        process.send_signal(number)
        if wait_process(process, wait_s) is not None:
            return


def group_exists(group: int) -> bool:
    """Tell whether any process of the group is left, its leader or not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kill_group(group: int) -> None:
    """Send KILL to what is left of a process group; none left is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def wait_process(process: Any, timeout_s: Optional[float]) -> Optional[int]:
    """Return the exit code, or None if it still runs after ``timeout_s`` seconds (None: wait for ever)."""
    try:
        return int(process.wait(timeout=timeout_s))
    except subprocess.TimeoutExpired:
        return None
