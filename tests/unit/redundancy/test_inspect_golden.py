# SPDX-License-Identifier: BSD-3-Clause
"""Inspect on caches that SCR wrote: its answer is what the real build said of the same losses."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Dict, List

import pytest

import datapath
from scrjob.commands import scr_inspect_cache
from scrjob.inspection import checked, decide
from scrjob.node import inspect

if TYPE_CHECKING:
    from pathlib import Path

LINE = re.compile(
    r"DSET=\d+ RANK=\d+ TYPE=(SINGLE|PARTNER|XOR|RS) GROUPS=\d+ GROUP_ID=\d+ GROUP_SIZE=\d+ "
    r"GROUP_RANK=\d+ FILES=1"
)


def words(case: datapath.Case, root: Path, prefix: Path) -> List[str]:
    return [f"--relocate={move.old}={move.new}" for move in case.moves(prefix, root)]


def say(argv: List[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert inspect.main(argv) == 0
    assert err.getvalue() == ""
    return out.getvalue()


def rows_of(case: datapath.Case, nodes: List[str], scratch: Path) -> List[Dict[str, Any]]:
    prefix = case.unpack("prefix_0_before", scratch / "prefix")
    rows = []
    for node in nodes:
        root, cntldir = case.node(node, scratch)
        rows += json.loads(say([*words(case, root, prefix), "--json", str(cntldir)]))["datasets"]
    return rows


@pytest.mark.parametrize(("name", "lost"), [*datapath.GOOD_CASES, *datapath.HOPELESS_CASES])
def test_the_answer_is_the_outcome_of_the_real_build(name, lost, golden, tmp_path) -> None:
    case = datapath.load(golden(name))
    code = int((case.home / f"build_lost_{lost}.log").read_text().rsplit("[exit ", 1)[1][:-2])
    found = decide(map(checked, rows_of(case, datapath.survivors(lost), tmp_path)))
    answer = found[case.dataset]
    assert answer.recoverable == (code == 0), answer.reasons()
    assert bool(answer.reasons()) == (lost != "none")


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_nodes_with_the_same_rank_the_whole_one_counts(golden, tmp_path, turn) -> None:
    case = datapath.load(golden("xor_8"))
    rows = rows_of(case, datapath.survivors("none"), tmp_path)
    less = json.loads(json.dumps(rows))
    for row in less:
        for rank in row["ranks"]:
            rank.update(whole=False, filemap=False, sets={})
    found = decide(map(checked, [*rows, *less][::turn]))
    assert found[case.dataset].recoverable


def test_the_established_line(golden, tmp_path, capsys) -> None:
    case = datapath.load(golden("rs_8"))
    prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
    root, cntldir = case.node("node2", tmp_path)
    argv = [*words(case, root, prefix), str(cntldir / "cindex.scrinfo")]
    assert scr_inspect_cache.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(LINE.fullmatch(line) for line in lines)
    # Ranks 2 and 3 are on node 2 of 4, with two ranks a node.
    assert lines[0].startswith(f"DSET={case.dataset} RANK=2 TYPE=RS GROUPS=2 GROUP_ID=0 ")
    assert lines[0].endswith("GROUP_SIZE=4 GROUP_RANK=1 FILES=1")


def test_a_rank_whose_file_is_cut_has_no_line(golden, tmp_path, capsys) -> None:
    case = datapath.load(golden("xor_8"))
    prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
    root, cntldir = case.node("node2", tmp_path)
    victim = next(
        path
        for path in root.rglob("*")
        if path.is_file() and path.parent.name[:3] == "scr" and path.name != "cindex.scrinfo"
    )
    victim.write_bytes(b"")
    assert scr_inspect_cache.main([*words(case, root, prefix), str(cntldir)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("argv", [[], ["--json"], ["--nonsense", "/"], ["--help"]])
def test_usage(argv, capsys) -> None:
    assert scr_inspect_cache.main(argv) == 1
    assert "Usage: scr_inspect_cache" in capsys.readouterr().out


def test_bad_relocation(capsys) -> None:
    assert scr_inspect_cache.main(["--relocate=x", "/"]) == 1
    assert "expected OLD=NEW" in capsys.readouterr().err


def test_nothing_and_damage(tmp_path, capsys) -> None:
    (tmp_path / "c").mkdir(mode=0o700)
    assert scr_inspect_cache.main([str(tmp_path / "c")]) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "c" / "cindex.scrinfo").write_bytes(b"x" * 30)
    assert scr_inspect_cache.main([str(tmp_path / "c")]) == 1
    assert "cindex.scrinfo" in capsys.readouterr().err
    (tmp_path / "c").chmod(0o777)
    assert scr_inspect_cache.main([str(tmp_path / "c")]) == 1
    assert "anybody may write it" in capsys.readouterr().err


def test_what_is_named_must_be_there(tmp_path, capsys) -> None:
    for path in (tmp_path / "NOFILE", tmp_path / "no" / "cindex.scrinfo"):
        assert scr_inspect_cache.main([str(path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"scr_inspect_cache: {str(path)!r}: No such file or directory\n"
    # Of a node that has lost its control directory that is no news.
    for absent in (tmp_path / "NOFILE", tmp_path / "no" / "control"):
        assert scr_inspect_cache.main(["--json", str(absent)]) == 0
        assert capsys.readouterr() == ('{"datasets": []}\n', "")
