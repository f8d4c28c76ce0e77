# SPDX-License-Identifier: BSD-3-Clause
"""A cluster that follows a script on a fake clock, to run the whole loop without a process."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, Union

from scrjob._context import RealContext
from scrjob.errors import CommandNotFoundError
from scrjob.formats import flush, halt, kvtree
from scrjob.formats.dataset import Descriptor, build
from scrjob.formats.index import Index
from scrjob.jobenv import JobEnv
from scrjob.launchers.joblauncher import JobLauncher
from scrjob.model import Cause, ExitStatus, NodeWatch, Said, StepMessage
from scrjob.nodetests import NodeTests
from scrjob.remoteexec import RemoteExec, RemoteExecResult
from scrjob.resmgrs import ResourceManager
from scrjob.supervisor.signals import SignalWatch
from scrjob.testing.fakes import FakeClock, FakeRunner, missing, said

SLOW_PING_S, SLOW_COMMAND_S = 1.5, 6.0


class Step(NamedTuple):
    """One launch: after ``seconds`` (None: never) it ends with ``code``; ``at`` maps seconds to deeds."""

    seconds: Optional[float] = 10.0
    code: int = 0
    at: Mapping[float, Callable[[Cluster], None]] = {}
    ends_on_halt: bool = False


class _Proc:
    def __init__(self, step: Step, began: float) -> None:
        self.step = step
        self.began = began
        self.done: set[float] = set()
        self.code: Optional[int] = None


class Cluster(ResourceManager):
    """Manager, launcher and remote execution of one scripted cluster."""

    poll_seconds = 0.5
    node_tests = ("echo",)

    def __init__(self, prefix: Path, nodes: Sequence[str], steps: Sequence[Step]) -> None:
        super().__init__("SCRIPTED")
        self.clock = FakeClock()
        self.prefix = prefix
        self.nodes = list(nodes)
        self.steps = list(steps)
        self.down: dict[str, str] = {}
        self.silent: set[str] = set()
        self.end = 0
        self.launches: list[Any] = []
        self.environs: list[Mapping[str, str]] = []
        self.kills = 0
        self.orphans: list[str] = []
        self.orphan_environs: list[Mapping[str, str]] = []
        self.uses_avoided = False
        self.signals = SignalWatch()
        self.own_storage = True
        self.failing: dict[str, Exception] = {}
        self.wanted: Optional[int] = None
        self.ends: Optional[tuple[Cause, str]] = None
        self.said: list[StepMessage] = []
        self.memory_kills = dict.fromkeys(nodes, 0)
        self.conditions_read = threading.Event()
        self.dark: set[str] = set()  # no answer to pings
        self.slow: set[str] = set()  # answer pings and commands late
        self.lose_pings = 0  # so many of the next pings, of any node
        self.unheard: dict[str, str] = {}  # what the manager calls silent
        self.manager_takes = 0.0
        self.late = 0.0  # what remote execution takes beyond its deadline
        self.hostname = "login1"
        self.abandoned: list[Sequence[str]] = []
        self.runner = Runner(self)

    # the resource manager
    def job_id(self) -> Any:
        return "42"

    def job_nodes(self) -> Any:
        return list(self.nodes)

    def down_nodes(self) -> Any:
        self.answer("down_nodes")
        return dict(self.down)

    def watch_nodes(self) -> Any:
        return NodeWatch(self.down_nodes(), dict(self.unheard))

    def end_time(self) -> int:
        self.answer("end_time")
        return self.end

    def ending(self) -> Optional[tuple[Cause, str]]:
        self.answer("ending")
        return self.ends

    def private_storage(self) -> bool:
        return self.own_storage

    def answer(self, question: str) -> None:
        """Raise what the script wants this question to fail with."""
        if question in self.failing:
            raise self.failing[question]

    # deeds of a script
    def kill_node(self, node: str) -> None:
        self.down[node] = "connection closed"
        self.silent.add(node)

    def say(self, said: Said, text: str, node: Optional[str] = None) -> None:
        """The launcher says something of the running step."""
        self.said.append(StepMessage(said, node, text, self.clock.now()))

    def run_out_of_memory(self, node: str) -> None:
        """The kernel kills a process on a node."""
        assert self.conditions_read.wait(5), "no counters were read after the launch"
        self.memory_kills[node] += 1

    def power_off(self, node: str) -> None:
        """It is dead, and nobody has noticed."""
        self.silent.add(node)
        self.dark.add(node)

    def dataset(self, number: int) -> None:
        """A checkpoint is complete now."""
        path = self.prefix / ".scr" / "flush.scr"
        tree = kvtree.read(str(path)) if path.exists() else kvtree.KVTree()
        about = Descriptor(
            number,
            f"ckpt.{number}",
            is_ckpt=True,
            created_us=int(self.clock.now() * 1e6),
            complete=True,
        )
        flush.put_dataset(tree, number, build(about))
        flush.add_location(tree, number, flush.PFS)
        kvtree.write(str(path), tree)

    def index(self, *numbers: int, current: int = 0) -> Path:
        """Checkpoints that are complete in the prefix."""
        path = self.prefix / ".scr" / "index.scr"
        index = Index()
        for number in numbers:
            name = f"ckpt.{number}"
            about = build(Descriptor(number, name, is_ckpt=True, created_us=number, complete=True))
            index.put_complete(number, name, about, complete=True, when="2026-01-01T00:00:00")
        if current:
            index.set_current(f"ckpt.{current}")
        index.write(str(path))
        return path

    def halt_with(self, value: Union[str, int], key: str = "ExitReason") -> None:
        path = str(self.prefix / ".scr" / "halt.scr")
        halt.update(path, lambda tree: halt.apply(tree, {key: value}))

    def halt_reason(self) -> Optional[str]:
        path = self.prefix / ".scr" / "halt.scr"
        return halt.conditions(halt.read(str(path))).reason if path.exists() else None

    def send(self, number: signal.Signals) -> None:
        self.signals._note(number, None)

    # the parts that a job works with
    def jobenv(self, **environ: str) -> JobEnv:
        settings = {"PATH": "/usr/bin:/bin", "USER": "alice", **environ}
        context = RealContext(settings, self.runner, self.clock, self.hostname)
        env = JobEnv(prefix=str(self.prefix), resmgr=self, launcher=Launcher(self), context=context)
        env.rexec = Exec(self)
        tests = NodeTests()
        tests.load(self.node_tests, context, None)
        env.nodetests = tests
        return env


class Runner(FakeRunner):
    """fping on the scripted cluster; what is asked beside the loop takes its time on the fake clock."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(self._say)
        self._cluster = cluster
        self._beside: list[tuple[float, Callable[[], None]]] = []
        self.pinged: list[list[str]] = []

    def beside(self, function: Callable[[], None], name: str) -> None:
        takes = self._takes(name)
        if takes:
            self._beside.append((self._cluster.clock.monotonic() + takes, function))
        else:
            function()

    def go_on(self, *, end: bool) -> None:
        """Answer what is due, at the end all that is out."""
        now = self._cluster.clock.monotonic()
        due = [entry for entry in self._beside if end or entry[0] <= now]
        self._beside = [entry for entry in self._beside if entry not in due]
        for _, function in due:
            function()

    def _takes(self, name: str) -> float:
        cluster = self._cluster
        silent = bool(cluster.silent)
        return {
            "heartbeat: pings": 0.5 if cluster.dark or cluster.slow else 0.02,
            "doubted nodes: pings": 3.0 if cluster.dark else 2.1 if cluster.slow else 0.6,
            "doubted nodes: command": cluster.late + (3.0 if silent or cluster.slow else 0.3),
            "heartbeat: command": 8.0 if silent else SLOW_COMMAND_S if cluster.slow else 0.3,
            "nodes, asked of the manager": cluster.manager_takes,
            "end of the allocation": cluster.manager_takes,
        }.get(name, 0.0)

    def _say(self, argv: Sequence[str]) -> Any:
        nodes = [f"n{i}" for i in range(1, len(self._cluster.nodes) + 1)]
        if "-c" in argv and "getaddrinfo" in argv[-1]:
            return said(argv, "".join(f"{node} 10.0.0.{node[1:]}\n" for node in nodes))
        if argv[0] != "fping":
            return missing(argv)
        if "fping" in self._cluster.failing:
            return self._cluster.failing["fping"]
        wait_s = float(argv[argv.index("-t") + 1]) / 1000
        lines = []
        targets = argv[argv.index("--") + 1 :]
        self.pinged.append([f"n{target.rpartition('.')[2]}" for target in targets])
        for target, node in zip(targets, self.pinged[-1]):
            late = node in self._cluster.slow and wait_s < SLOW_PING_S
            lost = self._cluster.lose_pings > 0 and wait_s <= 1
            self._cluster.lose_pings -= lost
            lines.append(
                f"{target} : {'-' if late or lost or node in self._cluster.dark else '0.1'}"
            )
        return said(argv, stderr="\n".join(lines))


