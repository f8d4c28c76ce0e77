# SPDX-License-Identifier: BSD-3-Clause
"""``scr_local``: an allocation of virtual nodes on this machine, and the faults to try things with.

Exit codes: ``alloc`` ends with the code of its command (128+N for signal N), 126 or 127 if that
cannot be started, 69 if a node cannot be booted or the manager was killed; ``exec`` with that of
its program, 69 if the node cannot run it; 64 for a usage error, 78 where there is no allocation
(any more), 1 for other failures.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import TYPE_CHECKING, Any, Optional, Sequence

from scrjob.commands._shared import complain, environ, make_parser, printable, run_command
from scrjob.errors import NotInAllocationError, UsageError

if TYPE_CHECKING:
    import argparse

    from scrjob.localrm.client import Allocation, Status

PROG = "scr_local"
EXIT_USAGE = 64
EXIT_NO_NODE = 69
SECONDS_PER_MINUTE = 60
DEFAULT_NODES = 4
FAULTS = {
    "fail": "kill nodes: their processes and their storage are gone",
    "hang": "stop all processes of nodes; they keep their storage and answer nobody",
    "wipe": "remove all files of the nodes' own storage",
    "revive": "let stopped nodes go on, boot dead ones anew (with empty storage)",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv, usage_exit=EXIT_USAGE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    import argparse  # noqa: PLC0415 - costs 10 ms

    parser = make_parser(
        PROG,
        "Virtual nodes on this machine, each with its own processes, host name, /tmp, /dev/shm and "
        "cache directories, without root and without a scheduler.",
        usage_exit=EXIT_USAGE,
    )
    commands = parser.add_subparsers(dest="do", metavar="COMMAND", required=True)

    alloc = commands.add_parser(
        "alloc",
        help="make an allocation and run a command in it",
        description="Boot nodes, run COMMAND (default: your shell) here with SCR_LOCAL_* set, and end "
        "the nodes when it ends. Its exit code is that of COMMAND.",
    )
    number = alloc.add_mutually_exclusive_group()
    number.add_argument(
        "-N",
        "--nodes",
        type=int,
        metavar="COUNT",
        help=f"number of nodes (default: {DEFAULT_NODES})",
    )
    number.add_argument("-w", "--nodelist", metavar="NAMES", help="names of the nodes, with commas")
    alloc.add_argument("-t", "--time", metavar="MINUTES", help="end after so many minutes")
    alloc.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="at the time limit, from TERM to KILL of COMMAND (default: 30)",
    )
    alloc.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="DIR",
        help="keep this directory visible on the nodes although it lies below their own storage; "
        "the current directory, HOME and SCR_PREFIX always are",
    )
    alloc.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="DIR",
        help="give each node its own file system here; /tmp, /dev/shm, SCR_CACHE_BASE and "
        "SCR_CNTL_BASE always are",
    )
    alloc.add_argument(
        "--storage-size",
        default="",
        metavar="SIZE",
        help="limit of each such file system, e.g. 64m",
    )
    alloc.add_argument(
        "--no-namespaces",
        action="store_true",
        help="plain directories for nodes, as where the kernel refuses namespaces",
    )
    alloc.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")

    status = commands.add_parser("status", help="show the allocation and its nodes")
    status.add_argument(
        "--json", action="store_true", help="as JSON, one object for each allocation"
    )
    _add_job(status)
    for name, text in FAULTS.items():
        fault = commands.add_parser(name, help=text, description=f"Really {text}.")
        fault.add_argument("node", nargs="+", metavar="NODE")
        _add_job(fault)
    limit = commands.add_parser("limit", help="change when the allocation ends")
    limit.add_argument("minutes", metavar="MINUTES|none", help="from now on")
    _add_job(limit)
    execute = commands.add_parser("exec", help="run a program on one node")
    execute.add_argument("node", metavar="NODE")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM ...")
    _add_job(execute)
    return parser


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-j",
        "--job",
        metavar="JOBID",
        help="which allocation (default: that around us, else the only one)",
    )


def _run(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    if options.do == "alloc":
        return _alloc(options)
    if options.do == "status":
        return _status(options)
    if options.do == "limit":
        return _limit(options)
    if options.do == "exec":
        return _exec(options)
    return _fault(options)


def _alloc(options: argparse.Namespace) -> int:
    from scrjob._context import system_context  # noqa: PLC0415 - brings in subprocess
    from scrjob.localrm import front  # noqa: PLC0415 - only for this word

    context = system_context()
    if options.nodelist is not None:
        nodes = options.nodelist.split(",")
    else:
        count = DEFAULT_NODES if options.nodes is None else options.nodes
        nodes = front.node_names(count, context.hostname)
    wish = front.Wish(
        nodes=nodes,
        command=_words(options.command),
        limit_s=None if options.time is None else _minutes(options.time),
        grace_s=options.grace,
        share=options.share,
        storage=options.storage,
        storage_size=options.storage_size,
        namespaces=not options.no_namespaces,
    )
    return front.allocate(wish, context, lambda line: complain(PROG, line))


def _words(command: list[str]) -> list[str]:
    return command[1:] if command[:1] == ["--"] else command


def _minutes(text: str) -> float:
    """Return seconds for a number of minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise UsageError(f"{text!r} is no number of minutes above 0")
    return minutes * SECONDS_PER_MINUTE


