# SPDX-License-Identifier: BSD-3-Clause
"""Build and rebuild against what the real tools made of the same losses, byte for byte."""

from __future__ import annotations

import re

import pytest

import datapath
from scrjob.formats import index, kvtree, rank2file
from scrjob.redundancy.build import build_dataset

NOW = 1_800_000_000.0
OWN_ORDER = (r"\.scr/index\.scr", r"\.scr/scr\.dataset\.\d+/(rank2file.*|summary\.scr)")


def build(case, prefix, **options):
    lines: list[str] = []
    done = build_dataset(
        str(prefix),
        case.dataset,
        now=NOW,
        host="vm",
        on_message=lines.append,
        moves=case.moves(prefix),
        **options,
    )
    return done, lines


def recorded_lines(case, lost, prefix):
    """What the C tool said: without its source lines, and with our name of the rebuild command."""
    text = (case.home / f"build_lost_{lost}.log").read_text()
    text = re.sub(r" @ \S+:\d+\n", "\n", text).replace("/opt/scr/libexec/", "")
    text = text.replace(case.recorded_prefix, str(prefix))
    *lines, code = text.splitlines()
    return lines, int(re.search(r"\d+", code)[0])


@pytest.mark.parametrize(("name", "lost"), datapath.GOOD_CASES)
def test_result_is_that_of_the_c_tool(name, lost, golden, tmp_path):
    case = datapath.load(golden(name))
    prefix = case.unpack(f"prefix_1_copied_lost_{lost}", tmp_path / "prefix")
    expected = case.unpack(f"prefix_2_built_lost_{lost}", tmp_path / "expected")
    done, lines = build(case, prefix)
    said, code = recorded_lines(case, lost, prefix)
    assert done == (code == 0)
    assert sorted(lines) == sorted(said)
    assert datapath.tree(prefix, OWN_ORDER) == datapath.tree(expected, OWN_ORDER)
    assert datapath.times(prefix) == datapath.times(expected)

    hidden = f".scr/scr.dataset.{case.dataset}"
    assert set(datapath.tree(prefix)) == set(datapath.tree(expected))
    for file in ("summary.scr", "rank2file", "rank2file.0.0"):
        ours = kvtree.read(str(prefix / hidden / file))
        theirs = kvtree.read(str(expected / hidden / file))
        for left_over in ("RS", "MAPRS"):  # the C tool's scan of RS groups, which nothing reads
            theirs.unset(left_over)
        assert ours == theirs, file
    ours, theirs = (index.Index.read(str(p / ".scr/index.scr")) for p in (prefix, expected))
    ours.mark_flushed(case.dataset, ours.entry(case.dataset).descriptor.name, "t")
    theirs.mark_flushed(case.dataset, theirs.entry(case.dataset).descriptor.name, "t")
    assert ours.tree == theirs.tree

    # And it is not only what the C tool made, it is what the application wrote.
    for path in (case.home / "truth").glob("*"):
        assert datapath.truth(case, prefix)[path.name] == path.read_bytes()


@pytest.mark.parametrize(("name", "lost"), datapath.HOPELESS_CASES)
def test_too_much_is_lost(name, lost, golden, tmp_path):
    case = datapath.load(golden(name))
    prefix = case.unpack(f"prefix_1_copied_lost_{lost}", tmp_path / "prefix")
    before = datapath.tree(prefix)
    done, lines = build(case, prefix)
    said, code = recorded_lines(case, lost, prefix)
    assert not done
    assert code == 1
    # What the C tool's children said comes first, for it kept its own lines back.
    assert sorted(lines) == sorted(said)
    assert datapath.tree(prefix) == before


def test_the_cases_are_all_that_were_recorded(golden):
    tried = sorted(datapath.GOOD_CASES + datapath.HOPELESS_CASES)
    names = sorted({name for name, _ in tried})
    recorded = [
        (name, path.stem.partition("lost_")[2])
        for name in names
        for path in golden(name).glob("prefix_2_built_lost_*.tar")
    ]
    assert sorted(recorded) == tried


def test_rank2file_names_every_rank(golden, tmp_path):
    case = datapath.load(golden("nofile_xor_4"))
    prefix = case.unpack("prefix_1_copied_lost_node2", tmp_path / "prefix")
    assert build(case, prefix)[0]
    found = rank2file.read(str(prefix / ".scr/scr.dataset.1/rank2file"))
    assert sorted(found.entries) == list(range(found.ranks))
    assert rank2file.files(found.entries[1]) == []
