# SPDX-License-Identifier: BSD-3-Clause
"""Which nodes a step of srun gets, and what is added to the user's words so that it gets no others.

The rules are told to users in docs/howto/slurm-steps.md; change both together.

Source: srun(1) 22.05, and what that srun did on a real cluster (the comments say what).
"""

from __future__ import annotations

import re
from typing import Callable, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import UsageError
from scrjob.hostlist import compress_hosts, expand_hosts
from scrjob.launchers._srun_options import Part, node_range, number

INTERACTIVE_STEP = "4294967290"
"""SLURM_STEP_ID in the shell of ``salloc`` on sites that start it on a node (0xfffffffa)."""

OF_ENCLOSING_STEP = re.compile(
    r"SLURM_(NTASKS|NPROCS|DISTRIBUTION|CPU_BIND\w*|MEM_BIND\w*)", re.ASCII
)
"""Set by srun for its tasks, and options of any srun that such a task starts."""

REFUSED = {
    "relative": "scr_run chooses the nodes; SCR_NODELIST or --exclude leave some out",
    "nodefile": "scr_run chooses the nodes; give them with --nodelist or SCR_NODELIST",
    "het-group": "only jobs of one component; parts of a step may be joined by ' : '",
    "no-allocate": "there is no step without an allocation",
}
CHANGES_WHAT_FITS = (
    "overcommit",
    "hint",
    "threads-per-core",
    "ntasks-per-core",
    "ntasks-per-socket",
    "ntasks-per-gpu",
    "ntasks-per-tres",
    "extra-node-info",
    "cores-per-socket",
    "sockets-per-node",
    "gpus",
    "gpus-per-node",
    "gpus-per-socket",
    "gpus-per-task",
    "gres",
    "mem",
    "mem-per-cpu",
    "mem-per-gpu",
    "tres-per-task",
    "spread-job",
)
"""With one of these only Slurm can say how many tasks fit on a node."""

SAY_WHEN_IT_ENDS = {
    "kill-on-bad-exit": "SLURM_KILL_BAD_EXIT",
    "no-kill": "SLURM_NO_KILL",
    "wait": "SLURM_WAIT",
}
"""Options by which users say what is to happen when a task ends early, and their variables."""

_CPUS = re.compile(r"([0-9]+)(?:\(x([0-9]+)\))?")


class Placed(NamedTuple):
    """One part of a step and its nodes."""

    part: Part
    nodes: list[str]


