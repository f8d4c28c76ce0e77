# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution by steps of the Slurm allocation: no ssh, no other tool.

What Slurm does when a node of a step is bad, seen with 22.05 on a real cluster, and the answers here:

- A node that is down, or no part of the allocation (any more): the step is refused as a whole, at once, and
  nobody says for which node. The nodes of a refused step are asked again by some smaller steps, and those of
  the ones that are refused again, until each has a step of its own.
- A node that died, and Slurm does not know it yet: the others run at once; after 12 s srun gives up and *ends
  the whole step*, ``--no-kill`` or not. Nobody waits for that here, and before a command that may take so
  long a short step finds out which nodes are there, and only those get it.
- srun hands the start on through a tree of nodes if there are more than TreeWidth: a dead one in it cuts off
  those behind it for as long. So in a quick call the silent nodes are asked again, by steps without a tree.
  (Not all of them at the begin: a job may have only so many steps, see MaxStepCount in slurm.conf.)
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
from scrjob._slurm import tool_environ
from scrjob.errors import CommandError, ScrError
from scrjob.remoteexec import _steps, _wrapper
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult, not_on_path

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment
    from scrjob.remoteexec._gather import Call

    Lines = tuple[Sequence[str], Sequence[str]]

TREE_WIDTH = 16  # the smallest default of all versions: 50 until 23.02, 16 since
ASK_WIDTH_S = 5.0
SIDE_BY_SIDE = 32  # sruns at the same time
QUICK_S = 8.0  # below the 10 s or more after which srun ends a step with a dead node in it
LOOK_S = 4.0  # for the nodes to say that they are there ...
LOOK_A_SECOND = 1000  # ... and a second more for each so many: srun does not reach them all at once
SECOND_SHARE = (
    0.4  # of a quick call's time, after which silent nodes are asked by a step of their own
)
PATIENCE_S = 60.0  # with a controller or munge that is just being restarted
PAUSE_S = 1.0

