# SPDX-License-Identifier: BSD-3-Clause
"""``scr_poststage [-p] DIR``: finish the transfers that a job with SCR_FLUSH_POSTSTAGE left behind.

Exit code 0: all of them are complete now, or there was none; 1: some are not, and were left alone.
"""

from __future__ import annotations

import os
import sys
from typing import Optional, Sequence

from scrjob.commands._shared import (
    EXIT_FAILURE,
    complain,
    make_parser,
    one_line,
    printable,
    run_command,
)
from scrjob.errors import UsageError

PROG = "scr_poststage"
MISSING_SHOWN = 20


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = make_parser(
        PROG, "After the job: complete and list the datasets whose transfer went on without it."
    )
    where = "prefix directory (default: SCR_PREFIX, else here)"
    parser.add_argument("directory", metavar="DIR", nargs="?", help=where)
    parser.add_argument("-p", "--prefix", metavar="DIR", help="the same, as an option")
    given = parser.parse_args(argv)
    if given.prefix and given.directory:
        raise UsageError("give the prefix directory once")

    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - not for --help
    from scrjob.poststage import UnfinishedTransferError, finish_all  # noqa: PLC0415 - same
    from scrjob.supervisor.state import refuse_other_supervisors  # noqa: PLC0415 - same

    jobenv = JobEnv(prefix=given.prefix or given.directory)
    try:
        os.stat(jobenv.dir_scr())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{jobenv.prefix}: no .scr directory: no job has run here; "
            "name the prefix directory of one"
        ) from None
    refuse_other_supervisors(jobenv)
    code = 0
    for done in finish_all(jobenv.prefix, jobenv.context):
        what = f"dataset {done.dataset_id} ({done.name})"
        if done.error is None:
            print(f"{PROG}: {printable(what)}: complete")
            continue
        code = EXIT_FAILURE
        complain(PROG, f"{what} is left alone: {one_line(done.error)}")
        if isinstance(done.error, UnfinishedTransferError):
            for name in done.error.missing[:MISSING_SHOWN]:
                complain(PROG, f"missing: {name}")
            if len(done.error.missing) > MISSING_SHOWN:
                complain(PROG, f"missing: {len(done.error.missing) - MISSING_SHOWN} more")
    return code


if __name__ == "__main__":
    sys.exit(main())
