# SPDX-License-Identifier: BSD-3-Clause
"""The rig as a value that tests hold."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from . import _cgroups as cgroups
from ._files import write_all
from ._plan import LOGIN, Plan, services

StrPath = Union[str, "os.PathLike[str]"]
HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
UP_LIMIT_S = 60.0
COMMAND_LIMIT_S = 60.0
_CODE = """\
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""
_PYTHON = (sys.executable, "-I", "-S", "-c", _CODE, os.path.dirname(HERE))
# What is started tells its process id, joins the host's control groups, and goes to its directory.
_ENTER = """\
echo $$ > "$1"; cd "$2" || exit 111; n=$3; shift 3
while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs"; shift; n=$((n - 1)); done
exec "$@"
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("COVERAGE_", "PYTEST_", "TZ", "CI", "LANG", "LC_")
_MPI = {
    "MPI4PY_MPIABI": "openmpi",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "tcp,vader,self",
    "OMPI_MCA_btl_tcp_if_include": "eth0",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}


class RigError(Exception):
    """The rig did not do what it was asked to."""


class Running:
    """A command that runs on a host.

    Attributes:
        popen: what waits for it outside; its return code is the command's.
        host: where it runs.
    """

    def __init__(self, rig: Rig, host: str, popen: subprocess.Popen[str], note: str) -> None:
        self.rig = rig
        self.host = host
        self.popen = popen
        self._note = note

    @property
    def pid(self) -> int:
        """The process id, as the host sees it."""
        return int(self.rig.wait_for(lambda: _text(self._note).strip(), "the command's process id"))

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, and to no other process."""
        self.rig.exec(self.host, ["kill", f"-{int(number)}", str(self.pid)], check=True)

    def wait(self, timeout: float = COMMAND_LIMIT_S) -> int:
        return self.popen.wait(timeout)

    def output(self, timeout: float = COMMAND_LIMIT_S) -> tuple[str, str]:
        """Wait; return stdout and stderr."""
        return self.popen.communicate(timeout=timeout)

    def end(self) -> None:
        """Kill the command and all that belongs to its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()


class Rig:
    """A cluster of hosts on this machine.

    Attributes:
        plan: what it consists of.
        directory: shared by all hosts and the outside, at the same path: the parallel file system.
        environ: of commands on its hosts.
    """

    def __init__(
        self,
        directory: StrPath,
        nodes: int = 5,
        *,
        cpus: int = 4,
        storage_mb: int = 64,
        shared: Sequence[StrPath] = (),
        options: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.directory = os.path.realpath(directory)
        everywhere = [CHECKOUT, sys.prefix, sys.base_prefix, *map(os.fspath, shared)]
        self.plan = Plan(
            directory=self.directory,
            nodes=nodes,
            cpus=cpus,
            storage_mb=storage_mb,
            shared=sorted({os.path.realpath(path) for path in everywhere}),
            options=dict(options or {}),
        )
        self._keeper: Optional[subprocess.Popen[str]] = None
        self._outer = 0
        self._numbers = itertools.count()
        self._broken: dict[str, str] = {}
        self._set_environ()

    def _set_environ(self) -> None:
        kept = {name: text for name, text in os.environ.items() if name.startswith(_KEPT)}
        path = f"{os.path.join(sys.prefix, 'bin')}:{_PATH}"
        self.environ = {**kept, "PATH": path, "HOME": os.path.expanduser("~"), **_MPI}
        self.environ["PDSH_RCMD_TYPE"] = "ssh"

    # Up and down.

    def up(self, *, stay: bool = False) -> Rig:
        """Bring the rig up; return when all nodes are idle.

        Args:
            stay: live on when this process ends.

        Raises:
            RigError: it did not come up; the message has the ends of the logs.
        """
        try:
            os.makedirs(self.directory, exist_ok=True)
            os.mkdir(self.plan.private, 0o700)
        except FileExistsError:
            raise RigError(f"there is a rig in {self.directory} already") from None
        name = f"rig-{os.getpid()}-{time.monotonic_ns():x}"
        self.plan = Plan(**{**vars(self.plan), "cgroups": cgroups.make(name)})
        write_all(self.plan, self.environ["PATH"])
        self.plan.save()
        with open(self.plan.log("outer", "keeper"), "wb") as log:
            self._keeper = subprocess.Popen(
                [*_PYTHON, "rig._keeper", self.directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                cwd="/",
            )
        try:
            self._outer = _outer_of(self._keeper.stdout.readline())
            with open(self.plan.file("state.json"), "w", encoding="ascii") as out:
                json.dump([self._outer, self._keeper.pid, _namespace(self._outer)], out)
            self.wait_state(self.plan.names, "idle", UP_LIMIT_S)
        except BaseException as error:
            logs = self.log_tails()
            self.down()
            if isinstance(error, RigError):
                raise RigError(f"{error}\n{logs}") from None
            raise
        if stay:
            self._keeper.stdin.write("s")
            self._keeper.stdin.close()
        return self

    def down(self) -> None:
        """End everything; return when nothing is left."""
        if self._keeper is not None:
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                if self._outer:
                    os.kill(self._outer, signal.SIGKILL)
            self._keeper.stdout.close()
            self._keeper.wait(UP_LIMIT_S)
            self._keeper = None
        elif self._outer:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._outer, signal.SIGKILL)
            self.wait_for(lambda: not os.path.exists(self.plan.private), "the rig's end")
        self._outer = 0

    def __enter__(self) -> Rig:
        return self.up()

    def __exit__(self, *_: object) -> None:
        self.down()

    @classmethod
    def attach(cls, directory: StrPath) -> Rig:
        """Return the rig that was brought up in a directory, by whomever."""
        rig = cls(directory)
        try:
            rig.plan = Plan.load(rig.directory)
            with open(rig.plan.file("state.json"), encoding="ascii") as source:
                outer, _, namespace = json.load(source)
        except FileNotFoundError:
            raise RigError(f"there is no rig in {rig.directory}") from None
        if _namespace(outer) != namespace:
            shutil.rmtree(rig.plan.private)
            cgroups.remove(rig.plan.cgroups)
            raise RigError(f"the rig in {rig.directory} has ended; removed what was left")
        rig._outer = outer
        return rig

    # Commands.

    def start(self, host: str, argv: Sequence[StrPath], **options: Any) -> Running:
        """Start a command on a host and let it run; options are Popen's, streams are pipes of text."""
        note = self.plan.file("run", f"{os.getpid()}.{next(self._numbers)}")
        groups = [path for name in self.plan.cgroups if (path := self.plan.cgroup(name, host))]
        inside = ["sh", "-c", _ENTER, "sh", note, os.fspath(options.pop("cwd", self.directory))]
        inside += [str(len(groups)), *groups, *map(os.fspath, argv)]
        defaults = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "env": {**self.environ, **(options.pop("environ", None) or {})},
            "start_new_session": True,
        }
        nsenter = ["nsenter", f"--target={self.init_of(host)}", *_NAMESPACES]
        popen = subprocess.Popen([*nsenter, *inside], **{**defaults, **options})
        return Running(self, host, popen, note)

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
        """Run a command on a host; return its code and output."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        running = self.start(host, argv, **options)
        try:
            out, err = running.popen.communicate(input, timeout=timeout)
        except BaseException:
            running.end()
            raise
        done = subprocess.CompletedProcess(list(argv), running.popen.returncode, out, err)
        if check and done.returncode:
            raise RigError(f"{host}: {argv} gave {done.returncode}: {err or out}")
        return done

    def run(self, argv: Sequence[StrPath], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the login host."""
        return self.exec(LOGIN, argv, **options)

    def salloc(
        self,
        nodes: int,
        argv: Sequence[StrPath],
        options: Sequence[str] = (),
        *,
        no_kill: bool = True,
        **how: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside a new allocation, on the login host; ``options`` are salloc's."""
        return self.run(_salloc(nodes, argv, options, no_kill), **how)

    def salloc_start(
        self,
        nodes: int,
        argv: Sequence[StrPath],
        options: Sequence[str] = (),
        *,
        no_kill: bool = True,
        **how: Any,
    ) -> Running:
        """Start a command inside a new allocation, on the login host, and let it run."""
        return self.start(LOGIN, _salloc(nodes, argv, options, no_kill), **how)

    def sbatch(self, script: StrPath, options: Sequence[str] = (), **how: Any) -> str:
        """Submit a batch script; return the job's id."""
        done = self.run(["sbatch", "--parsable", *options, script], check=True, **how)
        return done.stdout.strip()

    # Faults.

    def init_of(self, host: str) -> int:
        """Return the process id, outside, of a host's init.

        Raises:
            RigError: the host is dead.
        """
        namespace = _text(self.plan.file("hosts.d", host))
        for pid in self._processes(host):
            if namespace and _is_init(pid):
                return pid
        raise RigError(f"{host} is dead, or no host")

    def _processes(self, host: str) -> list[int]:
        namespace = _text(self.plan.file("hosts.d", host))
        return [pid for pid in _all_pids() if _namespace(pid) == namespace] if namespace else []

    def _in_outer(self, argv: Sequence[str], **options: Any) -> None:
        nsenter = ["nsenter", f"--target={self._outer}", *_NAMESPACES]
        subprocess.run([*nsenter, *argv], check=True, timeout=UP_LIMIT_S, **options)

    def _link(self, host: str, state: str) -> None:
        self._in_outer(["ip", "link", "set", f"v-{host}", state])

    def kill(self, host: str) -> None:
        """Let a host die: its network is silent, its processes and its storage are gone at once."""
        init = self.init_of(host)
        self._link(host, "down")  # first, so that no connection is closed politely
        os.kill(init, signal.SIGKILL)
        self._broken[host] = "killed"
        self.wait_for(lambda: not self._processes(host), f"the end of {host}")

    def hang(self, host: str) -> None:
        """Stop all processes of a host; its kernel still answers pings and takes connections."""
        self._broken[host] = "hung"
        self._signal_all(host, signal.SIGSTOP)

    def resume(self, host: str) -> None:
        """Let a hung host go on."""
        self._signal_all(host, signal.SIGCONT)
        self._broken.pop(host, None)

    def _signal_all(self, host: str, number: int) -> None:
        seen: set[int] = set()
        while left := set(self._processes(host)) - seen:  # some are born meanwhile
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            seen |= left

    def cut(self, host: str) -> None:
        """Pull a host's network cable; its processes live on."""
        self._link(host, "down")
        self._broken[host] = "cut"

    def join(self, host: str) -> None:
        """Plug a host's network cable in again."""
        self._link(host, "up")
        self._broken.pop(host, None)

    def fill(self, host: str, directory: str = "/dev/shm") -> None:
        """Fill a host's storage to the last byte."""
        self._broken[host] = "full"
        self.exec(host, ["sh", "-c", f"cat /dev/zero > {directory}/.filled"])

    def empty(self, host: str, directory: str = "/dev/shm") -> None:
        """Undo ``fill``."""
        self.exec(host, ["rm", "-f", f"{directory}/.filled"])
        self._broken.pop(host, None)

    def slow(self, host: str, *, cpu_share: float = 0.05, rate: str = "64kbit") -> list[str]:
        """Make a host slow, as far as this machine can.

        Args:
            host: which.
            cpu_share: of one CPU, for all its processes, where control groups can be had.
            rate: of its network where the kernel cannot delay packets (netem: 300 ms, 5 % lost).

        Returns:
            What was done: of ``cpu``, ``netem`` or ``rate``.
        """
        self._broken[host] = "slow"
        done = []
        directory = self.plan.cgroup("cpu", host)
        if directory:
            cgroups.limit_cpu(directory, cpu_share)
            done.append("cpu")
        for kind, what in (
            ("netem", ["netem", "delay", "300ms", "loss", "5%"]),
            ("rate", ["tbf", "rate", rate, "burst", "1600", "latency", "1s"]),
        ):
            try:
                self._in_outer(
                    ["tc", "qdisc", "replace", "dev", f"v-{host}", "root", *what],
                    stderr=subprocess.DEVNULL,
                )
            except subprocess.CalledProcessError:
                continue
            done.append(kind)
            break
        return done

    def fast(self, host: str) -> None:
        """Undo ``slow``."""
        directory = self.plan.cgroup("cpu", host)
        if directory:
            cgroups.limit_cpu(directory, None)
        self._in_outer(["tc", "qdisc", "del", "dev", f"v-{host}", "root"])
        self._broken.pop(host, None)

    def limit_memory(self, host: str, megabytes: Optional[int]) -> None:
        """Let a host have this much memory: a process that wants more is killed by the kernel.

        Raises:
            RigError: this machine offers no control groups.
        """
        directory = self.plan.cgroup("memory", host)
        if directory is None:
            raise RigError("no memory control group can be had here")
        cgroups.limit_memory(directory, None if megabytes is None else megabytes << 20)
        if megabytes is None:
            self._broken.pop(host, None)
        else:
            self._broken[host] = "limited"

    def revive(self, host: str, *, wait: bool = True) -> None:
        """Boot a host anew, with empty storage, also one that lives; wait until Slurm has it back."""
        with contextlib.suppress(RigError):
            self.kill(host)
        with contextlib.suppress(subprocess.CalledProcessError):
            self._in_outer(["ip", "link", "del", f"v-{host}"], stderr=subprocess.DEVNULL)
        self._in_outer([*_PYTHON, "rig._host", self.directory, host])
        self._broken.pop(host, None)
        if wait and host != LOGIN:
            self.wait_state([host], "idle", UP_LIMIT_S)

    # Services.

    def stop_service(self, name: str, host: str = LOGIN, *, sudden: bool = False) -> None:
        """End a service and wait for its end; sudden: by KILL, slurmctld then forgets its last seconds."""
        self.exec(host, ["pkill", "-KILL" if sudden else "-TERM", "-x", name], check=True)
        self.wait_for(
            lambda: self.exec(host, ["pgrep", "-x", name]).returncode == 1, f"the end of {name}"
        )

    def start_service(self, name: str, host: str = LOGIN) -> None:
        """Start a service again."""
        argv = services(self.plan, host)[name]
        code = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 &'
        self.exec(host, ["sh", "-c", code, "sh", self.plan.log(host, name), *argv], check=True)

    # Looking.

    def states(self) -> dict[str, str]:
        """Return each node's state as Slurm says it: ``idle``, ``mix*``, ``down`` and so on."""
        done = self.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N %t"], timeout=30)
        if done.returncode:
            raise RigError(f"sinfo: {done.stderr.strip()}")
        return dict(line.split() for line in done.stdout.splitlines())

    def wait_state(self, hosts: Sequence[str], state: str, timeout: float = 60.0) -> None:
        """Wait until Slurm says that hosts are in a state."""
        last: dict[str, str] = {}

        def reached() -> bool:
            nonlocal last
            try:
                last = self.states()
            except RigError:
                return False
            return all(last.get(host) == state for host in hosts)

        try:
            self.wait_for(reached, "", timeout)
        except RigError:
            raise RigError(f"not {state} within {timeout:g} s: {last}") from None

    def wait_for(self, question: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
        """Ask until the answer is true; return it."""
        limit = time.monotonic() + timeout
        while not (answer := question()):
            if time.monotonic() > limit:
                raise RigError(f"waited {timeout:g} s in vain for {what}")
            time.sleep(0.05)
        return answer

    def log_tails(self, lines: int = 12) -> str:
        """Return the ends of all logs."""
        parts = []
        for name in sorted(os.listdir(self.plan.file("log"))):
            text = _text(self.plan.file("log", name)).splitlines()[-lines:]
            parts += [f"--- {name}", *text] if text else []
        return "\n".join(parts)


_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--")


def _salloc(
    nodes: int, argv: Sequence[StrPath], options: Sequence[str], no_kill: bool
) -> list[StrPath]:
    keep = ["--no-kill"] if no_kill else []
    return ["salloc", "--quiet", *keep, f"--nodes={nodes}", *options, *argv]


def _outer_of(said: str) -> int:
    """Return what the keeper says to be the outer init."""
    word, _, pid = said.partition(" ")
    if word != "up":
        raise RigError("the outer namespaces did not come up")
    return int(pid)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except FileNotFoundError:
        return ""


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _is_init(pid: int) -> bool:
    for line in _text(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1] == "1"
    return False