class Exec(RemoteExec):
    """All commands succeed with what ``echo`` would say; silent nodes do not answer."""

    name = "scripted"
    knows_its_nodes = True

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    @classmethod
    def available(cls, context: Any) -> Optional[str]:
        return None

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
        self._cluster.answer("rexec")
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            late = node in self._cluster.slow and self.timeout_s < SLOW_COMMAND_S
            if late or node in self._cluster.silent:
                result.set_failure(node, f"no answer within {self.timeout_s:g} s")
            else:
                result.append_stdout(node, self._says(node, argv))
                result.set_rc(node, 0)
        if "condition" in argv:
            self._cluster.conditions_read.set()
        return result

    def _says(self, node: str, argv: Any) -> str:
        if "condition" in argv:
            return f"kills {self._cluster.memory_kills[node]} memory.events of /job_42\n"
        return str(argv[-1]) if argv[0] == "echo" else "[]"


class Launcher(JobLauncher):
    """Launches the next step of the script."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__("scripted")
        self._cluster = cluster

    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        cluster = self._cluster
        cluster.answer("launch_run")
        cluster.launches.append((list(args), nodes, down_nodes))
        cluster.environs.append(self.context.environ)
        if not cluster.steps:
            raise CommandNotFoundError(args, why="no such launcher")
        cluster.said.clear()
        cluster.conditions_read.clear()
        proc = _Proc(cluster.steps.pop(0), cluster.clock.monotonic())
        return proc, proc

    def messages(self, jobstep: Any) -> list[StepMessage]:
        return list(self._cluster.said)

    def wait_run(self, proc: Any = None, timeout: Optional[float] = None) -> Any:
        clock = self._cluster.clock
        if proc.code is None:
            clock.advance(proc.step.seconds if timeout is None else timeout)
            elapsed = clock.monotonic() - proc.began
            for when, deed in sorted(proc.step.at.items()):
                if when <= elapsed and when not in proc.done:
                    proc.done.add(when)
                    deed(self._cluster)
            if proc.step.seconds is not None and elapsed >= proc.step.seconds:
                proc.code = proc.step.code
            if proc.step.ends_on_halt and self._cluster.halt_reason():
                proc.code = 0
            self._cluster.runner.go_on(end=proc.code is not None)
        return (proc.code is not None, None if proc.code is None else proc.code == 0)

    def kill_run(self, jobstep: Any = None) -> None:
        self._cluster.kills += 1
        if jobstep.code is None:
            jobstep.code = -int(signal.SIGKILL)
        self._cluster.runner.go_on(end=True)

    def abandon_run(self, jobstep: Any, dead_nodes: Any) -> None:
        self._cluster.abandoned.append(list(dead_nodes))
        super().abandon_run(jobstep, dead_nodes)

    def exit_status(self, proc: Any) -> Optional[ExitStatus]:
        return None if proc.code is None else ExitStatus.from_returncode(proc.code)

    def step_nodes(self, jobstep: Any) -> Any:
        _, nodes, down = self._cluster.launches[-1]
        if self._cluster.uses_avoided:
            return nodes[:1] + down[:1]
        return nodes[: self._cluster.wanted] if self._cluster.wanted else None

    def nodes_wanted(self, args: Any) -> Optional[int]:
        return self._cluster.wanted

    def step_record(self, jobstep: Any) -> str:
        return "step-record"

    def end_orphan(self, record: str) -> bool:
        self._cluster.orphans.append(record)
        self._cluster.orphan_environs.append(self.context.environ)
        return True
