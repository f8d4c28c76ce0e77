# SPDX-License-Identifier: BSD-3-Clause
"""``scr_inspect``: which cached datasets could be recovered from the nodes that are up.

Prints their ids, newest first. Exit code 0: there is one; 1: there is none, or the call is wrong.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.commands._shared import (
    EXIT_FAILURE,
    add_prefix,
    add_verbose,
    make_parser,
    printable,
    run_command,
    tell,
)
from scrjob.errors import UsageError

if TYPE_CHECKING:
    from scrjob.inspection import Inspected

PROG = "scr_inspect"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = make_parser(PROG, "Tell which cached datasets can be recovered; copies nothing.")
    parser.add_argument("-j", "--jobset", metavar="NODES", help="nodes (default: those of the job)")
    parser.add_argument("-u", "--up", metavar="NODES", help="nodes that are up (default: all)")
    parser.add_argument("-d", "--down", metavar="NODES", help="nodes that are lost, or would be")
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
    parser.add_argument("--json", action="store_true", help="all datasets, with reasons, as JSON")
    add_prefix(parser)
    add_verbose(parser)
    given = parser.parse_args(argv)

    from scrjob.hostlist import expand_hosts  # noqa: PLC0415 - not for --help
    from scrjob.inspection import recoverable  # noqa: PLC0415 - same
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same
    from scrjob.redundancy.paths import parse_relocation  # noqa: PLC0415 - same

    jobenv = JobEnv(prefix=given.prefix)
    nodes = expand_hosts(given.jobset) if given.jobset else jobenv.job_nodes()
    up = expand_hosts(given.up) if given.up else nodes
    down = set(expand_hosts(given.down)) if given.down else set()
    known = set(nodes)
    asked = [node for node in up if node not in down and (not known or node in known)]
    if not asked:
        raise UsageError(
            "no nodes are left to ask: name them with --jobset, or run inside an allocation"
        )
    for move in given.relocate:
        parse_relocation(move)
    directories = [given.cntldir] if given.cntldir else []
    found = recoverable(jobenv, asked, *directories, relocations=given.relocate)
    good = [str(number) for number, one in found.items() if one.recoverable]
    if given.json:
        print(_json(found))
    else:
        if given.verbose:
            for one in found.values():
                _explain(one)
        if good:
            print(" ".join(good))
    if not good:
        where = given.cntldir or jobenv.dir_control()[0]
        tell(f"{PROG}: {printable(_nothing(found, where, verbose=given.verbose))}")
    return 0 if good else EXIT_FAILURE


def _nothing(found: dict[int, Inspected], cntldir: str, *, verbose: bool) -> str:
    """Return a line that says why nothing can be recovered."""
    if not found:
        return f"no node that answers has a dataset in cache (control directory {cntldir})"
    hint = "" if verbose else "; -v tells why"
    return f"no dataset can be recovered, of {len(found)} that nodes have in cache{hint}"


def _explain(one: Inspected) -> None:
    """Print a line for a dataset and one for each reason."""
    name = one.details.name or "no name"
    can = "can be recovered" if one.recoverable else "cannot be recovered"
    print(printable(f"{one.id} ({name}): {can}"), file=sys.stderr)
    for reason in one.reasons():
        print(printable(f"  {reason}"), file=sys.stderr)


def _json(found: dict[int, Inspected]) -> str:
    import json  # noqa: PLC0415 - for this only

    rows = [
        {
            "id": one.id,
            "name": one.details.name,
            "checkpoint": one.details.is_ckpt,
            "output": one.details.is_output,
            "recoverable": one.recoverable,
            "missing": one.verdict.missing if one.verdict else None,
            "uncovered": one.verdict.uncovered if one.verdict else None,
            "reasons": one.reasons(),
            "groups": [
                {
                    "set": group.view.set_name,
                    "type": group.view.descriptor.type,
                    "group": group.view.descriptor.group,
                    "groups": group.view.descriptor.groups,
                    "members": group.view.descriptor.ranks,
                    "lost": group.lost,
                    "ranks": [group.view.ranks.get(i) for i in group.lost],
                    "tolerated": group.tolerated,
                }
                for group in (one.verdict.groups if one.verdict else ())
            ],
        }
        for one in found.values()
    ]
    return json.dumps({"datasets": rows}, indent=1)


if __name__ == "__main__":
    sys.exit(main())
