# SPDX-License-Identifier: BSD-3-Clause
"""Is there a checkpoint to restart from? Asked offline: nothing is launched, nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.cached import newest_checkpoint
from scrjob.supervisor.evidence import checkpoint_in_prefix

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment


def have_restart(jobenv: JobEnvironment, nodes: Sequence[str]) -> Optional[str]:
    """Return the name of the checkpoint that a program would restart from, None if there is none.

    Args:
        jobenv: the job.
        nodes: healthy nodes, asked for what is in their cache; the newest there wins, as in SCR.
            Then the prefix: CURRENT of the index, else its newest usable checkpoint.
    """
    return (newest_checkpoint(jobenv, nodes) if nodes else None) or checkpoint_in_prefix(jobenv)
