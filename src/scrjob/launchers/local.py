# SPDX-License-Identifier: BSD-3-Clause
"""Job steps on the virtual nodes of ``scr_local alloc``.

``scr_run local [-N NODES] [-n RANKS] [--mpi=auto|mpich|none] PROGRAM [ARGUMENT...]``
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence

from scrjob.errors import CommandError, NotInAllocationError, ScrError, UsageError
from scrjob.launchers.joblauncher import TERM_GRACE_S, JobLauncher
from scrjob.localrm import _start, directory, steps
from scrjob.localrm.client import Allocation
from scrjob.model import NodeName

if TYPE_CHECKING:
    from scrjob.protocols import Process

MPI_KINDS = ("auto", "mpich", "none")
MPI_ASK_LIMIT_S = 10.0
_PYTHON = re.compile(r"python[0-9.]*\Z")
_ASK_MPI4PY = "import importlib.util as u, sys; sys.exit(u.find_spec('mpi4py') is None)"


class Wish(NamedTuple):
    """The user's own arguments, understood."""

    nodes: Optional[int]
    ranks: Optional[int]
    mpi: str
    program: list[str]


def parse(args: Sequence[str]) -> Wish:
    """Return what the arguments after the launcher's name ask for.

    Raises:
        UsageError: an option is unknown or not a number, or the program is missing.
    """
    numbers: dict[str, int] = {}
    mpi = "auto"
    rest = list(args)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        option, value = _split(word, rest)
        if option == "--mpi":
            if value not in MPI_KINDS:
                raise UsageError(f"--mpi={value}: expected one of {', '.join(MPI_KINDS)}")
            mpi = value
        elif not value.isascii() or not value.isdigit() or int(value) < 1:
            raise UsageError(f"{option} {value}: expected a number from 1")
        else:
            numbers[option] = int(value)
    if not rest:
        raise UsageError("launcher local: no program given")
    nodes, ranks = numbers.get("-N"), numbers.get("-n")
    if nodes and ranks and ranks < nodes:
        raise UsageError(f"launcher local: {ranks} ranks (-n) are too few for {nodes} nodes (-N)")
    return Wish(nodes, ranks, mpi, rest)


_LONG = {"--nodes": "-N", "--ranks": "-n", "--mpi": "--mpi"}


