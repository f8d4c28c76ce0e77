# SPDX-License-Identifier: BSD-3-Clause
"""Does a back end really run commands on these nodes? Tried once a job, before its first run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Collection, Iterator, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import ConfigError, ScrError
from scrjob.remoteexec.auto import available_ones

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult

logger = logging.getLogger(__name__)

TRIAL_S = 6.0
TRIAL_A_SECOND = 1000  # nodes for which there is a second more: no way reaches thousands at once
QUESTION = ("uname", "-n")

UNSEEN = "scrjob:unseen"
LOOKS = 4
LOOK_AGAIN_S = 2.0
# A node may remember for a minute what a directory held, and that something was not there: a directory that
# is opened is asked of the server anew (NFS, close-to-open).
_LOOK = (
    "uname -n || exit; "
    '[ -e "$1" ] || { for d in "${1%/*/*}" "${1%/*}"; do true <"$d"; done; } 2>/dev/null; '
    f'[ -e "$1" ] || echo {UNSEEN}'
)


class Trial(NamedTuple):
    """What came of trying a back end: how many nodes answered for themselves, else why not.

    ``hosts`` has the host names of those that answered, ``blind`` those of them that do not see the file
    they were asked for.
    """

    rexec: RemoteExec
    answered: int
    asked: int
    seconds: float
    why: str
    hosts: Mapping[str, str] = {}
    blind: Sequence[str] = ()


def question(marker: str) -> tuple[str, ...]:
    """Return the command that also looks for a file, two levels below a directory that may not be shared."""
    return ("sh", "-c", _LOOK, "sh", marker)


def settle(jobenv: JobEnvironment, marker: Optional[str] = None) -> Optional[Trial]:
    """Make ``jobenv.rexec`` a back end that reaches the job's nodes, and tell which it is.

    Returns its trial, in which the nodes are asked for the file ``marker`` too; None if nothing was tried.

    The one that is there stays if more than half of the nodes answer. Else those are tried that come
    after it in the manager's order, unless it was forced or handed in; of all that were tried the one
    with most answers is taken. Without any way to reach nodes nothing is tried.

    Raises:
        ConfigError: no node can be reached; says what each way met.
    """
    if type(jobenv.rexec).available(jobenv.context):
        return None
    nodes = _candidates(jobenv)
    trials: list[Trial] = []
    for rexec in _ways(jobenv):
        trial = try_out(rexec, nodes, jobenv, marker)
        trials.append(trial)
        if 2 * trial.answered > len(nodes):
            break
        logger.warning(
            "remote execution %s: %d of %d nodes answer: %s",
            *(rexec.name, trial.answered, trial.asked, trial.why),
        )
    best = max(trials, key=lambda trial: trial.answered)
    if nodes and not best.answered:
        said = "; ".join(f"{trial.rexec.name}: {trial.why}" for trial in trials)
        raise ConfigError(
            f"commands cannot be run on any of {len(nodes)} nodes: {said}; set SCR_REMOTE_EXEC to a way "
            "that works here"
        )
    jobenv.rexec = best.rexec
    logger.info(
        "commands on nodes go through %s: %d of %d nodes answered in %.1f s",
        *(best.rexec.name, best.answered, best.asked, best.seconds),
    )
    return best


def blind_nodes(trial: Trial, marker: str, jobenv: JobEnvironment) -> list[str]:
    """Return the nodes that still say after some time that ``marker`` is not there.

    One that gives no answer any more says nothing.
    """
    blind = list(trial.blind)
    for _ in range(LOOKS - 1):
        if not blind:
            break
        jobenv.context.clock.sleep(LOOK_AGAIN_S)
        blind = list(try_out(trial.rexec, blind, jobenv, marker).blind)
    return blind


def _candidates(jobenv: JobEnvironment) -> list[str]:
    """Return the job's nodes that the manager does not know to be down."""
    down: Collection[str] = ()
    try:
        down = jobenv.resmgr.down_nodes()
    except ScrError as error:
        logger.warning("the nodes' states could not be asked: %s", error)
    nodes = jobenv.job_nodes()
    return [node for node in nodes if node not in down] or nodes


def _ways(jobenv: JobEnvironment) -> Iterator[RemoteExec]:
    first = jobenv.rexec
    yield first
    offered = list(jobenv.resmgr.remote_exec)
    if not jobenv.param.get("SCR_REMOTE_EXEC") and first.name in offered:
        yield from available_ones(jobenv.context, offered[offered.index(first.name) + 1 :])


def try_out(
    rexec: RemoteExec, nodes: Sequence[str], jobenv: JobEnvironment, marker: Optional[str] = None
) -> Trial:
    """Ask every node for its host name, and whether it sees the file ``marker``."""
    clock = jobenv.context.clock
    began = clock.monotonic()
    try:
        limit_s = TRIAL_S + len(nodes) // TRIAL_A_SECOND
        asked = QUESTION if marker is None else question(marker)
        result = rexec.bounded(limit_s).rexec(asked, nodes, jobenv)
    except ScrError as error:
        return Trial(rexec, 0, len(nodes), clock.monotonic() - began, str(error))
    good = [node for node in nodes if result.rc(node) == 0]
    why = next((_complaint(result, node) for node in nodes if result.rc(node) != 0), "")
    if not rexec.knows_its_nodes:
        strange = strangers(result, good)
        good = [node for node in good if node not in strange]
        why = next(iter(strange.values()), why)
    hosts = {node: _host(result, node) for node in good}
    blind = [node for node in good if UNSEEN in result.stdout(node).split("\n")[1:]]
    seconds = clock.monotonic() - began
    return Trial(rexec, len(good), len(nodes), seconds, why, hosts, blind)


def _complaint(result: RemoteExecResult, node: str) -> str:
    code = result.rc(node)
    return f"{node}: {result.failure(node) if code is None else f'exit code {code}'}"


def _host(result: RemoteExecResult, node: str) -> str:
    return result.stdout(node).partition("\n")[0].strip()


def strangers(result: RemoteExecResult, nodes: Sequence[str]) -> dict[str, str]:
    """Return the nodes that gave the same host name as another one, with the reason.

    Such a command ran somewhere, but at least one of the two has not run it. A host's name need not be the
    node's, so a name alone proves nothing.
    """
    by_host: dict[str, list[str]] = {}
    for node in nodes:
        by_host.setdefault(_host(result, node), []).append(node)
    return {
        node: f"{', '.join(named[:3])} all answer as host {host!r}"
        for host, named in by_host.items()
        if len(named) > 1
        for node in named
    }
