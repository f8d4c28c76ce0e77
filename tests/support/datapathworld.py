# SPDX-License-Identifier: BSD-3-Clause
"""Worlds of ``DataPathContract``: a recorded case, by our own code or by stand-ins for the real tools."""

from __future__ import annotations

import functools
import os
import re
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import datapath
import goldentools
from archives import unpack
from scrjob import cli
from scrjob._context import SystemContext, system_context
from scrjob.cli.scr_copy import CopyReport, without_report
from scrjob.remoteexec.remoteexec import RemoteExecResult

LIMIT_S = 60.0


class World:
    """A case with some nodes lost; ``classes`` replaces classes of ``scrjob.cli`` by others."""

    spare = "node9"

    def __init__(self, case: datapath.Case, lost: str, place: Path, **classes: type) -> None:
        self.case = case
        self.lost = lost
        self.place = place
        self.classes = classes
        self.dataset_id = case.dataset
        self.prefix = str(case.unpack("prefix_0_before", place / "a prefix"))
        self.recorded = goldentools.copy_answers(case.home, lost)
        self.nodes = list(self.recorded)
        build = goldentools.answers((case.home / f"build_lost_{lost}.log").read_text())
        self.is_covered = build[0][-1] == "[exit 0]"

    def put_copies(self) -> None:
        self._unpack(f"prefix_1_copied_lost_{self.lost}", self.prefix)

    def recorded_lines(self, node: str) -> List[str]:
        return self.recorded[node][:-1]

    def copied(self) -> Dict[str, bytes]:
        return self._files(f"prefix_1_copied_lost_{self.lost}")

    def built(self) -> Dict[str, bytes]:
        return self._files(f"prefix_2_built_lost_{self.lost}")

    def copy(self, node: str) -> Tuple[CopyReport, List[str]]:
        copy = self.make("SCRCopy")
        argv = self.copy_command(copy, node)
        done = self.on(node).runner.run(argv, timeout_s=LIMIT_S, env=self.on(node).environ)
        result = RemoteExecResult(argv, [node])
        result.append_stdout(node, done.stdout)
        result.append_stderr(node, done.stderr)
        result.set_rc(node, done.returncode)
        said = without_report(done.stdout).replace(f": {os.uname().nodename}: ", f": {node}: ")
        return copy.report(result, node), said.splitlines()

    def make(self, name: str) -> Any:
        raise NotImplementedError

    def index(self) -> Any:
        raise NotImplementedError

    def copy_command(self, copy: Any, node: str) -> List[str]:
        raise NotImplementedError

    def on(self, node: str) -> SystemContext:
        raise NotImplementedError

    def _class(self, name: str) -> Any:
        return self.classes.get(name, getattr(cli, name))

    def _unpack(self, name: str, target: str) -> None:
        with tarfile.open(self.case.home / f"{name}.tar") as archive:
            unpack(archive, target)

    def _files(self, name: str) -> Dict[str, bytes]:
        with tarfile.open(self.case.home / f"{name}.tar") as archive:
            found = {}
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    found[os.path.normpath(member.name)] = stream.read()
        return found


class NativeWorld(World):
    """Our own code; where things really lie it is told, for the case was recorded elsewhere."""

    def make(self, name: str) -> Any:
        return self._class(name)(self.prefix, bin_dir="")

    def index(self) -> Any:
        made = self.make("SCRIndex")
        move = f"{self.case.recorded_prefix}={self.prefix}"
        made._native.build = functools.partial(made._native.build, relocations=[move])
        return made

    def copy_command(self, copy: Any, node: str) -> List[str]:
        place = self.place / "caches"
        if node == self.spare:
            place.mkdir()
            return copy.command(str(place), self.dataset_id)
        root, cntldir = self.case.node(node, place)
        moves = [f"{move.old}={move.new}" for move in self.case.moves(Path(self.prefix), root)]
        return copy.command(str(cntldir), self.dataset_id, relocations=moves)

    def on(self, node: str) -> SystemContext:
        return system_context()


class ExecutableWorld(World):
    """The site's executables, played from the recordings."""

    def __init__(self, case: datapath.Case, lost: str, place: Path, **classes: type) -> None:
        super().__init__(case, lost, place, **classes)
        _, cntldir = case.node(self.nodes[0], place / "cache")
        self.cntldir = "/" + str(cntldir.relative_to(place / "cache" / self.nodes[0]))
        plan = {
            "case": str(case.home),
            "lost": lost,
            "prefix": self.prefix,
            "recorded_prefix": case.recorded_prefix,
            "dataset": case.dataset,
            "cntldir": self.cntldir,
            "bin_dir": str(place / "bin"),
            "ranks": {node: self._ranks_of(node) for node in self.nodes},
        }
        self.bin_dir = place / "bin"
        self.environ = {**os.environ, **goldentools.install(self.bin_dir, plan)}

    def _ranks_of(self, node: str) -> List[str]:
        with tarfile.open(self.case.home / f"cache_{node}.tar") as archive:
            return re.findall(r"/filemap_(\d+)$", "\n".join(archive.getnames()), re.MULTILINE)

    def make(self, name: str) -> Any:
        context = system_context(self.environ)
        return self._class(name)(self.prefix, context=context, bin_dir=str(self.bin_dir))

    def index(self) -> Any:
        return self.make("SCRIndex")

    def copy_command(self, copy: Any, node: str) -> List[str]:
        return copy.command(self.cntldir, self.dataset_id)

    def on(self, node: str) -> SystemContext:
        return system_context({**self.environ, goldentools.NODE: node})
