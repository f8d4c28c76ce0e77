# SPDX-License-Identifier: BSD-3-Clause
"""``scr_scavenge``: bring a dataset from the caches of the nodes to the prefix, verified and indexed.

Exit code 0: the dataset is safe; 73: it could not be made safe; 1: a usage error.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Optional, Sequence

from scrjob.commands._shared import (
    add_prefix,
    add_verbose,
    make_parser,
    narrate,
    one_line,
    printable,
    run_command,
    tell,
)
from scrjob.errors import ScrError, UsageError

_ID = re.compile(r"[0-9]{1,18}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command("scr_scavenge", _run, argv)


def _run(argv: list[str]) -> int:
    parser = make_parser("scr_scavenge", "Copy a cached dataset to the prefix and index it.")
    parser.add_argument("-j", "--jobset", metavar="NODES", help="nodes (default: those of the job)")
    parser.add_argument("-i", "--id", metavar="ID", required=True, help="dataset id")
    parser.add_argument(
        "-f", "--from", dest="cntldir", metavar="DIR", help="control directory on the nodes"
    )
    parser.add_argument(
        "--relocate",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="recorded paths below OLD are really below NEW; may be repeated",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        default=None,
        help="read all back, check checksums and redundancy, repair (default: SCR_SCAVENGE_VERIFY)",
    )
    parser.add_argument(
        "--flush-ended",
        action="store_true",
        help="no program of the job runs, so no flush does, whatever the flush file says",
    )
    add_prefix(parser)
    add_verbose(parser)
    given = parser.parse_args(argv)
    if not (_ID.fullmatch(given.id) and int(given.id) > 0):
        raise UsageError(f"--id {given.id!r}: expected a dataset id, a number above 0")

    from scrjob.cached import describe_in_flush_file  # noqa: PLC0415 - not for --help
    from scrjob.cli import SCRLog  # noqa: PLC0415 - not for --help
    from scrjob.commands._progress import progress  # noqa: PLC0415 - not for --help
    from scrjob.hostlist import expand_hosts  # noqa: PLC0415 - not for --help
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - not for --help
    from scrjob.prune import prune_after  # noqa: PLC0415 - not for --help
    from scrjob.scavenge import scavenge_dataset  # noqa: PLC0415 - not for --help
    from scrjob.supervisor import lostnodes  # noqa: PLC0415 - not for --help

    jobenv = JobEnv(prefix=given.prefix)
    if not os.path.isdir(jobenv.dir_prefix()):
        raise UsageError(
            f"{jobenv.dir_prefix()}: no such directory: name the prefix directory of the job, "
            "by --prefix or SCR_PREFIX"
        )
    nodes = expand_hosts(given.jobset) if given.jobset else jobenv.job_nodes()
    if not nodes:
        raise UsageError("no nodes: name them with --jobset, or run inside an allocation")
    cntldir = given.cntldir or jobenv.dir_control()[0]
    log = SCRLog(jobenv.dir_prefix(), jobenv.job_id(), user=jobenv.user(), param=jobenv.param)

    def warn(line: str) -> None:
        tell(f"scr_scavenge: {printable(line)}")

    with lostnodes.heeded(jobenv, nodes, warn):
        try:
            describe_in_flush_file(jobenv, int(given.id), nodes, cntldir)
        except (ScrError, OSError) as error:  # it only adds to what the flush file says
            warn(f"the flush file is used as it is: {one_line(error)}")
        result = scavenge_dataset(
            jobenv,
            nodes,
            given.id,
            cntldir,
            log=log,
            say=narrate if given.verbose else _silent,
            relocations=given.relocate,
            verify=given.verify,
            flush_ended=given.flush_ended,
            progress=progress(warn),
        )
    prune_after(jobenv, result.dataset_id, narrate if given.verbose else _silent)
    how = f"{len(result.rebuilt)} files rebuilt"
    if result.was_there:
        how = "was complete already"
    elif not result.rebuilt and any(copy.rc == 0 and copy.files is None for copy in result.nodes):
        how = "SCR's own executables do not tell what was rebuilt"
    if result.repaired:
        how += f", among them {len(result.repaired)} that were damaged in cache"
    tell(
        printable(
            f"{result.name}: {result.files} files, {result.bytes} bytes in {jobenv.prefix} ({how})"
        )
    )
    return 0


def _silent(line: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    sys.exit(main())
