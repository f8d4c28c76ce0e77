# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that do not see the prefix directory, as prerun found out."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Collection, Sequence

from scrjob._fsio import atomic_write, read_bounded
from scrjob.errors import ConfigError, ScrError
from scrjob.nodetests.nodetest import NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

BLIND_FILE = "blind_nodes.json"  # in the job's state directory: a list of names


class Prefix(NodeTest):
    """Fails the nodes that said before the first run that the prefix is not there; asks nobody again."""

    name = "prefix"
    authoritative = True

    def execute(self, nodes: Sequence[str], jobenv: JobEnvironment) -> dict[str, str]:
        """Return those among ``nodes``."""
        blind = noted_blind(jobenv.dir_job())
        reason = f"does not see the prefix directory {jobenv.dir_prefix()!r}"
        return {node: reason for node in nodes if node in blind}


def note_blind(directory: str, nodes: Sequence[str]) -> None:
    """Note in a job's state directory which nodes do not see the prefix.

    Raises:
        ConfigError: it cannot be written.
    """
    path = os.path.join(directory, BLIND_FILE)
    try:
        if nodes:
            atomic_write(path, json.dumps(list(nodes)).encode("ascii"))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # of the start before, in a job that was requeued
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be written: {error.strerror}") from error


def noted_blind(directory: str) -> Collection[str]:
    """Return what was noted there, nothing if it cannot be read."""
    try:
        names = json.loads(read_bounded(os.path.join(directory, BLIND_FILE)))
    except (OSError, ScrError, ValueError):
        return ()
    return {str(name) for name in names} if isinstance(names, list) else ()
