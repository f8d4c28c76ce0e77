# SPDX-License-Identifier: BSD-3-Clause
"""scr_inspect: which cached datasets can be recovered, asked from the nodes. Lesson A20: it works."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import pytest

import datapath
from scrjob.commands import scr_inspect
from scrjob.errors import NotSupportedError
from scrjob.remoteexec.remoteexec import RemoteExecResult

if TYPE_CHECKING:
    from pathlib import Path


class Nodes:
    """Runs the real program, each node with its own storage; some do not answer."""

    def __init__(self, case: datapath.Case, scratch: Path) -> None:
        self.where = {node: case.node(node, scratch) for node in datapath.NODES}
        self.dead: List[str] = []
        self.nonsense: Dict[str, str] = {}
        self.asked: List[str] = []
        self.limit = 0.0

    def bounded(self, limit: float) -> Nodes:
        self.limit = limit
        return self

    def rexec(self, argv: Sequence[str], nodes: Sequence[str], jobenv: Any) -> RemoteExecResult:
        result = RemoteExecResult(argv, nodes)
        self.asked += nodes
        for node in nodes:
            root, cntldir = self.where[node]
            if node in self.dead:
                result.set_failure(node, "no answer in time")
                continue
            words = [f"--relocate=/dev/shm={root}/dev/shm", *argv[4:-1], str(cntldir)]
            done = subprocess.run(
                [*argv[:4], *words], capture_output=True, text=True, check=False, timeout=60
            )
            result.append_stdout(node, self.nonsense.get(node, done.stdout))
            result.append_stderr(node, done.stderr)
            result.set_rc(node, done.returncode)
        return result


class Job:
    """What the command makes of a JobEnv."""

    def __init__(self, rexec: Any, prefix: Optional[str]) -> None:
        self.rexec = rexec
        self.prefix = prefix

    def job_nodes(self) -> List[str]:
        return list(datapath.NODES)

    def dir_control(self) -> List[str]:
        return ["/control"]


@pytest.fixture
def nodes(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    found = Nodes(datapath.load(golden("xor_4")), tmp_path)
    monkeypatch.setattr(
        "scrjob.jobenv.JobEnv", lambda prefix=None: Job(found, prefix), raising=True
    )
    return found


def test_all_nodes(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main([]) == 0
    assert capsys.readouterr().out == "1\n"
    assert nodes.asked == list(datapath.NODES)


@pytest.mark.parametrize(
    ("options", "asked", "code"),
    [
        (["-d", "node3"], ["node1", "node2", "node4"], 0),
        (["-d", "node[2-3]"], ["node1", "node4"], 1),
        (["-j", "node[1-4]", "-u", "node[1-3]"], ["node1", "node2", "node3"], 0),
        (["-u", "node[1-3]", "-d", "node1"], ["node2", "node3"], 1),
    ],
)
def test_with_nodes_lost(
    nodes: Nodes,
    options: List[str],
    asked: List[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert scr_inspect.main([*options, "-f", "/c"]) == code
    assert capsys.readouterr().out == ("1\n" if code == 0 else "")
    assert nodes.asked == asked


def test_reasons(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main(["-v", "-d", "node2,node3"]) == 1
    said = capsys.readouterr().err
    assert "1 (ckpt.1): cannot be recovered" in said
    assert "nothing brings back the files of ranks 1, 2" in said
    assert (
        "XOR group 1 of 1 (files): lost member 2 (rank 1), 3 (rank 2) of 4: "
        "more than the scheme tolerates" in said
    )


def test_silence_is_explained(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main(["-d", "node2,node3"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "scr_inspect: no dataset can be recovered, of 1 that nodes have in cache; -v tells why"
    )
    nodes.nonsense = dict.fromkeys(datapath.NODES, '{"datasets": []}')
    assert scr_inspect.main(["-f", "/wrong"]) == 1
    assert capsys.readouterr().err == (
        "scr_inspect: no node that answers has a dataset in cache (control directory /wrong)\n"
    )


def test_json(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main(["--json", "-d", "node3"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (row["id"], row["recoverable"], row["missing"], row["uncovered"]) == (1, True, [2], [])
    assert {
        (g["set"], tuple(g["lost"]), tuple(g["ranks"]), g["tolerated"]) for g in row["groups"]
    } == {
        ("reddesc", (2,), (2,), True),
        ("reddescmap", (2,), (2,), True),
    }


def test_a_node_that_does_not_answer_counts_as_lost(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.dead = ["node1"]
    assert scr_inspect.main([]) == 0
    assert "node node1 does not answer, it counts as lost: no answer in time" in caplog.text
    nodes.dead = ["node1", "node2"]
    assert scr_inspect.main([]) == 1


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"datasets": [{"id": 1}]}', "\0"])
def test_an_answer_of_nonsense(nodes: Nodes, answer: str, caplog: pytest.LogCaptureFixture) -> None:
    nodes.nonsense = {"node1": answer}
    assert scr_inspect.main([]) == 0
    assert "node1: its answer makes no sense" in caplog.text


def test_no_nodes_left(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main(["-d", "node[1-4]"]) == 1
    assert "no nodes are left to ask" in capsys.readouterr().err


def test_bad_relocation(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    assert scr_inspect.main(["--relocate", "x"]) == 1
    assert nodes.asked == []


def test_nodes_that_cannot_be_reached(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_args: Any) -> None:
        raise NotSupportedError("no way to the nodes")

    monkeypatch.setattr(nodes, "rexec", refuse)
    assert scr_inspect.main([]) != 0
    assert "no way to the nodes" in capsys.readouterr().err