def allocated_nodes(environ: Mapping[str, str]) -> list[str]:
    """Return the nodes of the allocation in Slurm's order, [] if the environment does not tell."""
    return expand_hosts(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST"))


def allocated_cpus(environ: Mapping[str, str]) -> dict[str, int]:
    """Return the CPUs that the job has on each node, {} if the environment does not tell."""
    counts: list[int] = []
    for item in environ.get("SLURM_JOB_CPUS_PER_NODE", "").split(","):
        found = _CPUS.fullmatch(item)
        if not found:
            return {}
        counts += [int(found[1])] * int(found[2] or 1)
    return dict(zip(allocated_nodes(environ), counts))


def clean_environ(
    environ: Mapping[str, str], parts: Sequence[Part], *, overlap: bool = False
) -> dict[str, str]:
    """Return the environment for srun, without options in it that were meant for something else.

    - Inside a step: the shape of that step. A program's own srun would take its number of tasks.
    - SLURM_NTASKS that is nothing but SLURM_NTASKS_PER_NODE times all nodes: of a job with spare nodes
      srun would want as many tasks on fewer nodes, and refuse ("More processors requested than
      permitted"). Without it srun counts anew, for the nodes of the step.
    - For a step that must overlap: SLURM_EXCLUSIVE, see ``extra_words``.
    """
    clean = dict(environ)
    if environ.get("SLURM_STEP_ID", INTERACTIVE_STEP) != INTERACTIVE_STEP:
        clean = {name: clean[name] for name in clean if not OF_ENCLOSING_STEP.fullmatch(name)}
    if overlap:
        clean.pop("SLURM_EXCLUSIVE", None)
    tasks, each = _plain(clean.get("SLURM_NTASKS")), _plain(clean.get("SLURM_NTASKS_PER_NODE"))
    nodes = len(allocated_nodes(environ))
    if tasks and each and tasks == each * nodes and not any(part.has("ntasks") for part in parts):
        for name in ("SLURM_NTASKS", "SLURM_NPROCS"):
            clean.pop(name, None)
    return clean


def check(
    parts: Sequence[Part], environ: Mapping[str, str], read_list: Callable[[str], str]
) -> None:
    """Refuse what cannot be made to avoid nodes, and nodes of others.

    Args:
        parts: of the step.
        environ: the allocation's.
        read_list: returns the text of a file of nodes.

    Raises:
        UsageError: there is no program, an option of REFUSED, or a node that the allocation does not have.
    """
    if not parts[-1].program:
        raise UsageError("launcher srun: no program given")
    if environ.get("SLURM_HET_SIZE", "1") != "1":
        raise UsageError(f"launcher srun: heterogeneous job: {REFUSED['het-group']}")
    for part in parts:
        for name, why in REFUSED.items():
            if part.has(name):
                raise UsageError(f"launcher srun: --{name}: {why}")
        if (part.value("distribution") or "").startswith("arbitrary"):
            raise UsageError(f"launcher srun: --distribution=arbitrary: {REFUSED['nodefile']}")
        job = part.value("jobid")
        if job and job != environ.get("SLURM_JOB_ID"):
            raise UsageError(f"launcher srun: --jobid={job}: this allocation is another job")
        ours = dict.fromkeys(allocated_nodes(environ))
        strangers = [n for n in user_nodes(part, "nodelist", read_list) if n not in ours]
        if ours and strangers:
            raise UsageError(
                f"launcher srun: --nodelist: {compress_hosts(strangers)} not in this allocation of "
                f"{compress_hosts(list(ours))}"
            )


def nodes_wanted(parts: Sequence[Part], environ: Mapping[str, str]) -> Optional[int]:
    """Return how many nodes the step cannot do without, None if the user does not say.

    Raises:
        UsageError: a number is none.
    """
    total = 0
    nodes = allocated_nodes(environ)
    for part in parts:
        asked = _asked(part, nodes, environ, clean_environ(environ, parts))
        if asked is None:
            return None
        total += asked[0]
    return total


def place(
    parts: Sequence[Part],
    candidates: Sequence[str],
    environ: Mapping[str, str],
    read_list: Callable[[str], str],
) -> list[Placed]:
    """Give each part the first of the candidates that are left.

    Nodes of the user's own ``--nodelist`` come first; where one cannot be used, the next candidate
    stands in for it. Those of ``--exclude`` are left out.

    Args:
        parts: of the step.
        candidates: nodes that may be used, in order.
        environ: the allocation's.
        read_list: returns the text of a file of nodes.

    Raises:
        UsageError: too few are left, or a part does not say how many it wants.
    """
    placed = []
    left = list(candidates)
    clean = clean_environ(environ, parts)
    for part in parts:
        refused = set(user_nodes(part, "exclude", read_list))
        named = dict.fromkeys(user_nodes(part, "nodelist", read_list))
        usable = [node for node in left if node not in refused]
        free = set(usable)
        usable = [n for n in named if n in free] + [n for n in usable if n not in named]
        asked = _asked(part, usable, environ, clean)
        if asked is None and named:
            asked = (len(named), len(named))
        if asked is None:
            if len(parts) > 1:
                raise UsageError("launcher srun: each part of a step (' : ') needs -N or -n")
            asked = (1, len(usable))
        count = min(asked[1], len(usable), _tasks(part, clean) or len(usable))
        if not usable or count < min(asked[0], _tasks(part, clean) or asked[0]):
            raise UsageError(f"launcher srun: {asked[0]} nodes wanted, {len(usable)} can be used")
        chosen = usable[:count]
        placed.append(Placed(part, chosen))
        taken = set(chosen)
        left = [node for node in left if node not in taken]
    return placed


def user_nodes(part: Part, option: str, read_list: Callable[[str], str]) -> list[str]:
    """Return the nodes of the user's ``--nodelist`` or ``--exclude``, which may name a file."""
    text = part.value(option) or ""
    names = expand_hosts(read_list(text) if "/" in text else text)
    return [name.partition("*")[0] for name in names]  # "n1*2" is n1 twice


def extra_words(
    placed: Placed, environ: Mapping[str, str], *, overlap: bool, nodelist: str, exclude: str
) -> list[str]:
    """Return the options that stand before the user's own; node lists are text or file names."""
    part = placed.part
    words = []
    if not part.has("nodes"):
        # Else SLURM_NNODES counts: "Only allocated 2 nodes asked for 5".
        words.append(f"--nodes={len(placed.nodes)}")
    words.append(f"--nodelist={nodelist}")
    if exclude:
        words.append(f"--exclude={exclude}")
    said = any(part.has(name) or var in environ for name, var in SAY_WHEN_IT_ENDS.items())
    if not said:
        words.append("--kill-on-bad-exit=1")
    if overlap:
        words.append("--overlap")
        if part.has("exclusive") or "SLURM_EXCLUSIVE" in environ:
            words.append("--exact")  # the rest of --exclusive, which srun refuses beside --overlap
    return words


def user_words(placed: Placed, *, overlap: bool) -> list[str]:
    """Return the user's words, without those that ``extra_words`` stands for, and the program."""
    dropped = ["nodelist", "exclude", *(["exclusive"] if overlap else [])]
    return [*placed.part.without(*dropped), *placed.part.program]


def _asked(
    part: Part, usable: Sequence[str], environ: Mapping[str, str], clean: Mapping[str, str]
) -> Optional[tuple[int, int]]:
    """Return the least and the largest number of nodes that the user's words ask for, None if none do."""
    text = part.value("nodes")
    if text is not None:
        return node_range(text)
    tasks = number("ntasks", part.value("ntasks"))
    if tasks is None or not usable:
        return None
    each = number("ntasks-per-node", part.value("ntasks-per-node"))
    each = each or _plain(clean.get("SLURM_NTASKS_PER_NODE"))
    count = -(-tasks // each) if each else _nodes_that_fit(part, tasks, usable, environ)
    return count, count


def _nodes_that_fit(
    part: Part, tasks: int, usable: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Return how many of the first nodes have the CPUs; where that is not known, one node a task."""
    most = min(tasks, len(usable))
    cpus = allocated_cpus(environ)
    width = number("cpus-per-task", part.value("cpus-per-task"))
    # That of salloc and sbatch is an option of srun before 22.05 only; there fewer nodes would not do.
    for name in ("SRUN_CPUS_PER_TASK", "SLURM_CPUS_PER_TASK"):
        width = width or _plain(environ.get(name))
    width = width or 1
    if part.has(*CHANGES_WHAT_FITS) or any(node not in cpus for node in usable):
        return most
    room = 0
    for count, node in enumerate(usable, 1):
        room += cpus[node] // width
        if room >= tasks:
            return count
    return most


def _tasks(part: Part, clean: Mapping[str, str]) -> Optional[int]:
    # srun itself: "can't run 2 processes on 4 nodes, setting nnodes to 2".
    return number("ntasks", part.value("ntasks")) or _plain(clean.get("SLURM_NTASKS"))


def _plain(text: Optional[str]) -> Optional[int]:
    """Return a number from Slurm's own variables, None for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() else None
