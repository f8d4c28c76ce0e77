# SPDX-License-Identifier: BSD-3-Clause
"""Commands on the hosts of a rig, and what Slurm says there."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from typing import Any, Optional, Sequence

from . import _proc as proc
from ._base import ENTER_ALL, UP_LIMIT_S, BaseRig, RigError, StrPath
from ._plan import LOGIN

COMMAND_LIMIT_S = 60.0

# What is started tells its process id, goes to its directory, joins the host's control groups.
_ENTER = """\
echo $$ > "$1"; cd "$2" || exit 111; n=$3; shift 3
while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs"; shift; n=$((n - 1)); done
exec "$@"
"""


class Running:
    """A command that runs on a host.

    Attributes:
        host: where it runs.
        popen: what waits for it outside: its streams, and its return code, are the command's.
    """

    def __init__(self, rig: Commands, host: str, popen: subprocess.Popen[str], note: str) -> None:
        self.rig = rig
        self.host = host
        self.popen = popen
        self._note = note

    @property
    def pid(self) -> int:
        """The process id, as the host sees it."""
        return int(self.rig.wait_for(lambda: proc.text(self._note).strip(), "the command's start"))

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, and to no other process."""
        self.rig.exec(self.host, ["kill", f"-{int(number)}", str(self.pid)], check=True)

    def wait(self, timeout: float = COMMAND_LIMIT_S) -> int:
        """Wait for its end; return its code, or -N for signal N."""
        return self.popen.wait(timeout)

    def output(self, timeout: float = COMMAND_LIMIT_S) -> tuple[str, str]:
        """Wait for its end; return stdout and stderr."""
        return self.popen.communicate(timeout=timeout)

    def end(self) -> None:
        """Kill the command and what is in its process group still."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Commands(BaseRig):
    """A rig on whose hosts commands can be run."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._started: list[Running] = []

    def start(
        self,
        host: str,
        argv: Sequence[StrPath],
        *,
        environ: Optional[dict[str, str]] = None,
        cwd: Optional[StrPath] = None,
        **options: Any,
    ) -> Running:
        """Start a command on a host and let it run, until ``end_commands`` at the latest.

        Args:
            host: where; ``login`` is where jobs are submitted.
            argv: the command.
            environ: added to the rig's own.
            cwd: the rig's directory if not given.
            options: of Popen; streams are pipes of text if not given.
        """
        note = self.plan.file("run", f"{os.getpid()}.{next(self._numbers)}")
        groups = [path for name in self.plan.cgroups if (path := self.plan.cgroup(name, host))]
        inside = ["sh", "-c", _ENTER, "sh", note, os.fspath(cwd or self.directory)]
        inside += [str(len(groups)), *groups, *map(os.fspath, argv)]
        defaults: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "env": {**self.environ, **(environ or {})},
            "start_new_session": True,
        }
        nsenter = ["nsenter", f"--target={self.init_of(host)}", *ENTER_ALL]
        popen = subprocess.Popen([*nsenter, *inside], **{**defaults, **options})
        running = Running(self, host, popen, note)
        self._started.append(running)
        return running

    def end_commands(self) -> None:
        """End all commands that were started and run still."""
        while self._started:
            self._started.pop().end()

    def down(self) -> None:
        """End everything; return when nothing is left."""
        super().down()
        self.end_commands()

    def exec(
        self,
        host: str,
        argv: Sequence[StrPath],
        *,
        timeout: float = COMMAND_LIMIT_S,
        check: bool = False,
        input: Optional[str] = None,  # noqa: A002 - subprocess's own name
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host; return its code and output.

        Raises:
            RigError: ``check`` is set and the code is not 0.
            subprocess.TimeoutExpired: it took longer; it is killed.
        """
        if input is not None:
            options["stdin"] = subprocess.PIPE
        running = self.start(host, argv, **options)
        try:
            out, err = running.popen.communicate(input, timeout=timeout)
        finally:
            running.end()
            self._started.remove(running)
        done = subprocess.CompletedProcess(list(argv), running.popen.returncode, out, err)
        if check and done.returncode:
            raise RigError(f"{host}: {argv} gave {done.returncode}: {err or out}")
        return done

    def run(self, argv: Sequence[StrPath], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the login host."""
        return self.exec(LOGIN, argv, **options)

    def salloc(
        self, nodes: int, argv: Sequence[StrPath], options: Sequence[str] = (), **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside a new allocation, on the login host; ``options`` are salloc's."""
        return self.run([*_salloc(nodes), *options, *argv], **how)

    def salloc_start(
        self, nodes: int, argv: Sequence[StrPath], options: Sequence[str] = (), **how: Any
    ) -> Running:
        """Start a command inside a new allocation, on the login host, and let it run."""
        return self.start(LOGIN, [*_salloc(nodes), *options, *argv], **how)

    def sbatch(self, script: StrPath, options: Sequence[str] = (), **how: Any) -> str:
        """Submit a batch script; return the job's id."""
        return self.run(
            ["sbatch", "--parsable", *options, script], check=True, **how
        ).stdout.strip()

    def states(self) -> dict[str, str]:
        """Return each node's state as Slurm says it: ``idle``, ``mix*``, ``down`` and so on."""
        done = self.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N %t"], check=True)
        return dict(line.split() for line in done.stdout.splitlines())

    def jobs(self) -> list[str]:
        """Return the ids of jobs that Slurm has not finished."""
        return self.run(["squeue", "-h", "-o", "%i"], check=True).stdout.split()

    def wait_state(self, hosts: Sequence[str], state: str, timeout: float = 60.0) -> None:
        """Wait until Slurm says that hosts are in a state.

        Raises:
            RigError: they are not within ``timeout`` seconds.
        """
        last = "not asked yet"

        def reached() -> bool:
            nonlocal last
            try:
                states = self.states()
            except RigError as error:  # the controller may be starting
                last = str(error)
                return False
            last = str(states)
            return all(states.get(host) == state for host in hosts)

        try:
            self.wait_for(reached, "", timeout)
        except RigError:
            raise RigError(f"{hosts} not {state} within {timeout:g} s: {last}") from None

    def is_fresh(self) -> bool:
        """Say whether the rig is as it was when it came up: no fault was made, no job is left."""
        try:
            return not self.touched and not self.jobs() and set(self.states().values()) == {"idle"}
        except RigError:
            return False

    def _wait_ready(self) -> None:
        def ready() -> bool:
            # Who asks a controller that could not start waits for long.
            if not self.exec(LOGIN, ["pgrep", "-x", "slurmctld"]).stdout:
                raise RigError("slurmctld did not start")
            try:
                return set(self.states().values()) == {"idle"}
            except RigError:
                return False

        self.wait_for(ready, "idle nodes", UP_LIMIT_S)


def _salloc(nodes: int) -> list[str]:
    return ["salloc", "--quiet", "--no-kill", f"--nodes={nodes}"]
