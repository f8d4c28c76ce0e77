# SPDX-License-Identifier: BSD-3-Clause
"""The contract of remote execution: one command on many nodes, an answer for each node."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Callable, Collection, Iterable, Optional, Sequence, TypeVar

from scrjob._plugins import Plugin
from scrjob.errors import NotSupportedError

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment

DEFAULT_TIMEOUT_S = 30.0

R = TypeVar("R", bound="RemoteExec")


class RemoteExecResult:
    """What one command said on each node.

    Args:
        argv: the command.
        nodes: the nodes it was meant for; each has exactly one entry, in this order.
    """

    def __init__(self, argv: Sequence[str], nodes: Iterable[str]) -> None:
        self._argv = list(argv)
        self._out: dict[str, list[str]] = {node: [] for node in nodes}
        self._err: dict[str, list[str]] = {node: [] for node in self._out}
        self._rc: dict[str, Optional[int]] = dict.fromkeys(self._out)
        self._failure: dict[str, str] = {}

    def argv(self) -> list[str]:
        """Return the command."""
        return list(self._argv)

    def nodes(self) -> list[str]:
        """Return the nodes it was meant for."""
        return list(self._out)

    def append_stdout(self, node: str, val: str) -> None:
        """Add to what ``node`` said on stdout."""
        self._out[node].append(val)

    def append_stderr(self, node: str, val: str) -> None:
        """Add to what ``node`` said on stderr."""
        self._err[node].append(val)

    def set_rc(self, node: str, rc: Optional[int]) -> None:
        """Note the exit code on ``node``; None: it did not run there, or did not end in time."""
        self._rc[node] = rc

    def set_failure(self, node: str, why: str) -> None:
        """Note why there is no exit code from ``node``, in one line."""
        self._rc[node] = None
        self._failure[node] = why

    def stdout(self, node: str) -> str:
        """Return all that ``node`` said on stdout (UTF-8 with surrogateescape)."""
        return "".join(self._out[node])

    def stderr(self, node: str) -> str:
        """Return all that ``node`` said on stderr."""
        return "".join(self._err[node])

    def rc(self, node: str) -> Optional[int]:
        """Return the exit code on ``node`` (128+N for signal N); None: not run, or no answer in time."""
        return self._rc[node]

    def failure(self, node: str) -> Optional[str]:
        """Return why there is no exit code from ``node``, None if there is one."""
        if self._rc[node] is not None:
            return None
        return self._failure.get(node, "no answer")


class RemoteExec(Plugin):
    """Base class. A subclass overrides ``rexec``, and ``available`` if it depends on anything.

    ``timeout_s`` is the deadline of each call: a node that did not answer by then has no exit code,
    and never delays the answers of the others.
    """

    name = "none"
    timeout_s: float = DEFAULT_TIMEOUT_S
    lost: Optional[Callable[[], Collection[str]]] = None

    knows_its_nodes: bool = False
    """True if an answer proves on which node it was given; else answering host names are compared."""

    def __init__(self) -> None:
        pass

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None if this back end can be used in ``context``, else the reason why not."""
        del context
        return "it reaches no nodes" if cls.rexec is RemoteExec.rexec else None

    def bounded(self: R, timeout_s: float) -> R:
        """Return a copy of this object whose calls have a deadline of ``timeout_s`` seconds."""
        other = copy.copy(self)
        other.timeout_s = timeout_s
        return other

    def heeding(self: R, lost: Callable[[], Collection[str]]) -> R:
        """Return a copy whose calls need not wait for nodes that ``lost()`` names by and by.

        For calls that take long. A back end that notices dead nodes by itself need not look at it.
        """
        other = copy.copy(self)
        other.lost = lost
        return other

    def _lost_ones(self) -> Collection[str]:
        """Return the nodes that need not be waited for any more."""
        return () if self.lost is None else self.lost()

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` once on each of ``nodes`` at the same time, and return what each said.

        The command has no input. It begins in the caller's current directory if the node has it, with the
        context's variables PATH, PYTHONPATH, LD_LIBRARY_PATH and SCR_*, and with more of them where the way
        to the node carries the whole environment. At its deadline it is ended. Calls from several threads
        at once are no problem.

        Args:
            argv: program and arguments, passed on byte for byte; no shell sees them.
            nodes: names of the allocation; each only once.
            jobenv: the job; its context holds the environment.

        Raises:
            NotSupportedError: this back end cannot reach nodes.
            ScrError: the back end itself is broken. A node that fails is no error but a result.
        """
        del jobenv
        raise NotSupportedError(
            f"no remote execution is known here: cannot run {argv[0]!r} on {len(nodes)} nodes; "
            "set SCR_REMOTE_EXEC, or run inside an allocation"
        )


def not_on_path(program: str, context: Context) -> Optional[str]:
    """Return that ``program`` is not on the context's PATH, None if it is there."""
    import shutil  # noqa: PLC0415 - only where a back end is chosen

    if shutil.which(program, path=context.environ.get("PATH", os.defpath)):
        return None
    return f"{program} is not on PATH"
