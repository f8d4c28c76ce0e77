# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that do not exist behind an ssh that is a script: it runs the command here, in the node's name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Mapping, Sequence

from scrjob._context import SystemContext
from scrjob.testing import system_context
from scrjob.testing.fakes import FakeJobEnv, FakeParam

NODES = ["n08", "r1n2", "a-b.c"]

SSH = """#!/bin/sh
# ssh [-OPTION]... NODE TEXT: what sshd does with it, on this host.
directory={directory}
printf '%s\\n' "$*" >> "$directory/calls"
while [ $# -gt 2 ]; do
    case $1 in -oConnectTimeout=*) limit=${{1#*=}} ;; esac
    shift
done
if ! grep -qxF -e "$1" "$directory/nodes"; then
    echo "ssh: Could not resolve hostname $1: Name or service not known" >&2
    exit 255
fi
if [ -e "$directory/dead.$1" ]; then
    exec sleep 1000000
fi
if [ -e "$directory/far.$1" ]; then
    sleep "$limit"
    echo "ssh: connect to host $1 port 22: Connection timed out" >&2
    exit 255
fi
printf 'Welcome to %s, 100%% yours' "$1"
echo 'a line of a login script' >&2
node=$1
text=$2
set --
cd /
exec env -i "HOME=$HOME" PATH=/usr/bin:/bin "NODE=$node" {login} "$text"
"""


class SshWorld:
    """A site whose only way to its nodes is ssh.

    Args:
        place: an empty directory.
        kind: the back end's class.
        login: the login shell of the user, with the option that takes a text.
    """

    def __init__(self, place: Path, kind: type[Any], login: Sequence[str] = ("sh", "-c")) -> None:
        self.place = place
        self.kind = kind
        self.nodes = list(NODES)
        self.bin = place / "bin"
        self.bin.mkdir()
        self.ssh = self.bin / "ssh"
        self.ssh.write_text(
            SSH.format(directory=shlex.quote(str(place)), login=shlex.join(login)), "utf-8"
        )
        self.ssh.chmod(0o755)
        self.name(self.nodes)
        self.environ: Mapping[str, str] = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(place),
            "SCR_JOB_NAME": "two words",
            "SCR_LOG_DB_PASS": "secret",
        }
        self.jobenv: Any = self.job()

    def name(self, nodes: Sequence[str]) -> None:
        """Give the world other nodes."""
        self.nodes = list(nodes)
        (self.place / "nodes").write_text("".join(f"{node}\n" for node in nodes), "utf-8")

    def context(self, **environ: str) -> SystemContext:
        return system_context({**self.environ, **environ})

    def job(self, settings: Mapping[str, str] = {}, **environ: str) -> FakeJobEnv:
        return FakeJobEnv(param=FakeParam(settings), context=self.context(**environ))

    def nowhere(self) -> SystemContext:
        return system_context({"PATH": str(self.place)})

    def rexec(self) -> Any:
        plugin = self.kind()
        plugin.bind(self.jobenv.context)
        return plugin

    def whereabouts(self) -> list[str]:
        return ["sh", "-c", 'echo "$NODE"']

    def kill(self, node: str) -> None:
        (self.place / f"dead.{node}").touch()

    def move_away(self, node: str) -> None:
        """Let connections to a node be tried in vain."""
        (self.place / f"far.{node}").touch()

    def calls(self) -> list[str]:
        path = self.place / "calls"
        return path.read_text("utf-8").splitlines() if path.exists() else []