def _allocations(job: Optional[str]) -> list[Allocation]:
    """Return the allocation meant: named, around us, else all of this user that can be found."""
    from scrjob.localrm import directory  # noqa: PLC0415 - not needed for --help
    from scrjob.localrm.client import Allocation  # noqa: PLC0415 - same

    env = environ()
    if job is None and env.get(directory.DIR_VARIABLE):
        return [Allocation.of_environment(env)]
    base = directory.base_directory(env, os.getuid())
    paths = directory.known(base, os.getuid())
    if job is not None:
        paths = [path for path in paths if os.path.basename(path) == job]
        if not paths:
            raise NotInAllocationError(f"no allocation {job!r} of yours on this machine")
    found = []
    for path in paths:
        try:
            found.append(Allocation(path))
        except NotInAllocationError:  # made or removed at this moment
            continue
    if not found:
        raise NotInAllocationError(
            "no allocation of yours on this machine; make one: scr_local alloc"
        )
    return found


def _the_allocation(job: Optional[str]) -> Allocation:
    """Return the one living allocation that is meant."""
    found = _allocations(job)
    if len(found) > 1:
        found = [allocation for allocation in found if allocation.status().ended is None]
    if len(found) != 1:
        ids = ", ".join(allocation.info.job_id for allocation in found) or "all have ended"
        raise UsageError(f"which allocation? name it with -j: {ids}")
    return found[0]


def _status(options: argparse.Namespace) -> int:
    found = [allocation.status() for allocation in _allocations(options.job)]
    for status in found:
        if options.json:
            print(json.dumps(_as_json(status)))
        else:
            _show(status)
    return 0 if any(status.ended is None for status in found) else NotInAllocationError.exit_code


def _as_json(status: Status) -> dict[str, Any]:
    info = status.info
    return {
        "job_id": info.job_id,
        "state": "running" if status.ended is None else "ended",
        "why_ended": status.ended,
        "host": info.host,
        "directory": status.path,
        "private_storage": info.private,
        "storage": info.storage,
        "began": info.began,
        "end": status.end,
        "manager": status.manager,
        "command": status.command,
        "nodes": [node._asdict() for node in status.nodes],
        "steps": [
            {"id": name, "nodes": nodes, "command": words} for name, nodes, words in _steps(status)
        ],
    }


def _steps(status: Status) -> list[tuple[str, list[str], list[str]]]:
    """Return id, nodes and command of the steps that run."""
    from scrjob.localrm import steps  # noqa: PLC0415 - only for this word

    return [
        (
            steps.name(step),
            list(dict.fromkeys(steps.read_plan(step).nodes)),
            [os.fsdecode(word) for word in steps.read_words(step)],
        )
        for step in steps.running(status.path)
    ]


def _show(status: Status) -> None:
    info = status.info
    if status.ended is not None:
        print(f"allocation {info.job_id} on {info.host} has ended: {status.ended}")
        return
    storage = "private" if info.private else "plain directories, not private"
    end = "no time limit" if status.end is None else f"ends at {_clock_time(status.end)}"
    print(f"allocation {info.job_id} on {info.host}: {end}; storage: {storage}")
    width = max(len(node.name) for node in status.nodes)
    for node in status.nodes:
        why = f"  since {_clock_time(node.since)}: {node.reason}" if node.reason else ""
        print(f"{node.name:<{width}}  {node.state}{why}")
    for name, nodes, words in _steps(status):
        print(printable(f"step {name} on {','.join(nodes)}: {' '.join(words)}"))


def _clock_time(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def _limit(options: argparse.Namespace) -> int:
    seconds = None if options.minutes == "none" else _minutes(options.minutes)
    _show(_the_allocation(options.job).set_limit(seconds))
    return 0


def _fault(options: argparse.Namespace) -> int:
    from scrjob.localrm import directory, faults  # noqa: PLC0415 - only for these words

    allocation = _the_allocation(options.job)
    deed = {
        "fail": faults.fail,
        "hang": faults.hang,
        "wipe": faults.wipe,
        "revive": faults.revive,
    }[options.do]
    for node in options.node:
        deed(allocation, node)
        if not options.job and not environ().get(directory.DIR_VARIABLE):
            # From outside: whose node it was should not stay in the dark.
            complain(PROG, f"{options.do} {node} of allocation {allocation.info.job_id}")
    return 0


def _exec(options: argparse.Namespace) -> int:
    command = _words(options.command)
    if not command:
        raise UsageError("exec: no program given")
    allocation = _the_allocation(options.job)
    program = allocation.start(
        options.node, command, environ=environ(), cwd=os.getcwd(), streams=(0, 1, 2)
    )
    try:
        while not program.over:
            poll = select.poll()
            poll.register(program, select.POLLIN | (select.POLLOUT if program.unsent else 0))
            poll.poll()
            program.advance()
    finally:
        program.close()
    if program.code is None:
        complain(PROG, f"{options.node}: {program.failure}")
        return EXIT_NO_NODE
    return program.code
