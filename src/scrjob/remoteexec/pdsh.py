# SPDX-License-Identifier: BSD-3-Clause
"""Remote execution through pdsh.

pdsh tells of many exit codes only the largest, writes lines behind a label that is the node's name up to
the first dot, and replaces %h, %u, %n and %% in the command: see ``_wrapper`` for the first two, and
``parse_labels``, ``build_pdsh`` here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterable, Mapping, Optional, Sequence

from scrjob.errors import CommandError
from scrjob.remoteexec import _ssh, _wrapper
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult, not_on_path

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment
    from scrjob.remoteexec._gather import Call

POLL_S = 2.0  # pdsh looks every two seconds which commands are past its own limit
LIST_CHARS = 60_000  # of one -w option; Linux takes 128 KiB in one argument
FILES_PER_NODE = 5
FILES_OF_PDSH = 64
FOREIGN = ("DSHPATH", "FANOUT", "WCOLL")  # variables that change targets, width and PATH of pdsh

PDSH_NAME = re.compile(rf"(?!.*[0-9]{{15}}\Z){_ssh.HOST_NAME.pattern}")
"""Host names that pdsh leaves alone: a long number at the end it cuts, and would ask another node."""


class Pdsh(RemoteExec):
    """Runs a command through pdsh: its module ssh, or what PDSH_RCMD_TYPE or SCR_SSH names.

    Args:
        launcher: taken because callers of the published class give it; nodes are reached the same way
            under every launcher.
    """

    name = "pdsh"

    def __init__(self, launcher: Optional[str] = None) -> None:
        super().__init__()
        del launcher

    @classmethod
    def available(cls, context: Context) -> Optional[str]:
        """Return None if pdsh and the program that it starts are on PATH, else the reason."""
        return not_on_path("pdsh", context) or (
            None if rcmd_module(context.environ, None) != "ssh" else _ssh.missing(context)
        )

    def rexec(
        self, argv: Sequence[str], nodes: Sequence[str], jobenv: JobEnvironment
    ) -> RemoteExecResult:
        """Run ``argv`` on each of ``nodes``; see the base class.

        Raises:
            UsageError: a node is named twice.
            ConfigError: SCR_SSH or SCR_SSH_FANOUT cannot be understood.
            CommandError: pdsh itself cannot be started or does not take the call.
        """
        from scrjob.remoteexec._gather import Call, files_left, gather  # noqa: PLC0415 - subprocess

        _wrapper.refuse_duplicates(nodes)
        context = jobenv.context
        result = RemoteExecResult(argv, nodes)
        reached = _ssh.reachable(result, PDSH_NAME)
        if not reached:
            return result
        setting = jobenv.param.get("SCR_SSH")
        width = max(1, min(_ssh.fanout(jobenv), len(reached), files_left() // FILES_PER_NODE))
        pdsh = build_pdsh(
            reached,
            _ssh.text_for(argv, jobenv, self.timeout_s),
            module=rcmd_module(context.environ, setting),
            words=_ssh.reach(setting, self.timeout_s),
            timeout_s=self.timeout_s,
            fanout=width,
        )
        call = Call([*_few_files(width, context), *pdsh])
        gather(
            [call],
            context,
            pdsh_environ(context.environ, self.timeout_s),
            limit_s=self.timeout_s + _wrapper.LATE_S + POLL_S,
            side_by_side=1,
            given_up=self.lost and (lambda call: not self._awaited(call, reached)),
        )
        call.check_started()
        out, err = call.lines()
        if call.ended:  # of what the nodes did it says nothing without -S
            raise CommandError(pdsh[:3], returncode=call.ended, stderr="\n".join(err))
        outs, errs = parse_labels(out, reached), parse_labels(err, reached)
        said = {**parse_complaints(err), **dict.fromkeys(self._lost_ones(), _wrapper.LOST)}
        for node in reached:
            lines = outs.get(node, ()), errs.get(node, ())
            _wrapper.enter(result, node, lines, self.timeout_s, said.get(node, ""))
        return result

    def _awaited(self, call: Call, nodes: Sequence[str]) -> bool:
        """Tell whether an answer is missing of a node that is not lost."""
        outs, errs = (parse_labels(lines, nodes) for lines in call.lines())
        gone = self._lost_ones()
        return any(
            not (_wrapper.has_ended(outs.get(node, ())) and _wrapper.has_ended(errs.get(node, ())))
            for node in nodes
            if node not in gone
        )


def rcmd_module(environ: Mapping[str, str], setting: Optional[str]) -> str:
    """Return the name of the pdsh module to use; ``setting`` is SCR_SSH.

    Without it the site's own PDSH_RCMD_TYPE counts, but never "exec": that would run the bare command on
    this host, once for each node.
    """
    if setting:
        return "exec"
    site = environ.get("PDSH_RCMD_TYPE", "")
    return site if site and site != "exec" else "ssh"


def build_pdsh(
    nodes: Sequence[str],
    text: str,
    *,
    module: str,
    words: Sequence[str],
    timeout_s: float,
    fanout: int,
) -> list[str]:
    """Return the pdsh call that runs ``text`` on ``nodes``, for module "exec" through ``words``.

    Source: pdsh(1) 2.34.
    """
    argv = ["pdsh", "-R", module, "-f", str(fanout)]
    argv += ["-u", str(_wrapper.whole_seconds(timeout_s))]
    if module != "exec":  # which refuses this option
        argv += ["-t", str(max(1, int(timeout_s / 2)))]
    for names in _lists(nodes):
        argv += ["-w", names]
    plain = text.replace("%", "%%")
    if module == "exec":
        return [*argv, *(word.replace("%", "%%") for word in words), "%h", plain]
    return [*argv, plain]


def _lists(nodes: Sequence[str]) -> list[str]:
    """Return the names joined by commas, in texts that fit into an argument."""
    lists: list[str] = []
    for node in nodes:
        if lists and len(lists[-1]) + len(node) < LIST_CHARS:
            lists[-1] += f",{node}"
        else:
            lists.append(node)
    return lists


def pdsh_environ(environ: Mapping[str, str], timeout_s: float) -> dict[str, str]:
    """Return the environment for pdsh: its ssh module gets our options behind the user's own."""
    own = environ.get("PDSH_SSH_ARGS_APPEND", "")
    return {
        **{name: value for name, value in environ.items() if name not in FOREIGN},
        "PDSH_SSH_ARGS_APPEND": " ".join([own, *_ssh.options(timeout_s)]).strip(),
    }


