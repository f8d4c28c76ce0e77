# SPDX-License-Identifier: BSD-3-Clause
"""A prefix directory that nodes do not see is found before the first run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import pytest

from scripted_cluster import Cluster, Exec
from scrjob.errors import ConfigError
from scrjob.list_down_nodes import list_down_nodes
from scrjob.nodetests.prefix import note_blind, noted_blind
from scrjob.prerun import prerun
from scrjob.remoteexec import RemoteExecResult
from scrjob.remoteexec.trial import LOOKS, UNSEEN, question
from scrjob.testing.fakes import FakeJobEnv

NODES = ["n1", "n2", "n3", "n4"]


class Nodes(Exec):
    """Nodes of which some do not see the marker, the first so many times that they are asked."""

    def __init__(
        self, cluster: Cluster, blind: Mapping[str, int], hosts: Mapping[str, str]
    ) -> None:
        super().__init__(cluster)
        self.blind = dict(blind)
        self.hosts = hosts
        self.markers: list[Path] = []
        self.asked: list[list[str]] = []

    def rexec(self, argv: Any, nodes: Any, jobenv: Any) -> RemoteExecResult:
        if "condition" not in argv and argv[0] != "echo":
            self.markers.append(Path(argv[-1]))
            self.asked.append(list(nodes))
            assert list(argv) == list(question(argv[-1]))
            assert self.markers[-1].is_file()
        return super().rexec(argv, nodes, jobenv)

    def _says(self, node: str, argv: Any) -> str:
        if argv[0] == "echo":
            return super()._says(node, argv)
        host = self.hosts.get(node, f"host-{node}")
        self.blind[node] = self.blind.get(node, 0) - 1
        return f"{host}\n{UNSEEN}\n" if self.blind[node] >= 0 else f"{host}\n"


Start = Callable[..., tuple[Any, Nodes]]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, NODES, [])


@pytest.fixture
def start(cluster: Cluster) -> Start:
    def job(blind: Mapping[str, int], hosts: Mapping[str, str] = {}) -> tuple[Any, Nodes]:
        jobenv = cluster.jobenv()
        jobenv.rexec = Nodes(cluster, blind, hosts)
        return jobenv, jobenv.rexec

    return job


def never(nodes: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(nodes, 100)


def test_where_all_see_it_they_are_asked_once_and_nothing_is_left(start: Start) -> None:
    jobenv, nodes = start({})
    prerun(jobenv)
    assert nodes.asked == [NODES]
    assert nodes.markers[0].parent == Path(jobenv.dir_scr())
    assert [path.name for path in Path(jobenv.dir_scr()).iterdir()] == ["scrjob.42"]
    assert list_down_nodes(jobenv) == []


def test_a_prefix_that_only_this_host_has_is_refused(start: Start, cluster: Cluster) -> None:
    jobenv, nodes = start(never(NODES))
    message = f"'{cluster.prefix}' of login1 is not seen by 4 of 4 nodes .n.1-4.. .*set SCR_PREFIX"
    with pytest.raises(ConfigError, match=message):
        prerun(jobenv)
    assert nodes.asked == [NODES] * LOOKS
    assert list(Path(jobenv.dir_scr()).iterdir()) == []  # the next start asks again


def test_that_the_batch_host_sees_its_own_directory_proves_nothing(start: Start) -> None:
    jobenv, _ = start(never(NODES[1:]), {"n1": "login1"})
    with pytest.raises(ConfigError, match=r"3 of 4 nodes .n.2-4.. and by no other host"):
        prerun(jobenv)


def test_a_job_on_this_host_alone_is_no_concern_of_others(start: Start, cluster: Cluster) -> None:
    cluster.nodes = ["n1"]
    jobenv, nodes = start({}, {"n1": "login1"})
    prerun(jobenv)
    assert nodes.asked == [["n1"]]


def test_many_names_do_not_make_a_line_that_nobody_reads(start: Start, cluster: Cluster) -> None:
    cluster.nodes = [f"node{number * 7}" for number in range(500)]
    with pytest.raises(ConfigError) as caught:
        prerun(start(never(cluster.nodes))[0])
    assert len(str(caught.value)) < 200 + 300 + len(str(cluster.prefix))


def test_nodes_that_do_not_see_it_are_bad_if_others_do(start: Start, cluster: Cluster) -> None:
    jobenv, _ = start(never(["n2", "n4"]))
    prerun(jobenv)
    reason = f"does not see the prefix directory {str(cluster.prefix)!r}"
    assert list_down_nodes(jobenv, reason=True) == {"n2": reason, "n4": reason}
    again, nodes = start({})
    prerun(again)  # another supervisor of the same start
    assert nodes.asked == []
    assert list_down_nodes(again) == ["n2", "n4"]
    cluster.restart_count = lambda: 1  # type: ignore[method-assign]
    requeued, _ = start({})
    prerun(requeued)
    assert list_down_nodes(requeued) == []


def test_a_file_server_may_be_late(start: Start, cluster: Cluster) -> None:
    jobenv, nodes = start({"n2": 1, "n3": 2})
    prerun(jobenv)
    assert nodes.asked == [NODES, ["n2", "n3"], ["n3"]]
    assert list_down_nodes(jobenv) == []


def test_a_silent_node_is_not_one_that_does_not_see_it(start: Start, cluster: Cluster) -> None:
    cluster.silent.add("n2")
    jobenv, nodes = start(never(["n2"]))
    prerun(jobenv)
    assert nodes.asked == [NODES]
    assert noted_blind(jobenv.dir_job()) == ()


def test_a_full_file_system_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    jobenv = cluster.jobenv()
    Path(jobenv.dir_scr()).mkdir()
    monkeypatch.setattr("scrjob.supervisor.sharing.os.open", full)
    with pytest.raises(ConfigError, match=r"\.scr' cannot be written: No space left on device"):
        prerun(jobenv)


@pytest.mark.parametrize("text", ["", "[", "7", '{"n1": 1', '"n1"'])
def test_a_note_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "blind_nodes.json").write_text(text, "ascii")
    assert noted_blind(str(tmp_path)) == ()


def test_odd_names_are_kept(tmp_path: Path) -> None:
    note_blind(str(tmp_path), ["a b\n", "\udcff"])
    assert noted_blind(str(tmp_path)) == {"a b\n", "\udcff"}
    note_blind(str(tmp_path), [])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="cannot be written"):
        note_blind(str(tmp_path / "nowhere"), ["n1"])


def test_without_a_prerun_nobody_is_blind() -> None:
    assert noted_blind(FakeJobEnv().dir_job()) == ()
