# SPDX-License-Identifier: BSD-3-Clause
"""scr_postrun: after the last run, bring home what only exists in cache."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._shared import (
    add_prefix,
    add_verbose,
    make_parser,
    printable,
    run_command,
    tell,
)
from scrjob.commands._timing import Timing

PROG = "scr_postrun"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Save the datasets; returns 0, 73 if the newest could not be made safe, else as docs say."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    from scrjob.cli import SCRLog  # noqa: PLC0415 - not for --help
    from scrjob.commands._progress import progress  # noqa: PLC0415 - same
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same
    from scrjob.list_down_nodes import list_down_nodes  # noqa: PLC0415 - same
    from scrjob.postrun import check_safe, save_datasets  # noqa: PLC0415 - same

    parser = make_parser(
        PROG, "Save the datasets that only exist in cache to the prefix directory."
    )
    parser.add_argument("-j", "--joblauncher", required=True, metavar="NAME", help="job launcher")
    add_prefix(parser)
    add_verbose(parser)
    args = parser.parse_args(argv)
    timing = Timing(PROG, args.verbose)
    jobenv = JobEnv(prefix=args.prefix, launcher=args.joblauncher)
    if jobenv.param.get("SCR_ENABLE") != "0":
        jobenv.launcher  # noqa: B018 - an unknown name is an error before anything is done
        log = SCRLog(jobenv.dir_prefix(), jobenv.job_id(), user=jobenv.user(), param=jobenv.param)
        down = list(list_down_nodes(jobenv))
        shown = progress(lambda line: tell(f"{PROG}: {printable(line)}"))
        check_safe(save_datasets(jobenv, down, log, timing.say, timing.show, progress=shown))
    timing.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
