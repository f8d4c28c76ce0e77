# SPDX-License-Identifier: BSD-3-Clause
"""What all calls of Slurm's tools have in common: their environment, and how nodes are listed."""

from __future__ import annotations

from typing import Iterable, Mapping

from scrjob.hostlist import compress_hosts, expand_hosts, sort_hosts, splithosts

ARGUMENT_BYTES = 100_000
"""The longest list to be put into one argument: Linux takes 131,072 bytes (execve(2), MAX_ARG_STRLEN)."""

TOOLS_OWN = ("SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_")
"""Users set these for what they type themselves: filters, columns, questions before anything is done."""


def tool_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which Slurm's commands do as their arguments say.

    A user who works with several clusters has SLURM_CLUSTERS set: then only the job's own is meant.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(TOOLS_OWN)}
    own = kept.get("SLURM_CLUSTER_NAME")
    if kept.pop("SLURM_CLUSTERS", None) and own:
        kept["SLURM_CLUSTERS"] = own
    return kept


def fold_nodes(nodes: Iterable[str]) -> str:
    """Return names as a list that Slurm understands: it takes no text behind a bracket, ``n[1-2]-ib``."""
    words = splithosts(compress_hosts(sort_hosts(nodes)))
    return ",".join(
        ",".join(expand_hosts(word)) if "[" in word and not word.endswith("]") else word
        for word in words
    )


def fits(text: str) -> bool:
    """Tell whether a list of nodes can be one argument, with the option's name before it."""
    return len(text.encode("utf-8", "surrogateescape")) < ARGUMENT_BYTES
