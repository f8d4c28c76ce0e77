# SPDX-License-Identifier: BSD-3-Clause
"""A whole scavenge by a site's own scr_copy and scr_index: stand-ins that replay recorded cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

import pytest

import datapath
from datapathworld import LIMIT_S, ExecutableWorld
from scrjob._context import system_context
from scrjob.errors import UnrecoverableError
from scrjob.formats import index, paths
from scrjob.model import END_NO_LIMIT
from scrjob.param import Param
from scrjob.remoteexec.remoteexec import RemoteExec, RemoteExecResult
from scrjob.scavenge import scavenge_dataset
from scrjob.testing.fakes import FakeJobEnv

Golden = Callable[[str], Path]


class Nodes(RemoteExec):
    """The nodes of a world. Nobody there knows scrjob's own programs."""

    def __init__(self, world: ExecutableWorld) -> None:
        super().__init__()
        self.world = world
        self.calls: list[list[str]] = []

    def bounded(self, timeout_s: float) -> Nodes:
        return self

    def heeding(self, lost: Any) -> Nodes:
        return self

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            if "cached" in argv:
                result.set_rc(node, 127)
                continue
            self.calls.append(list(argv))
            context = self.world.on(node)
            done = context.runner.run(argv, timeout_s=LIMIT_S, env=context.environ)
            result.append_stdout(node, done.stdout)
            result.append_stderr(node, done.stderr)
            result.set_rc(node, done.returncode)
        return result


class NoLimit:
    def end_time(self) -> int:
        return END_NO_LIMIT


def scavenge(world: ExecutableWorld, nodes: Sequence[str]) -> Any:
    environ = {**world.environ, "SCR_BIN_DIR": str(world.bin_dir)}
    jobenv = FakeJobEnv(
        world.prefix,
        param=Param(environ={}),
        resmgr=NoLimit(),
        rexec=Nodes(world),
        context=system_context(environ),
    )
    done = scavenge_dataset(jobenv, nodes, world.dataset_id, world.cntldir)
    assert {Path(argv[0]).parent for argv in jobenv.rexec.calls} == {world.bin_dir}
    return done


def make(golden: Golden, place: Path, case: str, lost: str) -> ExecutableWorld:
    return ExecutableWorld(datapath.load(golden(case)), lost, place)


@pytest.mark.parametrize(
    ("case", "lost"), [("xor_4", "node3"), ("rs_4", "node2+node3"), ("testapi_single_4", "none")]
)
def test_the_dataset_comes_home(case: str, lost: str, golden: Golden, tmp_path: Path) -> None:
    """A spare node among the others does no harm."""
    world = make(golden, tmp_path, case, lost)
    done = scavenge(world, [*world.nodes, world.spare])
    assert [copy.rc for copy in done.nodes] == [0] * len(world.nodes) + [1]
    for path, data in world.built().items():
        if not path.startswith(".scr/"):
            assert (Path(world.prefix) / path).read_bytes() == data
    listed = index.Index.read(paths.index_file(world.prefix)).entry(world.dataset_id)
    assert listed is not None
    assert listed.is_usable
    assert (done.files, done.bytes) == (listed.descriptor.files, listed.descriptor.size_bytes)


def test_too_much_is_lost_and_the_site_tells(golden: Golden, tmp_path: Path) -> None:
    world = make(golden, tmp_path, "xor_4", "node2+node3")
    with pytest.raises(UnrecoverableError, match="is not complete"):
        scavenge(world, world.nodes)
    assert not Path(paths.summary_file(world.prefix, world.dataset_id)).exists()
    assert not Path(paths.index_file(world.prefix)).exists()
