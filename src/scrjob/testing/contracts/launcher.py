# SPDX-License-Identifier: BSD-3-Clause
"""What every job launcher must do."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, Protocol, Sequence

from scrjob.errors import CommandError, ScrError
from scrjob.testing.contracts import _observe as observe

HOSTILE_ARGUMENTS = (
    "two  words",
    "",
    "it's",
    'a "b"',
    "line\nbreak",
    "$HOME `id` *",
    "a:b",
    "-n",
    "ä\\n",
)
END_S = 30.0  # a short program has ended by then
KILL_S = 20.0  # TERM, grace, KILL and their deadlines
PROBE = """
import json, os, sys, uuid
name = os.path.join(sys.argv[1], uuid.uuid4().hex)
with open(name + ".part", "w", encoding="ascii") as file:
    json.dump({"argv": sys.argv[2:], "host": os.uname().nodename, "environ": dict(os.environ)}, file)
os.rename(name + ".part", name + ".json")
"""
LONG = """
import os, sys, time
open(f"{sys.argv[1]}.{os.uname().nodename}.{os.getpid()}", "w").close()
time.sleep(600)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + LONG


class JobLauncherWorld(Protocol):
    """An allocation of at least three nodes that share one directory with this process."""

    nodes: list[str]
    scratch: Path
    """An empty directory that every node sees under this name."""

    def launcher(self, **environ: str) -> Any:
        """Return the plugin, bound to the inside of the allocation with ``environ`` on top."""
        ...

    def args(self, program: Sequence[str], *, nodes: int) -> list[str]:
        """Return what follows the launcher's name to run one rank on each of so many nodes."""
        ...

    def node_of(self, record: Any) -> str:
        """Return the node on which a probe ran, given its "host" and "environ"."""
        ...


class JobLauncherContract:
    """Inherit it and supply the fixture ``world``.

    Capabilities: "signals" the number of the signal that ended a rank is told; "step_nodes" the
    launcher knows where ranks run; "nodes_wanted" it reads the user's own number of nodes.
    """

    capabilities: frozenset[str] = frozenset()

    def test_arguments_pass_byte_for_byte(self, world: JobLauncherWorld) -> None:
        (record,) = _probe(world, HOSTILE_ARGUMENTS)
        assert record["argv"] == list(HOSTILE_ARGUMENTS)

    def test_the_contexts_environment_is_the_programs(self, world: JobLauncherWorld) -> None:
        (record,) = _probe(world, SCR_CONTRACT_WORD="a b=c")
        assert record["environ"]["SCR_CONTRACT_WORD"] == "a b=c"

    def test_the_first_healthy_nodes_are_taken(self, world: JobLauncherWorld) -> None:
        order = world.nodes[::-1]
        records = _probe(world, count=2, nodes=order)
        assert {world.node_of(record) for record in records} == set(order[:2])

    def test_down_nodes_are_avoided(self, world: JobLauncherWorld) -> None:
        """Lesson A11: on every launch, also when they are named among the healthy ones by mistake."""
        down = world.nodes[0]
        records = _probe(world, count=len(world.nodes) - 1, down=[down])
        assert {world.node_of(record) for record in records} == set(world.nodes) - {down}

    def test_success_is_success(self, world: JobLauncherWorld) -> None:
        """Lesson A11: a step that has ended does not read as running."""
        launcher, process, _ = _start(world, "pass")
        assert launcher.wait_run(process, END_S) == (True, True)
        status = launcher.exit_status(process)
        assert status.success

    def test_the_programs_exit_code_is_told(self, world: JobLauncherWorld) -> None:
        launcher, process, _ = _start(world, "raise SystemExit(7)")
        assert launcher.wait_run(process, END_S) == (True, False)
        assert launcher.exit_status(process).code == 7

    def test_the_signal_is_told(self, world: JobLauncherWorld) -> None:
        launcher, process, _ = _start(world, "import os; os.kill(os.getpid(), 11)")
        assert launcher.wait_run(process, END_S) == (True, False)
        status = launcher.exit_status(process)
        assert not status.success
        if "signals" in self.capabilities:
            assert status.code == 128 + 11

    def test_waiting_leaves_the_step_alone(self, world: JobLauncherWorld) -> None:
        with _long_run(world) as (launcher, process, jobstep, marker):
            assert launcher.wait_run(process, 0.2) == (False, None)
            assert launcher.exit_status(process) is None
            assert observe.processes_with(marker)
            launcher.kill_run(jobstep)
            finished, success = launcher.wait_run(process, KILL_S)
            assert finished
            assert success is False

    def test_kill_ends_the_whole_step(self, world: JobLauncherWorld) -> None:
        with _long_run(world, STUBBORN, count=2) as (launcher, process, jobstep, marker):
            with observe.within(KILL_S, "ending a step whose ranks ignore TERM"):
                launcher.kill_run(jobstep)
            assert launcher.wait_run(process, KILL_S)[0]
            observe.eventually(lambda: not observe.processes_with(marker), "every rank is gone")

    def test_kill_again_or_too_late_is_no_error(self, world: JobLauncherWorld) -> None:
        launcher, process, jobstep = _start(world, "pass")
        assert launcher.wait_run(process, END_S)[0]
        launcher.kill_run(jobstep)
        launcher.kill_run(jobstep)
        assert launcher.exit_status(process).code == 0

    def test_what_is_no_step_is_not_ended(self, world: JobLauncherWorld) -> None:
        """Lesson A20: a name that is none is refused, and so are all where steps have no names."""
        try:
            world.launcher().end_step("no step")
        except ScrError:
            return
        raise AssertionError("end_step did not refuse it")

    def test_output_is_live_and_the_users_own(self, world: JobLauncherWorld) -> None:
        code = "import sys, time; print('out', flush=True); sys.stderr.write('err\\n'); time.sleep(600)"
        with _redirected() as seen, _long_run(world, code, wait=False) as step:
            launcher, process, jobstep, _ = step
            observe.eventually(lambda: seen() == ("out\n", "err\n"), "output while it runs")
            assert launcher.exit_status(process) is None
            launcher.kill_run(jobstep)
            launcher.wait_run(process, KILL_S)

    def test_the_steps_nodes_are_told(self, world: JobLauncherWorld) -> None:
        with _long_run(world, count=2) as (launcher, process, jobstep, _):
            told = launcher.step_nodes(jobstep)
            launcher.kill_run(jobstep)
            launcher.wait_run(process, KILL_S)
        if "step_nodes" in self.capabilities:
            assert set(told) == set(world.nodes[:2])
        else:
            assert told is None, "a launcher that cannot tell says None"

    def test_the_users_number_of_nodes_is_told(self, world: JobLauncherWorld) -> None:
        wanted = world.launcher().nodes_wanted(world.args(["program"], nodes=2))
        assert wanted == (2 if "nodes_wanted" in self.capabilities else None)

    def test_a_missing_program_is_no_success(self, world: JobLauncherWorld) -> None:
        launcher = world.launcher()
        try:
            process, _ = launcher.launch_run(
                world.args(["no-such-program-anywhere"], nodes=1), world.nodes, []
            )
        except CommandError:
            return
        assert launcher.wait_run(process, END_S) == (True, False)

    def test_nothing_is_left_here(self, world: JobLauncherWorld) -> None:
        _probe(world)  # whatever the launcher keeps open, it has now
        with observe.untouched(), observe.nothing_left():
            _probe(world)


