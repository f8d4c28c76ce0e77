# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution by steps of the Slurm allocation: no ssh, no other tool.

What Slurm does when a node of a step is bad, seen with 22.05 on a real cluster, and the answers here:

- A node that is down, or no part of the allocation (any more): the step is refused as a whole, at once. The
  nodes of a refused step are asked again, each by a step of its own.
- A node that died, and Slurm does not know it yet: the others run at once; after 12 s srun gives up and *ends
  the whole step*, ``--no-kill`` or not. Nobody waits for that here, and before a command that may take so
  long a short step finds out which nodes are there, and only those get it.
- srun hands the start on through a tree of nodes if there are more than TreeWidth: a dead one in it cuts off
  those behind it for as long. No step here has more nodes than that.
- A killed srun leaves its step behind in the list; after TERM it ends the step, as soon as it has given up
  the dead node. So it is seen off in the background.

Steps overlap with all others and ask for no memory, device or binding of their own: they start beside a step
that uses everything, and do not disturb it.
"""

from __future__ import annotations

import re
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from scrjob._clock import Deadline
from scrjob.errors import CommandError, CommandTimeoutError, ScrError
from scrjob.remoteexec import _wrapper
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult, not_on_path

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment

TREE_WIDTH = 16  # the smallest default of all versions: 50 until 23.02, 16 since
ASK_WIDTH_S = 5.0
SIDE_BY_SIDE = 32  # sruns at the same time
QUICK_S = 8.0  # below the 10 s or more after which srun ends a step with a dead node in it
LOOK_S = 4.0  # for the nodes to say that they are there
PATIENCE_S = 60.0  # with a controller or munge that is just being restarted
PAUSE_S = 1.0
STEP_NAME = "scrjob-exec"

KEPT = ("SLURM_CLUSTERS", "SLURM_CONF", "SLURM_JOBID", "SLURM_JOB_ID", "SLURM_JWT")
"""Variables of Slurm that srun needs; all others are options of the user's own steps."""

_TREE_WIDTH = re.compile(r"^TreeWidth\s*=\s*([0-9]+)", re.MULTILINE)
_NODE_NAME = re.compile(r"[^\s,\[\]/]+")
LAUNCHING = "srun: launching "
ERROR = "srun: error: "
CONTROLLER = "slurm controller"  # cannot be contacted
NODE_FAULTS = (
    "Requested node configuration is not available",  # seen: down, or none of the allocation (any more)
    "Required node not available",
    "Requested nodes are busy",
    "Invalid node name specified",
)


class Srun(RemoteExec):
    """Runs a command as a step on each of the nodes."""

    name = "srun"
    knows_its_nodes = True

    def __init__(self) -> None:
        super().__init__()
        self._widths: list[int] = []  # TreeWidth once it was asked for; bounded copies share it

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None inside an allocation with srun on PATH, else the reason."""
        environ = context.environ
        if not (environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")):
            return "SLURM_JOB_ID is not set: this is no allocation of Slurm"
        return not_on_path("srun", context)

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` on each of ``nodes``; see the base class.

        Where a step was refused before the command began, it is tried once more with one node a step.

        Raises:
            UsageError: a node is named twice.
            CommandError: Slurm makes no steps at all now, which says nothing about any node.
        """
        _wrapper.refuse_duplicates(nodes)
        deadline = Deadline(jobenv.context.clock, self.timeout_s)
        result = RemoteExecResult(argv, nodes)
        asked = [node for node in nodes if _NODE_NAME.fullmatch(node)]
        for node in set(nodes).difference(asked):
            result.set_failure(node, f"{node!r} cannot be a node of Slurm")
        if self.timeout_s > QUICK_S:
            asked = self._look(result, asked, jobenv.context)
        self._rounds(result, asked, jobenv.context, deadline.left())
        return result

    def _look(self, result: RemoteExecResult, nodes: Sequence[str], context: Context) -> list[str]:
        """Return the nodes that run a command now, and enter why the others do not."""
        patience = Deadline(context.clock, min(PATIENCE_S, self.timeout_s / 4))
        there = RemoteExecResult(["true"], nodes)
        while True:
            try:
                self._rounds(there, nodes, context, LOOK_S)
                break
            except CommandError:
                if patience.passed():
                    raise
                context.clock.sleep(PAUSE_S)
        found = [node for node in nodes if there.rc(node) is not None]
        for node in set(nodes).difference(found):
            result.set_failure(node, there.failure(node) or "no answer")
        return found

    def _rounds(
        self, result: RemoteExecResult, nodes: Sequence[str], context: Context, limit_s: float
    ) -> None:
        """Run the result's command by steps of many nodes, then by single ones where those were refused."""
        deadline = Deadline(context.clock, limit_s)
        width = self._tree_width(context) if len(nodes) > TREE_WIDTH else TREE_WIDTH
        groups = [nodes[at : at + width] for at in range(0, len(nodes), width)]
        steps = run_steps(groups, result, context, limit_s, self.lost)
        if len(nodes) > 1 and not deadline.passed():
            singles = [[node] for step in steps if step.refused for node in step.silent]
            steps += run_steps(singles, result, context, deadline.left(), self.lost)
        problems = [step.problem for step in steps if step.problem is not None]
        if problems and not any(step.made for step in steps):
            raise problems[0]

    def _tree_width(self, context: Context) -> int:
        """Return the number of nodes that srun starts a step on by itself."""
        if not self._widths:
            self._widths.append(ask_tree_width(context))
        return self._widths[0]