def parse_labels(lines: Iterable[str], nodes: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of each node without their label.

    A label is the name up to the first dot; pdsh keeps whole names if those would be the same for two of
    the nodes.
    """
    short: dict[str, Optional[str]] = {}
    for node in nodes:
        first = node.partition(".")[0]
        short[first] = None if first in short else node
    names = {first: node for first, node in short.items() if node is not None}
    names.update((node, node) for node in nodes)
    found: dict[str, list[str]] = {}
    for line in lines:
        label, colon, rest = line.partition(": ")
        if colon and label in names:
            found.setdefault(names[label], []).append(rest)
    return found


def parse_complaints(lines: Iterable[str]) -> dict[str, str]:
    """Return what pdsh itself says of nodes: ``pdsh@HERE: NODE: TEXT``."""
    said = {}
    for line in lines:
        parts = line.split(": ", 2)
        if len(parts) == 3 and parts[0].startswith("pdsh@"):  # noqa: PLR2004 - see the docstring
            said[parts[1]] = parts[2]
    return said


def _few_files(width: int, context: Context) -> list[str]:
    """Return the words before pdsh that bound its open files.

    Each process that pdsh starts closes all descriptors up to the limit, one by one: with a limit of a
    million, as batch systems set it, that is most of the time of a large call (seen with pdsh 2.34).
    """
    if not_on_path("prlimit", context):
        return []
    files = FILES_PER_NODE * width + FILES_OF_PDSH
    return ["prlimit", f"--nofile={files}:{files}", "--"]
