# SPDX-License-Identifier: BSD-3-Clause
"""What MPICH's mpiexec runs in place of ssh: ``[-x] NODE WORD...``, the words being a shell command.

Dies with mpiexec by the kernel's word; the node then sees the connection close and kills what ran.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import Mapping, Sequence

from scrjob.localrm import steps
from scrjob.localrm._linux import die_with_parent
from scrjob.localrm.client import Allocation

EXIT_NO_NODE = 255  # as ssh has it


def main(args: Sequence[str], environ: Mapping[bytes, bytes]) -> int:
    """Run the command on the node; returns its exit code, 255 if the node could not or did not do it.

    Args:
        args: the step's directory, then mpiexec's own words.
        environ: environment of the command.
    """
    die_with_parent(signal.SIGKILL)
    step, *words = args
    if words[0] == "-x":
        del words[0]
    node, *command = words
    allocation = Allocation(steps.allocation_path(step))
    program = allocation.start(
        node,
        ["/bin/sh", "-c", "exec " + " ".join(command)],
        environ={os.fsdecode(k): os.fsdecode(v) for k, v in environ.items()},
        cwd=os.getcwd(),
        streams=(0, 1, 2),
    )
    # Our own copies would keep mpiexec's pipes open after the command has closed its own.
    null = os.open(os.devnull, os.O_RDWR)
    recorded = False
    while not program.over:
        poll = select.poll()
        poll.register(program, select.POLLIN | (select.POLLOUT if program.unsent else 0))
        poll.poll()
        program.advance()
        if program.pid and not recorded:
            recorded = True
            steps.record_keeper(step, node, program.keeper)
            os.dup2(null, 0)
            os.dup2(null, 1)
    if program.failure is not None:
        sys.stderr.write(f"scr_local: {node}: {program.failure}\n")
    return EXIT_NO_NODE if program.code is None else program.code
