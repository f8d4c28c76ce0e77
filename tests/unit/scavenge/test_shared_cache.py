# SPDX-License-Identifier: BSD-3-Clause
"""A cache that several nodes see: one copies, the next ones bring what it could not, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import pytest

from cachedworld import Cached, CachedNodes, cached_job
from copynode import Node
from scripted_cluster import Cluster
from scrjob.errors import UnrecoverableError
from scrjob.node.copy import CopyOptions, copy_dataset
from scrjob.remoteexec import RemoteExecResult
from scrjob.scavenge import ScavengeResult, scavenge_dataset

NODES = ("n1", "n2", "n3", "n4")
DATASET = Cached(5, files=2, size=8)


class SharedCache(CachedNodes):
    """Nodes that see one real cache; ``blind`` ones do not see its file ``b``, ``dead`` ones are silent."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        super().__init__(cluster, [DATASET])
        self.token = lambda _node: "one"
        self.node = node
        self.blind: set[str] = set()
        self.dead: set[str] = set()
        self.copied: list[tuple[str, int]] = []  # node, and how many files it need not copy
        self.lost: Optional[Callable[[], Sequence[str]]] = None

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
        if "copy" not in argv:
            return super().rexec(argv, nodes, jobenv)
        self.argv[:] = argv
        result = RemoteExecResult(argv, nodes)
        for node in nodes:
            if node in self.dead:
                result.set_failure(node, "dead")
                continue
            self._copy_for_real(result, node, argv)
        return result

    def _copy_for_real(self, result: RemoteExecResult, node: str, argv: Sequence[str]) -> None:
        unseen = self.node.cache / "b"
        away = unseen.rename(unseen.with_name("away")) if node in self.blind else None
        lines: list[str] = []
        done = copy_dataset(
            str(self.node.cntl),
            5,
            str(self.node.prefix),
            host=node,
            clock=self.cluster.clock,
            emit=lines.append,
            options=CopyOptions(resume="--resume" in argv, shared="--shared" in argv),
        )
        if away is not None:
            away.rename(unseen)
        self.copied.append((node, done.skipped))
        report = {**done._asdict(), "crc": done.crcs}
        result.append_stdout(node, "\n".join([*lines, json.dumps(report)]))
        result.set_rc(node, done.rc)


class World:
    """A job on nodes with one cache, in which is a dataset of two files of one rank."""

    def __init__(self, tmp_path: Path) -> None:
        node = Node(tmp_path)
        cluster = Cluster(node.prefix, NODES, [])
        for name in ("a", "b"):
            node.add(name, b"1234", ranks=1)
        self.env, _ = cached_job(cluster, [DATASET])
        self.nodes = SharedCache(cluster, node)
        self.env.rexec = self.nodes

    def scavenge(self) -> ScavengeResult:
        return scavenge_dataset(self.env, NODES, 5, str(self.nodes.node.cntl))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def told(done: ScavengeResult) -> list[tuple[Any, ...]]:
    return [(copy.node, copy.rc, copy.files, copy.shares) for copy in done.nodes]


def test_next_node_brings_what_the_first_could_not(world: World) -> None:
    """One file cannot be read on that node. The next one copies that file and no other."""
    world.nodes.blind = {"n1"}
    done = world.scavenge()
    assert world.nodes.copied == [("n1", 0), ("n2", 2)]
    assert told(done) == [
        ("n1", 1, 0, ""),
        ("n2", 0, 2, ""),
        ("n3", 0, 0, "n2"),
        ("n4", 0, 0, "n2"),
    ]
    assert (done.files, done.bytes, done.copied_bytes) == (2, 8, 8)
    assert "Do not have read access" in done.nodes[0].errors[0]


def test_what_two_nodes_cannot_copy_is_not_tried_on_all(world: World) -> None:
    """A thousand nodes may see that cache; a dead one is no proof of anything."""
    world.nodes.blind, world.nodes.dead = {"n1", "n3"}, {"n2"}
    with pytest.raises(UnrecoverableError, match="n1: Do not have read access"):
        world.scavenge()
    assert [node for node, _ in world.nodes.copied] == ["n1", "n3"]


def test_next_start_by_another_node_copies_nothing_twice(world: World) -> None:
    """The first node has died since."""
    world.nodes.blind = set(NODES)
    with pytest.raises(UnrecoverableError):
        world.scavenge()
    world.nodes.copied.clear()
    world.nodes.blind, world.nodes.dead = set(), {"n1", "n2"}
    done = world.scavenge()
    assert world.nodes.copied == [("n3", 2)]
    assert told(done)[2:] == [("n3", 0, 2, ""), ("n4", 0, 0, "n3")]


def test_node_that_is_known_to_be_lost_is_not_tried(world: World) -> None:
    world.nodes.lost = lambda: ("n1",)
    done = world.scavenge()
    assert world.nodes.copied == [("n2", 0)]
    assert done.nodes[0].errors == ("the node was lost before it was to copy",)


def test_caches_of_their_own_heed_no_other_nodes(world: World) -> None:
    """Each node would read the journals of all."""
    world.nodes.token = lambda node: f"{node}'s"
    world.scavenge()
    assert "--shared" not in world.nodes.argv