_TREE_WIDTH = re.compile(r"^TreeWidth\s*=\s*([0-9]+)", re.MULTILINE)
_NODE_NAME = re.compile(r"[^\s,\[\]/]+")


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

        Where a step was refused before the command began, it is tried again with smaller ones. In a call
        of at most ``QUICK_S`` seconds a node that is slow to begin may run the command twice.

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
        is_quick = self.timeout_s <= QUICK_S
        if not is_quick:
            asked = self._look(result, asked, jobenv.context)
        self._rounds(result, asked, jobenv.context, deadline.left(), twice=is_quick)
        return result

    def _look(self, result: RemoteExecResult, nodes: Sequence[str], context: Context) -> list[str]:
        """Return the nodes that run a command now, and enter why the others do not."""
        patience = Deadline(context.clock, min(PATIENCE_S, self.timeout_s / 4))
        limit_s = min(LOOK_S + len(nodes) // LOOK_A_SECOND, self.timeout_s / 2)
        there = RemoteExecResult(["true"], nodes)
        while True:
            try:
                self._rounds(there, nodes, context, limit_s, twice=True)
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
        self,
        result: RemoteExecResult,
        nodes: Sequence[str],
        context: Context,
        limit_s: float,
        *,
        twice: bool,
    ) -> None:
        """Run the result's command by one step, then by ever smaller ones where that was refused.

        ``twice``: it may begin twice on a node that is slow. A long command, which goes to nodes that
        were there just before, must not.
        """
        deadline = Deadline(context.clock, limit_s)
        tree = self._tree_width(context) if twice and len(nodes) > TREE_WIDTH else None
        if tree is not None and len(nodes) <= tree:
            tree = None
        steps = Steps(result, context, self.lost)
        made = last = steps.run(_steps.in_arguments(nodes), limit_s, tree)
        size = len(nodes)
        while (refused := _refused(last)) and not deadline.passed():
            size = -(-min(size, len(refused)) // SIDE_BY_SIDE)
            last = steps.run(in_parts(refused, size), deadline.left(), tree)
            made = [*made, *last]
        problems = [step.problem for step in made if step.problem is not None]
        if problems and not any(step.made for step in made):
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
        refused: srun ended by itself, the controller was there, and fewer nodes may do better.
        silent: nodes on which the command did not begin, by this step or another.
        problem: why there was no step, if no node is to blame.
    """

    made: bool
    refused: bool
    silent: Sequence[str]
    problem: Optional[CommandError]


class Steps:
    """Steps side by side that run one command.

    Args:
        result: whose command it is, and where the answers go.
        context: the outside world.
        lost: names nodes that need not be waited for.
    """

    def __init__(
        self,
        result: RemoteExecResult,
        context: Context,
        lost: Optional[Callable[[], Collection[str]]],
    ) -> None:
        self._result = result
        self._context = context
        self._lost = lost

    def run(
        self, groups: Sequence[Sequence[str]], limit_s: float, tree: Optional[int]
    ) -> list[Step]:
        """Run one step for each group of nodes, and enter the answers.

        Args:
            groups: the nodes of each step.
            limit_s: seconds for all of it.
            tree: nodes that are silent after a part of the time are asked once more, by steps of at
                most so many; None: they are not.
        """
        from scrjob.remoteexec._gather import Call, gather  # noqa: PLC0415 - brings subprocess

        deadline = Deadline(self._context.clock, limit_s)
        argv = self._result.argv()
        calls = {Call(_steps.build_srun(group, argv, limit_s)): group for group in groups}

        def again() -> list[Call]:
            if tree is None or not any(_is_made(call) for call in calls):
                return []
            begun = _answers(calls)
            silent = [node for group in groups for node in group if node not in begun]
            more = {
                Call(_steps.build_srun(part, argv, deadline.left())): part
                for part in in_parts(silent, tree)
            }
            calls.update(more)
            return list(more)

        gather(
            list(calls),
            self._context,
            _steps.step_environ(self._context.environ),
            limit_s=limit_s + _wrapper.LATE_S,
            side_by_side=SIDE_BY_SIDE,
            given_up=(lambda call: self._waits_for_the_lost(call, calls)) if self._lost else None,
            later=(SECOND_SHARE * limit_s, again),
        )
        return self._enter(calls, limit_s)

    def _waits_for_the_lost(self, call: Call, calls: Mapping[Call, Sequence[str]]) -> bool:
        """Tell whether only lost nodes are missing: Slurm may take minutes to see that they are gone."""
        gone = set(self._lost() if self._lost else ()).intersection(calls[call])
        if not gone:
            return False
        answers = _answers(calls)
        return all(node in gone or _ended(answers.get(node)) for node in calls[call])

    def _enter(self, calls: Mapping[Call, Sequence[str]], limit_s: float) -> list[Step]:
        answers = _answers(calls)
        gone = set(self._lost() if self._lost else ())
        steps = []
        said: dict[str, str] = {}
        for call, group in calls.items():
            call.check_started()
            errors = _steps.parse_errors(call.lines()[1])
            for node in group:
                said[node] = said.get(node) or _steps.error_about(node, errors)
            made = _is_made(call)
            ended = call.ended is not None
            steps.append(
                Step(
                    made,
                    ended
                    and len(group) > 1
                    and not any(_steps.CONTROLLER in error for error in errors),
                    [node for node in group if node not in answers],
                    None if made else _steps.no_step(call.ended, errors, limit_s),
                )
            )
        said.update(dict.fromkeys(gone.intersection(said), _wrapper.LOST))
        for node, why in said.items():
            _wrapper.enter(self._result, node, answers.get(node, ((), ())), limit_s, why)
        return steps


def _refused(steps: Iterable[Step]) -> list[str]:
    """Return the nodes on which the command did not begin, but may begin by a smaller step."""
    return list(dict.fromkeys(node for step in steps if step.refused for node in step.silent))


def in_parts(nodes: Sequence[str], size: int) -> list[Sequence[str]]:
    """Return the nodes in groups of at most ``size``, in order."""
    return [nodes[at : at + size] for at in range(0, len(nodes), size)]


def _is_made(call: Call) -> bool:
    """Tell whether the controller has made the step of this call."""
    out, err = call.lines()
    return any(line.startswith(_steps.LAUNCHING) for line in err) or bool(
        _steps.parse_answers(out, err)
    )


def _answers(calls: Iterable[Call]) -> dict[str, Lines]:
    """Return what the nodes say, of two steps on a node what has come to its end."""
    found: dict[str, Lines] = {}
    for call in calls:
        for node, lines in _steps.parse_answers(*call.lines()).items():
            if not _ended(found.get(node)):
                found[node] = lines
    return found


def _ended(lines: Optional[Lines]) -> bool:
    return lines is not None and all(map(_wrapper.has_ended, lines))


def ask_tree_width(context: Context) -> int:
    """Return Slurm's TreeWidth, the smallest usual one if it does not tell."""
    argv = ["scontrol", "show", "config"]
    environ = tool_environ(context.environ)
    try:
        said = context.runner.run(argv, timeout_s=ASK_WIDTH_S, env=environ).check().stdout
    except ScrError:
        return TREE_WIDTH
    found = _TREE_WIDTH.search(said)
    return max(1, int(found[1])) if found else TREE_WIDTH
