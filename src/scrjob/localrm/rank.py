# SPDX-License-Identifier: BSD-3-Clause
"""The wrapper around each rank: records its process and its real wait status in the step's directory.

It runs on the node, in the place of the program. mpiexec's own exit code does not tell a signal
from a code, nor a rank that failed from one that was killed for it. The program's words come by
file, for a lone ":" would split mpiexec's command line.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import Mapping, NoReturn, Sequence

from scrjob._clock import SystemClock
from scrjob.localrm import steps
from scrjob.localrm._linux import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, spawn

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
LAUNCHERS_OWN = (b"SLURM_NODEID", b"SLURM_EXTERNAL_LAUNCHER")
"""Set by the way in which mpiexec is used here; a program that sees them takes itself for one of Slurm's."""


def _refuse(why: str) -> None:
    os.write(2, os.fsencode(f"scr_local: {why}\n"))


def main(args: Sequence[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Run the rank and end as it does.

    Args:
        args: the step's directory, and the variables that hold the rank's number and how many there are.
        environ: environment of the rank.
    """
    step, number_variable, size_variable = args
    rank = environ[os.fsencode(number_variable)]
    env = {name: value for name, value in environ.items() if name not in LAUNCHERS_OWN}
    env[b"SCR_LOCAL_RANK"] = rank
    env[b"SCR_LOCAL_SIZE"] = environ[os.fsencode(size_variable)]
    node = os.fsdecode(environ.get(b"SCR_LOCAL_NODE", b""))
    clock = SystemClock()
    if not node:
        _refuse("this rank was started beside its node, whose name means this machine to MPI")
        os._exit(EXIT_CANNOT_EXECUTE)
    argv = steps.read_words(step)
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        child = spawn(
            argv,
            env=env,
            streams=(0 if rank == b"0" else null, 1, 2),  # the others' would never end
            new_session=True,
            death_signal=signal.SIGKILL,
            before=lambda: steps.record_start(step, int(rank), node, os.getpid()),
        )
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
        missing = isinstance(error, FileNotFoundError)
        code = EXIT_NOT_FOUND if missing else EXIT_CANNOT_EXECUTE
        steps.record_end(step, int(rank), code << 8, clock.monotonic())
        os._exit(code)

    def forward(number: int, frame: object) -> None:
        del frame
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    steps.record_end(step, int(rank), status, clock.monotonic())
    if os.WIFSIGNALED(status):
        fatal = os.WTERMSIG(status)
        resource.setrlimit(
            resource.RLIMIT_CORE, (0, 0)
        )  # the rank's own core is the one to look at
        if fatal != signal.SIGKILL:
            signal.signal(fatal, signal.SIG_DFL)
        os.kill(os.getpid(), fatal)
    os._exit(os.WEXITSTATUS(status))