class Step(NamedTuple):
    """What became of one step.

    Attributes:
        made: the controller made it.
        refused: srun ended by itself, and the controller was there.
        silent: nodes on which the command did not begin.
        problem: why there was no step, if no node is to blame.
    """

    made: bool
    refused: bool
    silent: Sequence[str]
    problem: Optional[CommandError]


def run_steps(
    groups: Sequence[Sequence[str]],
    result: RemoteExecResult,
    context: Context,
    limit_s: float,
    lost: Optional[Callable[[], Collection[str]]] = None,
) -> list[Step]:
    """Run the result's command in one step for each group of nodes, and enter the answers."""
    from scrjob.remoteexec._gather import Call, gather  # noqa: PLC0415 - brings subprocess

    calls = [Call(build_srun(group, result.argv(), limit_s)) for group in groups]
    group_of = dict(zip(calls, groups))

    def waits_for_the_lost(call: Call) -> bool:
        # Slurm may take minutes to see that a node is gone, and srun waits for it as long.
        gone = set(lost() if lost else ()).intersection(group_of[call])
        if not gone:
            return False
        answers = parse_answers(*call.lines())
        return all(
            node in gone or (node in answers and _wrapper.parse_stream(answers[node][0]).end)
            for node in group_of[call]
        )

    gather(
        calls,
        context,
        step_environ(context.environ),
        limit_s=limit_s + _wrapper.LATE_S,
        side_by_side=SIDE_BY_SIDE,
        given_up=waits_for_the_lost if lost else None,
    )
    gone = set(lost() if lost else ())
    steps = []
    for call, group in zip(calls, groups):
        call.check_started()
        out, err = call.lines()
        answers = parse_answers(out, err)
        errors = parse_errors(err)
        for node in group:
            lines = answers.get(node, ((), ()))
            said = "the node is lost" if node in gone else error_about(node, errors)
            _wrapper.enter(result, node, lines, limit_s, said)
        made = bool(answers) or any(line.startswith(LAUNCHING) for line in err)
        silent = [node for node in group if node not in answers]
        refused = call.ended is not None and not any(CONTROLLER in error for error in errors)
        problem = None if made else no_step(call.ended, errors, limit_s)
        steps.append(Step(made, refused, silent, problem))
    return steps


def build_srun(nodes: Sequence[str], argv: Sequence[str], limit_s: float) -> list[str]:
    """Return the srun call that runs ``argv`` once on each of ``nodes``, without shell or user's options.

    Source: srun(1) 22.05; ``--overlap`` came with 20.11.
    """
    count = len(nodes)
    return [
        "srun",
        "--verbose",  # tells when the step is made
        f"--job-name={STEP_NAME}",
        f"--nodes={count}",
        f"--ntasks={count}",
        "--ntasks-per-node=1",
        f"--nodelist={','.join(nodes)}",
        f"--immediate={_wrapper.whole_seconds(limit_s / 2)}",
        "--overlap",
        "--mem=0",
        "--gres=none",
        "--mpi=none",
        "--cpu-bind=none",
        "--input=none",
        "--label",
        "--no-kill",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--export=ALL",
        *_wrapper.node_argv(argv, limit_s),
    ]


def step_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for srun: what names the allocation, and no options of the user's steps."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT or not name.startswith(("SLURM_", "SRUN_"))
    }


def parse_answers(out: Iterable[str], err: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Return the lines of stdout and stderr of each node on which the command began.

    A task's lines begin with its number; where it runs it says itself.
    """
    outs, errs = _by_task(out), _by_task(err)
    answers = {}
    for task, lines in outs.items():
        node = _wrapper.parse_stream(lines).node
        if node:
            answers[node] = (lines, errs.get(task, []))
    return answers


def _by_task(lines: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        label, colon, rest = line.partition(": ")
        if colon and label.strip().isdecimal():
            found.setdefault(label.strip(), []).append(rest)
    return found


def parse_errors(err: Iterable[str]) -> list[str]:
    """Return srun's own errors."""
    return [line[len(ERROR) :] for line in err if line.startswith(ERROR)]


def error_about(node: str, errors: Sequence[str]) -> str:
    """Return the error that names ``node``, else the first, "" without any."""
    for error in errors:
        if f"node {node}:" in error or error.startswith(f"{node}:"):
            return error
    return errors[0] if errors else ""


def no_step(ended: Optional[int], errors: Sequence[str], limit_s: float) -> Optional[CommandError]:
    """Return why Slurm made no step, None if it refused one of the nodes."""
    said = "\n".join(errors)
    if ended is None:
        why = f"Slurm made no step within {round(limit_s, 1):g} s"
        return CommandTimeoutError(["srun"], stderr=said, seconds=limit_s, why=why)
    if any(words in said for words in NODE_FAULTS):
        return None
    return CommandError(["srun"], returncode=ended, stderr=said)


def ask_tree_width(context: Context) -> int:
    """Return Slurm's TreeWidth, the smallest usual one if it does not tell."""
    argv = ["scontrol", "show", "config"]
    try:
        said = context.runner.run(argv, timeout_s=ASK_WIDTH_S, env=context.environ).check().stdout
    except ScrError:
        return TREE_WIDTH
    found = _TREE_WIDTH.search(said)
    return max(1, int(found[1])) if found else TREE_WIDTH