def _split(word: str, rest: list[str]) -> tuple[str, str]:
    """Return the option and its value, which may be the next word."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        option = _LONG.get(name)
    else:
        option, equals, value = word[:2], word[2:], word[2:].lstrip("=")
    if option not in ("-N", "-n", "--mpi"):
        raise UsageError(f"launcher local: unknown option {word}; known: -N, -n, --mpi")
    if equals:
        return option, value
    if not rest:
        raise UsageError(f"launcher local: {word} needs a value")
    return option, rest.pop(0)


class LocalLauncher(JobLauncher):
    """Starts steps through MPICH's mpiexec (that of the mpi extra, or on PATH), or directly."""

    def __init__(self, launcher: str = "local") -> None:
        super().__init__(launcher)

    def nodes_wanted(self, args: Sequence[str]) -> Optional[int]:
        """Return the number after -N, None without it."""
        return parse(args).nodes

    def launch_run(
        self,
        args: Sequence[str],
        nodes: Optional[Sequence[str]] = None,
        down_nodes: Optional[Sequence[str]] = None,
    ) -> tuple[Process, str]:
        """Start a step on the first of ``nodes``; see the base class.

        Returns:
            (process, step): the process ends with the exit code of the first rank that failed
            (128+N for signal N; 137 if a node died); the step is its directory.

        Raises:
            UsageError: the arguments are wrong or ask for more nodes than there are.
            NotInAllocationError: no allocation of ``scr_local alloc``.
            CommandError: it could not be started.
        """
        wish = parse(args)
        allocation = self._allocation()
        avoided = set(down_nodes or ())
        candidates = list(allocation.info.nodes if nodes is None else nodes)
        usable = [node for node in candidates if node not in avoided]
        ranks = wish.ranks or wish.nodes or len(usable)
        count = wish.nodes or min(ranks, len(usable))
        if not 0 < count <= len(usable):
            raise UsageError(f"launcher local: {count} nodes wanted, {len(usable)} can be used")
        if count > ranks:
            raise UsageError(f"launcher local: {ranks} ranks are too few for {count} nodes")
        mpiexec = None if wish.mpi == "none" else self._mpiexec()
        if wish.mpi == "mpich" and mpiexec is None:
            raise UsageError(
                "--mpi=mpich: no mpiexec beside this Python or on PATH; pip install 'scrjob[mpi]'"
            )
        self._check_visible(allocation, wish.program)
        program = wish.program if mpiexec is None else self._abort_together(wish.program)
        plan = steps.Plan(steps.place(ranks, usable[:count]), mpiexec, sys.executable)
        step = steps.create(allocation, plan, program)
        steps.record_job(step, self._job())
        proc = self.context.runner.start(
            _start.command(sys.executable, "step", step), env=self.context.environ
        )
        return proc, step

    def kill_run(self, jobstep: Any = None) -> None:
        """End the whole step on all nodes, stopped ones included; again or too late is no error."""
        if not jobstep:
            return
        try:
            allocation = self._allocation()
        except NotInAllocationError:
            return  # it has ended, and its steps with it
        steps.kill(allocation, jobstep, grace_s=TERM_GRACE_S, clock=self.context.clock)

    def end_step(self, step_id: str) -> bool:
        """End the step ``JOBID.STEP``, from inside of its allocation or outside; see the base class."""
        job, _, number = step_id.partition(".")
        if not all(word.isascii() and word.isdigit() for word in (job, number)):
            raise UsageError(f"{step_id!r} is no step: expected JOBID.STEP, two numbers")
        allocation = Allocation.of_job(job, self.context.environ, self.context.clock)
        step = steps.find(allocation, step_id)
        if not (steps.starter(step) or steps.keepers(step)):
            return False
        if not steps.kill(allocation, step, grace_s=TERM_GRACE_S, clock=self.context.clock):
            raise ScrError(f"step {step_id} was told to end, but processes of it are left")
        return True

    def step_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes whose ranks have reported so far."""
        return [NodeName(node) for node in dict.fromkeys(r.node for r in steps.ranks(jobstep))]

    def chosen_nodes(self, jobstep: Any) -> Optional[list[NodeName]]:
        """Return the nodes of the step's plan."""
        return [NodeName(node) for node, _ in steps.read_plan(jobstep).hosts]

    def rank_pids(self, jobstep: Any) -> dict[NodeName, list[int]]:
        """Return the ranks' process ids, as their nodes count, of those that have not ended."""
        found: dict[NodeName, list[int]] = {}
        if steps.starter(jobstep) is None:
            return found
        for rank in steps.ranks(jobstep):
            if rank.status is None:
                found.setdefault(NodeName(rank.node), []).append(rank.pid)
        return found

    def outside_pids(self, jobstep: Any) -> dict[NodeName, list[int]]:
        """Return the same processes as this machine counts them, those of stopped nodes too."""
        where = {rank.rank: rank.node for rank in steps.ranks(jobstep)}
        found: dict[NodeName, list[int]] = {}
        for rank, pid in steps.rank_processes(self._allocation(), jobstep).items():
            found.setdefault(NodeName(where[rank]), []).append(pid)
        return found

    def step_record(self, jobstep: Any) -> str:
        """Return ``JOBID.STEP``."""
        return steps.name(jobstep)

    def end_orphan(self, record: str) -> bool:
        """End the step that ``step_record`` named, "" for any of the job; True if one still ran."""
        try:
            allocation = self._allocation()
            found = (
                [steps.find(allocation, record)] if record else steps.of(allocation, self._job())
            )
        except NotInAllocationError:
            return False
        left = [step for step in found if steps.starter(step) or steps.keepers(step)]
        for step in left:
            steps.kill(allocation, step, grace_s=0.0, clock=self.context.clock)
        return bool(left)

    def _job(self) -> list[bytes]:
        """Return what tells steps of one job from those of others in the allocation."""
        environ = self.context.environ
        return [os.fsencode(environ.get(name, "")) for name in ("SCR_JOB_ID", "SCR_PREFIX")]

    def _allocation(self) -> Allocation:
        return Allocation.of_environment(self.context.environ, self.context.clock)

    def _mpiexec(self) -> Optional[str]:
        """Return MPICH's mpiexec: the one installed beside this Python, else one on PATH."""
        beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
        found = beside if os.access(beside, os.X_OK) else None
        found = found or shutil.which("mpiexec", path=self.context.environ.get("PATH"))
        if found is None:
            return None
        try:
            said = self.context.runner.run([found, "--version"], timeout_s=MPI_ASK_LIMIT_S)
        except CommandError:
            return None
        return found if "HYDRA" in said.stdout else None

    def _check_visible(self, allocation: Allocation, program: Sequence[str]) -> None:
        """Refuse a program, script or current directory that only this side sees.

        Raises:
            UsageError: it lies in the nodes' own storage; says what to do.
        """
        words = [os.getcwd()]
        if "/" in program[0]:
            words.append(program[0])
        if _PYTHON.match(os.path.basename(program[0])):
            words += [word for word in program[1:2] if os.path.isfile(word)]
        info = allocation.info
        for word in words:
            hides = directory.hidden_by(os.path.realpath(word), info.storage, info.shared)
            if hides and os.path.exists(word):
                raise UsageError(
                    f"{word}: the nodes cannot see it, for {hides} is their own storage; "
                    "give its directory to scr_local alloc with --share"
                )

    def _abort_together(self, program: list[str]) -> list[str]:
        """Run a Python program under ``-m mpi4py`` where that is installed.

        An uncaught exception in one rank would leave the others waiting for it for ever; mpi4py's
        own runner turns it into MPI_Abort. Programs without MPI run the same under it.
        """
        if len(program) < 2 or not _PYTHON.match(os.path.basename(program[0])):  # noqa: PLR2004 - python, script
            return program
        python, first = program[:2]
        if first.startswith("-"):
            return program  # options of the interpreter: the user knows better
        return [python, "-m", "mpi4py", *program[1:]] if self._has_mpi4py(python) else program

    def _has_mpi4py(self, python: str) -> bool:
        environ = self.context.environ
        if shutil.which(python, path=environ.get("PATH")) == sys.executable:
            return importlib.util.find_spec("mpi4py") is not None
        try:
            answer = self.context.runner.run(
                [python, "-c", _ASK_MPI4PY], timeout_s=MPI_ASK_LIMIT_S, env=environ
            )
        except CommandError:
            return False
        return answer.returncode == 0
