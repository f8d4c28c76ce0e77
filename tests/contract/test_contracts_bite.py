# SPDX-License-Identifier: BSD-3-Clause
"""The contracts are tested too: a plugin with one fault fails exactly the tests about that fault."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from scrjob._context import system_context
from scrjob.errors import CommandError, CommandNotFoundError, OutputParseError
from scrjob.remoteexec import RemoteExecResult
from scrjob.testing.contracts import (
    JobLauncherContract,
    NodeTestContract,
    RemoteExecContract,
    ResourceManagerContract,
)
from scrjob_example.launcher import SiteLauncher
from scrjob_example.nodetest import SiteHealth
from scrjob_example.remoteexec import SiteExec
from scrjob_example.resmgr import SiteManager
from site_world import SiteWorld

pytestmark = pytest.mark.slow


class Suite(ResourceManagerContract):
    __test__ = False
    capabilities = frozenset({"down_nodes", "end_time", "cut_off", "tools"})


class LauncherSuite(JobLauncherContract):
    __test__ = False
    capabilities = frozenset({"signals", "nodes_wanted"})


class ExecSuite(RemoteExecContract):
    __test__ = False
    capabilities = frozenset({"dead_nodes"})


class HealthSuite(NodeTestContract):
    __test__ = False


def failing(suite: type, part: str, sabotaged: type, only: str = ".") -> set[str]:
    """Return the names of the suite's tests that a world with the sabotaged plugin fails."""
    failed = set()
    for name in sorted(n for n in dir(suite) if n.startswith("test_") and re.search(only, n)):
        with tempfile.TemporaryDirectory(prefix="scrjob-bite-") as place:
            world_class = type("World", (SiteWorld,), {part: sabotaged})
            try:
                getattr(suite(), name)(world_class(Path(place)))
            except Exception:  # noqa: BLE001 - any failure of the test is one
                failed.add(name)
    return failed


NOT_SLOW = "^(?!.*(hanging|dead_node_delays|much|kill))"  # for faults that those cannot meet


# --- resource managers ---


class EmptyOnError(SiteManager):
    def down_nodes(self) -> Any:
        try:
            return super().down_nodes()
        except (CommandError, OutputParseError):
            return {}


class LosesPadding(SiteManager):
    def job_nodes(self) -> Any:
        return [node.replace("08", "8") for node in super().job_nodes()]


class SortsNodes(SiteManager):
    def job_nodes(self) -> Any:
        return sorted(super().job_nodes())


class DropsDownNodes(SiteManager):
    def job_nodes(self) -> Any:
        return [node for node in super().job_nodes() if node not in self.down_nodes()]


class TimeLeft(SiteManager):
    def end_time(self) -> int:
        return super().end_time() - int(time.time())


class DetectsEverything(SiteManager):
    @classmethod
    def detect(cls, environ: Any) -> Any:
        return "always here"


class DetectionWrites(SiteManager):
    @classmethod
    def detect(cls, environ: Any) -> Any:
        reason = super().detect(environ)
        if reason:
            environ["SITE_SEEN"] = "1"
        return reason


class KeepsItsList(SiteManager):
    def job_nodes(self) -> Any:
        if not hasattr(self, "_kept"):
            self._kept = super().job_nodes()
        return self._kept


class ManyLines(SiteManager):
    def down_nodes(self) -> Any:
        return {node: f"{reason}\nsee the log" for node, reason in super().down_nodes().items()}


class WritesEnvironment(SiteManager):
    def prerun(self) -> None:
        os.environ["SITE_PRERUN"] = "done"


class LeavesFile(SiteManager):
    def end_time(self) -> int:
        self.open = [*getattr(self, "open", []), open(os.devnull)]  # noqa: SIM115
        return super().end_time()


class WrongError(SiteManager):
    def down_nodes(self) -> Any:
        try:
            return super().down_nodes()
        except CommandNotFoundError as error:
            raise OutputParseError("sitectl", "", "nothing") from error


class IdFromAir(SiteManager):
    def job_id(self) -> Any:
        return super().job_id() or "defjobid"