def _probe(
    world: JobLauncherWorld,
    arguments: Sequence[str] = (),
    *,
    count: int = 1,
    nodes: Sequence[str] = (),
    down: Sequence[str] = (),
    **environ: str,
) -> list[Any]:
    """Run one rank on each of ``count`` nodes and return what each wrote down about itself."""
    place = tempfile.mkdtemp(dir=world.scratch)
    program = [sys.executable, "-c", PROBE, place, *arguments]
    launcher = world.launcher(**environ)
    args = world.args(program, nodes=count)
    process, _ = launcher.launch_run(args, list(nodes) or world.nodes, list(down))
    assert launcher.wait_run(process, END_S) == (True, True)
    records = [json.loads(path.read_text("ascii")) for path in Path(place).glob("*.json")]
    assert len(records) == count
    return records


def _start(world: JobLauncherWorld, code: str) -> tuple[Any, Any, Any]:
    launcher = world.launcher()
    args = world.args([sys.executable, "-c", code], nodes=1)
    process, jobstep = launcher.launch_run(args, world.nodes, [])
    return launcher, process, jobstep


@contextlib.contextmanager
def _long_run(
    world: JobLauncherWorld, code: str = LONG, *, count: int = 1, wait: bool = True
) -> Iterator[tuple[Any, Any, Any, str]]:
    """Yield a step that runs: (launcher, process, jobstep, marker); whatever is left of it is killed."""
    marker = f"scrjob-{uuid.uuid4().hex}"
    launcher = world.launcher()
    args = world.args([sys.executable, "-c", code, str(world.scratch / marker)], nodes=count)
    process, jobstep = launcher.launch_run(args, world.nodes, [])
    try:
        if wait:
            every_rank = f"{marker}.*"
            observe.eventually(
                lambda: len(list(world.scratch.glob(every_rank))) == count, "every rank has begun"
            )
        yield launcher, process, jobstep, marker
    finally:
        for pid in observe.processes_with(marker):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        launcher.wait_run(process, KILL_S)


@contextlib.contextmanager
def _redirected() -> Iterator[Callable[[], tuple[str, str]]]:
    """Point this process's stdout and stderr at files; yields what reads both."""
    with tempfile.TemporaryDirectory(prefix="scrjob-contract-") as place:
        paths = [Path(place, "out"), Path(place, "err")]
        saved = [os.dup(1), os.dup(2)]
        try:
            for number, path in zip((1, 2), paths):
                with path.open("wb") as file:
                    os.dup2(file.fileno(), number)
            yield lambda: (paths[0].read_text(), paths[1].read_text())
        finally:
            for number, copy in zip((1, 2), saved):
                os.dup2(copy, number)
                os.close(copy)
