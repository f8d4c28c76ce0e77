# SPDX-License-Identifier: BSD-3-Clause
"""Bringing a rig up and down."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from . import _cgroups as cgroups
from . import _proc as proc
from ._files import write_all
from ._plan import HOME, Plan

StrPath = Union[str, "os.PathLike[str]"]

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
UP_LIMIT_S = 60.0
ENTER_ALL = ("--mount", "--uts", "--ipc", "--net", "--pid", "--")

_CODE = """\
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""
# Starts a module of this package quickly: no site-packages, nothing of the caller's settings.
PYTHON = (sys.executable, "-I", "-S", "-c", _CODE, os.path.dirname(HERE))

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("COVERAGE_", "TZ", "CI", "LANG", "LC_")
# Open MPI: one network; no copies across processes, which needs rights; more ranks than cores.
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


class BaseRig:
    """Hosts that can be brought up and down; see ``Rig``."""

    def __init__(
        self,
        directory: StrPath,
        nodes: int = 5,
        *,
        cpus: int = 4,
        storage_mb: int = 64,
        shared: Sequence[StrPath] = (),
        disks: Optional[Mapping[StrPath, int]] = None,
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
            disks={os.path.realpath(path): size for path, size in (disks or {}).items()},
            options=dict(options or {}),
        )
        self.touched = False
        kept = {name: text for name, text in os.environ.items() if name.startswith(_KEPT)}
        self.environ = {
            **kept,
            **_MPI,
            "PATH": f"{os.path.join(sys.prefix, 'bin')}:{_PATH}",
            "HOME": HOME,
            "PDSH_RCMD_TYPE": "ssh",
        }
        self._keeper: Optional[subprocess.Popen[str]] = None
        self.outer = 0
        self._inits: dict[str, int] = {}

    def up(self, *, stay: bool = False) -> BaseRig:
        """Bring the rig up; return when all nodes are idle.

        Args:
            stay: live on when this process ends.

        Raises:
            RigError: it did not come up; the message has the ends of the logs.
        """
        os.makedirs(self.directory, exist_ok=True)
        try:
            os.mkdir(self.plan.private, 0o700)
        except FileExistsError:
            raise RigError(f"there is a rig in {self.directory} already") from None
        name = f"scrjob-rig-{os.getpid()}-{time.monotonic_ns():x}"
        self.plan = dataclasses.replace(self.plan, cgroups=cgroups.make(name))
        write_all(self.plan, self.environ["PATH"])
        self.plan.save()
        with open(self.plan.log("outer", "keeper"), "wb") as log:
            self._keeper = subprocess.Popen(
                [*PYTHON, "rig._keeper", self.directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                cwd="/",
            )
        try:
            self.outer = _outer_of(self._keeper)
            state = [self.outer, proc.identity(self.outer)]
            with open(self.plan.file("state.json"), "w", encoding="ascii") as out:
                json.dump(state, out)
            self._wait_ready()
        except BaseException as error:
            logs = self.log_tails()
            self.down()
            if isinstance(error, RigError):
                raise RigError(f"{error}\n{logs}") from None
            raise
        if stay:
            self._keeper.stdin.write("s")
            self._keeper.stdin.close()
        self.touched = False
        return self

    def _wait_ready(self) -> None:
        raise NotImplementedError

    def down(self) -> None:
        """End everything; return when nothing is left."""
        if self.outer:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.outer, signal.SIGKILL)
        if self._keeper is not None:
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.close()
            self._keeper.stdout.close()
            self._keeper.wait(UP_LIMIT_S)
        elif self.outer:
            self.wait_for(lambda: not os.path.exists(self.plan.private), "the end of the rig")
        self._keeper = None
        self.outer = 0
        self._inits.clear()

    def renew(self) -> None:
        """Down and up again: new hosts, a new Slurm, the same directory."""
        self.down()
        self.up()

    def __enter__(self) -> Any:
        return self.up()

    def __exit__(self, *_: object) -> None:
        self.down()

    @classmethod
    def attach(cls, directory: StrPath) -> Any:
        """Return the rig that was brought up in a directory, by whomever.

        Raises:
            RigError: there is none, or it has ended; what an ended one left is removed.
        """
        rig = cls(directory)
        try:
            rig.plan = Plan.load(rig.directory)
            with open(rig.plan.file("state.json"), encoding="ascii") as source:
                outer, identity = json.load(source)
        except FileNotFoundError:
            raise RigError(f"there is no rig in {rig.directory}") from None
        if proc.identity(outer) != identity:
            shutil.rmtree(rig.plan.private)
            cgroups.remove(rig.plan.cgroups)
            raise RigError(f"the rig in {rig.directory} has ended; what it left is removed")
        rig.outer = outer
        return rig

    def outside(self, path: StrPath) -> str:
        """Return where the outside finds what is on one of the disks."""
        return f"/proc/{self.outer}/root{os.path.realpath(path)}"

    def init_of(self, host: str) -> int:
        """Return the process id, outside, of a host's init.

        Raises:
            RigError: the host is dead.
        """
        wanted = proc.text(self.plan.file("hosts.d", host))
        if wanted:
            for pid in (self._inits.get(host, 0), *proc.all_pids()):
                if proc.identity(pid) == wanted:
                    self._inits[host] = pid
                    return pid
        raise RigError(f"{host} is dead, or no host of this rig")

    def processes(self, host: str) -> list[int]:
        """Return the ids, outside, of all processes of a host; none when it is dead."""
        try:
            namespace = proc.namespace(self.init_of(host))
        except RigError:
            return []
        return [pid for pid in proc.all_pids() if proc.namespace(pid) == namespace]

    def in_outer(self, argv: Sequence[str], **options: Any) -> None:
        """Run a command outside the hosts, where the other ends of their cables are."""
        nsenter = ["nsenter", f"--target={self.outer}", *ENTER_ALL]
        subprocess.run([*nsenter, *argv], check=True, timeout=UP_LIMIT_S, **options)

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
        names = set(os.listdir(self.plan.file("log")))
        # Slurm's daemons write to stderr what is in their log, and more only when they cannot start.
        names -= {name[: -len(".log")] for name in names}
        for name in sorted(names):
            tail = proc.text(self.plan.file("log", name)).splitlines()[-lines:]
            parts += [f"--- {name}", *tail] if tail else []
        return "\n".join(parts)


def _outer_of(keeper: subprocess.Popen[str]) -> int:
    """Return the process id of the outer init, when the keeper tells that all hosts have booted."""
    readable, _, _ = select.select([keeper.stdout], [], [], UP_LIMIT_S)
    word, _, pid = (keeper.stdout.readline() if readable else "").partition(" ")
    if word != "up":
        raise RigError("the hosts did not boot")
    return int(pid)
