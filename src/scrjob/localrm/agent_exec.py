# SPDX-License-Identifier: BSD-3-Clause
"""What MPICH's mpiexec runs in place of srun: starts its proxy on each node of the step.

mpiexec's way for Slurm is the one that fits: one process for all nodes, words instead of a shell
command, and no asking of a name service about the nodes (a node whose name is known there as this
machine's would be started beside it). Dies with mpiexec by the kernel's word; the nodes then see
their connections close and kill what ran.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Mapping, Sequence

from scrjob.errors import ScrError
from scrjob.localrm import steps
from scrjob.localrm._linux import die_with_parent
from scrjob.localrm.client import Allocation

if TYPE_CHECKING:
    from scrjob.localrm.remote import RemoteProgram

PROXY_FAILURE_GRACE_MS = 1000
"""How long mpiexec may take to end the step by itself after one proxy ended with a failure."""

NUMBER_VARIABLE = "SLURM_NODEID"  # where the proxy looks for its number
_PROXY = "hydra_pmi_proxy"


def main(args: Sequence[str], environ: Mapping[bytes, bytes]) -> int:
    """Run the proxies until they have ended; returns 0.

    mpiexec waits for proxies for ever, so if one cannot do its work, mpiexec is killed, and we with it.

    Args:
        args: the step's directory, then srun's options and the proxy's words.
        environ: environment of the proxies, and by them of the ranks.
    """
    mpiexec = os.getppid()
    die_with_parent(signal.SIGKILL, mpiexec)
    step, *words = args
    done = False
    try:
        done = _serve(step, _start(step, words, environ))
    except (ScrError, OSError) as error:
        sys.stderr.write(f"scr_local: {error}\n")
    finally:
        if not done:
            steps.record_failure(step)
            os.kill(mpiexec, signal.SIGKILL)
    return 0


def _start(step: str, words: Sequence[str], environ: Mapping[bytes, bytes]) -> list[RemoteProgram]:
    # mpiexec leaves descriptor 0 closed here, and sends what rank 0 reads by another way.
    null = os.open(os.devnull, os.O_RDWR)
    first = next(i for i, word in enumerate(words) if os.path.basename(word) == _PROXY)
    allocation = Allocation(steps.allocation_path(step))
    env = {os.fsdecode(k): os.fsdecode(v) for k, v in environ.items()}
    cwd = os.getcwd()
    return [
        allocation.start(
            node,
            words[first:],
            environ={**env, NUMBER_VARIABLE: str(number)},
            cwd=cwd,
            streams=(null, 1, 2),
        )
        for number, (node, _) in enumerate(steps.read_plan(step).hosts)
    ]


def _serve(step: str, programs: Sequence[RemoteProgram]) -> bool:
    """Wait for the end of the proxies; False if it is up to us to end the step."""
    waiting = {program.fileno(): program for program in programs if not program.over}
    while not any(program.failure for program in programs):
        failed = any(program.code for program in programs)
        if not waiting:
            return not failed
        poll = select.poll()
        for fd, program in waiting.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if program.unsent else 0))
        ready = poll.poll(PROXY_FAILURE_GRACE_MS if failed else None)
        if not ready:
            return False
        for fd, _ in ready:
            program = waiting[fd]
            known = program.pid
            program.advance()
            if program.pid and not known:
                steps.record_keeper(step, program.node, program.keeper)
                if all(p.pid for p in programs):
                    _let_go_of_stdout()
            if program.over:
                del waiting[fd]
    for program in programs:
        if program.failure:
            sys.stderr.write(f"scr_local: {program.node}: {program.failure}\n")
    return False


def _let_go_of_stdout() -> None:
    """Drop our copy, which would keep mpiexec's pipe open after the proxies have closed theirs."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)
