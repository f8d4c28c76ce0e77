# SPDX-License-Identifier: BSD-3-Clause
"""The rig by hand: ``python -m tests.cluster.rig up --nodes 5``, then ``exec``, ``kill`` and so on."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from typing import Optional, Sequence

from . import LOGIN, Rig, RigError

DEFAULT_DIR = os.path.join(tempfile.gettempdir(), f"scrjob-rig-{os.getuid()}")
HOST_VERBS = ("kill", "hang", "resume", "cut", "join", "slow", "fast", "fill", "empty", "revive")


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="rig", description="A Slurm cluster on this machine.")
    parser.add_argument(
        "--dir", default=DEFAULT_DIR, help="shared by all hosts (default: %(default)s)"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="bring it up; it stays until down")
    up.add_argument("--nodes", type=int, default=5)
    up.add_argument("--cpus", type=int, default=4, help="of each node (default: 4)")
    for verb in HOST_VERBS:
        verbs.add_parser(verb).add_argument("host", nargs="+")
    run = verbs.add_parser("exec", help="run a command on a host; login has salloc and sbatch")
    run.add_argument("host")
    run.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("status", help="what Slurm says of the nodes")
    verbs.add_parser("down", help="end it, and leave nothing")
    arguments = parser.parse_args(argv)
    try:
        return _act(arguments)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1


def _act(arguments: argparse.Namespace) -> int:
    if arguments.verb == "up":
        rig = Rig(arguments.dir, arguments.nodes, cpus=arguments.cpus).up(stay=True)
        print(f"up: {LOGIN}, {rig.plan.names[0]} to {rig.plan.names[-1]}; shared: {rig.directory}")
        return 0
    rig = Rig.attach(arguments.dir)
    if arguments.verb == "exec":
        streams = {"stdin": None, "stdout": None, "stderr": None, "start_new_session": False}
        running = rig.start(arguments.host, arguments.command or ["bash"], **streams)
        while True:
            try:
                return running.popen.wait()
            except KeyboardInterrupt:  # the command got it too, and decides
                continue
    if arguments.verb == "status":
        for host, state in rig.states().items():
            print(host, state)
    elif arguments.verb == "down":
        rig.down()
        if rig.directory == os.path.realpath(DEFAULT_DIR):
            with contextlib.suppress(OSError):  # somebody left results in it
                os.rmdir(rig.directory)
    else:
        for host in arguments.host:
            getattr(rig, arguments.verb)(host)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(f"rig: {error}")
