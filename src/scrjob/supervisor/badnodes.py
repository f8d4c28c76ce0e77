# SPDX-License-Identifier: BSD-3-Clause
"""Which nodes were bad, by what evidence, over all jobs of a prefix: a file for administrators.

``<prefix>/.scr/bad_nodes.jsonl`` has one JSON object a line for each node that a job gave up, in the
order of time; it is only ever added to. Each line is one write in append mode, so that a reader, or
another job, never meets half a line. Schema: docs/state.md.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrjob.model import NodeDown
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

NAME = "bad_nodes.jsonl"
SCHEMA = 1
TEXT_LIMIT = 1000  # of a line's texts, so that it stays one write


def note_bad_node(jobenv: JobEnvironment, verdict: NodeDown, *, session: int, run: int) -> None:
    """Add a line about a node that is given up; a failure is told in the log.

    Args:
        jobenv: the job.
        verdict: why it is given up.
        session: which start of the supervisor.
        run: number of the last run before it, 0: none was launched yet.
    """
    row = {
        "schema": SCHEMA,
        "when": verdict.when or jobenv.context.clock.now(),
        "node": verdict.node,
        "reason": verdict.reason[:TEXT_LIMIT],
        "test": verdict.test,
        "evidence": verdict.evidence[:TEXT_LIMIT],
        "seconds": verdict.seconds,
        "job_id": jobenv.job_id(),
        "user": jobenv.user(),
        "manager": jobenv.resmgr.name,
        "session": session,
        "run": run,
    }
    line = json.dumps(row, sort_keys=True) + "\n"
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(os.path.join(jobenv.dir_scr(), NAME), flags, 0o666)
        try:
            os.write(fd, line.encode("ascii"))
        finally:
            os.close(fd)
    except OSError as error:
        logger.warning("bad node %s cannot be noted: %s", verdict.node, error)