MANAGERS = [
    (
        EmptyOnError,
        {
            "test_a_failed_query_raises",
            "test_a_missing_tool_is_told",
            "test_a_hanging_tool_is_told",
            "test_a_failing_tool_is_told",
            "test_a_silent_tool_is_told",
            "test_garbage_is_told",
        },
    ),
    (
        LosesPadding,
        {
            "test_nodes_come_in_the_managers_order",
            "test_a_dead_node_is_down_with_a_reason",
            "test_an_answer_belongs_to_the_caller",
        },
    ),
    (
        SortsNodes,
        {
            "test_nodes_come_in_the_managers_order",
            "test_a_dead_node_is_down_with_a_reason",
            "test_an_answer_belongs_to_the_caller",
        },
    ),
    (DropsDownNodes, {"test_a_dead_node_is_down_with_a_reason"}),
    (TimeLeft, {"test_end_time_is_absolute_or_none_or_unknown"}),
    (DetectsEverything, {"test_detects_its_own_environment_only"}),
    (DetectionWrites, {"test_detects_its_own_environment_only"}),
    (KeepsItsList, {"test_an_answer_belongs_to_the_caller"}),
    (ManyLines, {"test_a_dead_node_is_down_with_a_reason"}),
    (WritesEnvironment, {"test_queries_change_nothing_here"}),
    (LeavesFile, {"test_queries_change_nothing_here"}),
    (WrongError, {"test_a_missing_tool_is_told"}),
    (IdFromAir, {"test_outside_there_is_neither_job_nor_node"}),
]


@pytest.mark.parametrize(
    ("sabotaged", "expected"), MANAGERS, ids=lambda v: getattr(v, "__name__", "")
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_resource_manager_contract_bites(sabotaged: type, expected: set[str]) -> None:
    only = "." if sabotaged is EmptyOnError else NOT_SLOW
    environ = dict(os.environ)
    try:
        assert failing(Suite, "manager_class", sabotaged, only) == expected
    finally:
        os.environ.clear()
        os.environ.update(environ)


def test_a_manager_that_does_not_know_the_end_must_say_so() -> None:
    class NoEnd(Suite):
        __test__ = False
        capabilities = Suite.capabilities - {"end_time"}

    assert failing(NoEnd, "manager_class", SiteManager, NOT_SLOW) == {
        "test_end_time_is_absolute_or_none_or_unknown"
    }


# --- launchers ---


class ThroughShell(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        words = [*args[:2], "sh", "-c", " ".join(args[2:])]
        return super().launch_run(words, nodes, down_nodes)


class IgnoresDown(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        return super().launch_run(args, nodes, [])


class OwnOrder(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        return super().launch_run(args, sorted(nodes), down_nodes)


class OwnEnvironment(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        kept = {k: v for k, v in self.context.environ.items() if not k.startswith("SCR_")}
        self.bind(system_context(kept))
        return super().launch_run(args, nodes, down_nodes)


class AlwaysFine(SiteLauncher):
    def wait_run(self, proc: Any = None, timeout: Any = None) -> Any:
        finished, success = super().wait_run(proc, timeout)
        return finished, True if finished else success


class KillsOnTimeout(SiteLauncher):
    def wait_run(self, proc: Any = None, timeout: Any = None) -> Any:
        answer = super().wait_run(proc, timeout)
        if not answer[0]:
            self.kill_run(proc)
        return answer


class KillsOnlyTheLauncher(SiteLauncher):
    def kill_run(self, jobstep: Any = None) -> None:
        with contextlib.suppress(ProcessLookupError):
            jobstep.kill()


class KillTwiceRaises(SiteLauncher):
    def kill_run(self, jobstep: Any = None) -> None:
        os.killpg(jobstep.pid, 9)


class EndsAnything(SiteLauncher):
    def end_step(self, step_id: str) -> bool:
        return True


class SwallowsOutput(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        return super().launch_run(
            [*args[:2], "sh", "-c", '"$@" >/dev/null', "-", *args[2:]], nodes, down_nodes
        )


class InventsNodes(SiteLauncher):
    def step_nodes(self, jobstep: Any) -> Any:
        return ["n1"]


class ForgetsCount(SiteLauncher):
    def nodes_wanted(self, args: Any) -> Any:
        wanted = super().nodes_wanted(args)
        return None if args[2:] == ["program"] else wanted


class LeaksDescriptor(SiteLauncher):
    def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
        self.leak = os.open(os.devnull, os.O_RDONLY)
        return super().launch_run(args, nodes, down_nodes)


LAUNCHERS = [
    (IgnoresDown, "nodes", {"test_down_nodes_are_avoided"}),
    (OwnOrder, "nodes", {"test_the_first_healthy_nodes_are_taken"}),
    (OwnEnvironment, "environment", {"test_the_contexts_environment_is_the_programs"}),
    (
        AlwaysFine,
        NOT_SLOW,
        {
            "test_the_programs_exit_code_is_told",
            "test_the_signal_is_told",
            "test_waiting_leaves_the_step_alone",
            "test_a_missing_program_is_no_success",
        },
    ),
    (KillsOnTimeout, "waiting", {"test_waiting_leaves_the_step_alone"}),
    (KillsOnlyTheLauncher, "kill", {"test_kill_ends_the_whole_step"}),
    (KillTwiceRaises, "kill", {"test_kill_again_or_too_late_is_no_error"}),
    (EndsAnything, "step", {"test_what_is_no_step_is_not_ended"}),
    (SwallowsOutput, "output", {"test_output_is_live_and_the_users_own"}),
    (InventsNodes, "nodes", {"test_the_steps_nodes_are_told"}),
    (ForgetsCount, "number", {"test_the_users_number_of_nodes_is_told"}),
    (LeaksDescriptor, "left", {"test_nothing_is_left_here"}),
]


@pytest.mark.parametrize(
    ("sabotaged", "only", "expected"), LAUNCHERS, ids=lambda v: getattr(v, "__name__", "")
)
def test_launcher_contract_bites(sabotaged: type, only: str, expected: set[str]) -> None:
    assert failing(LauncherSuite, "launcher_class", sabotaged, only) == expected


def test_a_launcher_that_goes_through_a_shell_is_found() -> None:
    assert "test_arguments_pass_byte_for_byte" in failing(
        LauncherSuite, "launcher_class", ThroughShell, "arguments"
    )


# --- remote execution ---


class RunsHere(SiteExec):
    """Lesson A2: the command runs on this host, once for each node, and all look healthy."""

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            answer = self.context.runner.run(argv, timeout_s=self.timeout_s)
            result.append_stdout(node, answer.stdout)
            result.set_rc(node, answer.returncode)
        return result


class OneAfterTheOther(SiteExec):
    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        result = RemoteExecResult(argv, nodes)
        slow = self.bounded(self.timeout_s * 4)
        for node in nodes:
            one = SiteExec.rexec(slow, argv, [node], jobenv)
            result.append_stdout(node, one.stdout(node))
            result.append_stderr(node, one.stderr(node))
            if one.rc(node) is None:
                result.set_failure(node, one.failure(node))
            else:
                result.set_rc(node, one.rc(node))
        return result


class Changed(SiteExec):
    """Passes a result on through a filter."""

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        result = super().rexec(argv, nodes, jobenv)
        for node in nodes:
            self.change(result, node)
        return result

    def change(self, result: Any, node: str) -> None:
        raise NotImplementedError


class SilenceIsZero(Changed):
    def change(self, result: Any, node: str) -> None:
        if result.rc(node) is None:
            result.set_rc(node, 0)


class StreamsTogether(Changed):
    def change(self, result: Any, node: str) -> None:
        result.append_stdout(node, result.stderr(node))


class CutsOutput(Changed):
    def change(self, result: Any, node: str) -> None:
        result._out[node] = [result.stdout(node)[:65536]]


class ReplacesBytes(Changed):
    def change(self, result: Any, node: str) -> None:
        raw = result.stdout(node).encode("utf-8", "surrogateescape")
        result._out[node] = [raw.decode("utf-8", "replace")]


class NegativeCodes(Changed):
    def change(self, result: Any, node: str) -> None:
        if (result.rc(node) or 0) > 128:
            result.set_rc(node, 128 - result.rc(node))


class AcceptsDuplicates(SiteExec):
    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        return super().rexec(argv, list(dict.fromkeys(nodes)), jobenv)


class SplitsWords(SiteExec):
    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        words = [w for a in argv for w in (a.split(" ") if "  " in a else [a])]
        return super().rexec(words, nodes, jobenv)


class UsersInput(SiteExec):
    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        fed = ["sh", "-c", '{ echo y; } | "$@"', "-", *argv] if argv == ["cat"] else argv
        return super().rexec(fed, nodes, jobenv)


class LeaksChild(SiteExec):
    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        children.append(subprocess.Popen(["true"]))
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, children[-1].pid, os.WEXITED | os.WNOWAIT)
        return super().rexec(argv, nodes, jobenv)


class AlwaysAvailable(SiteExec):
    @classmethod
    def available(cls, context: Any) -> Any:
        return None


class ForgetsTheHanging(SiteExec):
    """Gives up in time but lets the command run on."""

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> Any:
        if len(argv) < 2 or "sleep(600)" not in argv[2]:
            return super().rexec(argv, nodes, jobenv)
        children.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        # Early in an exec the kernel shows no arguments: gone on only once the program runs.
        assert children[-1].stdout is not None
        children[-1].stdout.readline()
        result = RemoteExecResult(argv, nodes)
        result.set_failure(nodes[0], "no answer")
        return result


children: list[subprocess.Popen[bytes]] = []

EXECS: list[tuple[type, str, set[str]]] = [
    (RunsHere, "really", {"test_it_really_runs_on_the_node"}),
    (RunsHere, "stranger", {"test_a_stranger_is_never_healthy"}),
    (OneAfterTheOther, "dead", {"test_a_dead_node_delays_nobody"}),
    (
        SilenceIsZero,
        ".",
        {
            "test_a_hanging_command_is_cut_off",
            "test_a_dead_node_delays_nobody",
        },
    ),
    (StreamsTogether, NOT_SLOW, {"test_code_and_streams_are_kept_apart"}),
    (CutsOutput, "^(?!.*(hanging|delays))", {"test_much_output_passes"}),
    (ReplacesBytes, NOT_SLOW, {"test_bytes_that_are_no_text_pass"}),
    (NegativeCodes, "signal", {"test_a_signal_is_128_and_its_number"}),
    (AcceptsDuplicates, NOT_SLOW, {"test_duplicates_are_refused"}),
    (SplitsWords, "arguments", {"test_arguments_pass_byte_for_byte"}),
    (UsersInput, "input", {"test_the_command_gets_no_input"}),
    (LeaksChild, "left", {"test_nothing_is_left_here"}),
    (AlwaysAvailable, NOT_SLOW, {"test_says_whether_it_is_available"}),
    (ForgetsTheHanging, "hanging", {"test_a_hanging_command_is_cut_off"}),
]


@pytest.mark.parametrize(
    ("sabotaged", "only", "expected"), EXECS, ids=lambda v: getattr(v, "__name__", "")
)
def test_remote_execution_contract_bites(sabotaged: type, only: str, expected: set[str]) -> None:
    try:
        assert failing(ExecSuite, "rexec_class", sabotaged, only) == expected
    finally:
        for child in children:
            child.kill()
            child.communicate()
        children.clear()


# --- node tests ---


class BlamesStrangers(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        return super().execute(["n08", *(n for n in nodes if n != "n08")], jobenv)


class BlamesAll(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        return dict.fromkeys(nodes, "looks odd")


class SeesNothing(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        return {}


class Wordless(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        return dict.fromkeys(super().execute(nodes, jobenv), "")


class Forgets(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        self.seen: set[str] = getattr(self, "seen", set())
        failed = {n: r for n, r in super().execute(nodes, jobenv).items() if n not in self.seen}
        self.seen.update(failed)
        return failed


class EatsTheList(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        failed = super().execute(nodes, jobenv)
        nodes.clear()
        return failed


class NeedsNodes(SiteHealth):
    def execute(self, nodes: Any, jobenv: Any) -> Any:
        return super().execute([nodes[0], *nodes[1:]], jobenv)


SICK = {
    "test_a_sick_node_fails_with_one_line",
    "test_all_may_fail",
}
TESTS = [
    (BlamesStrangers, {"test_only_given_nodes_fail"}),
    (
        BlamesAll,
        {
            "test_healthy_nodes_pass",
            "test_a_sick_node_fails_with_one_line",
            "test_only_given_nodes_fail",
        },
    ),
    (SeesNothing, SICK),
    (Wordless, {"test_a_sick_node_fails_with_one_line"}),
    (Forgets, {"test_the_same_verdict_twice"}),
    (NeedsNodes, {"test_no_nodes_no_verdict"}),
]


@pytest.mark.parametrize(("sabotaged", "expected"), TESTS, ids=lambda v: getattr(v, "__name__", ""))
def test_node_test_contract_bites(sabotaged: type, expected: set[str]) -> None:
    assert failing(HealthSuite, "test_class", sabotaged) == expected


def test_a_node_test_that_changes_its_list_is_found() -> None:
    assert "test_nothing_changes_here" in failing(HealthSuite, "test_class", EatsTheList)
