# SPDX-License-Identifier: BSD-3-Clause
"""The scr_rebuild commands: words, output, exit codes, and the bytes that the C tools make."""

from __future__ import annotations

import os
import random
from collections import defaultdict

import pytest

import datapath
from groupmaker import make_dataset
from scrjob.commands import scr_rebuild_partner, scr_rebuild_rs, scr_rebuild_xor
from scrjob.formats import filemap, kvtree, redset_header
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.lock import LOCK, one_at_a_time
from scrjob.redundancy.rebuild import INSUFFICIENT
from scrjob.testing.fakes import FakeClock

MAINS = {
    "partner": scr_rebuild_partner.main,
    "rs": scr_rebuild_rs.main,
    "xor": scr_rebuild_xor.main,
}
LISTS = (r"\.scr/index\.scr", r"\.scr/scr\.dataset\.\d+/(rank2file.*|summary\.scr)")


def said(capfd) -> tuple[list[str], str]:
    out, err = capfd.readouterr()
    return out.splitlines(), err


@pytest.fixture(params=sorted(MAINS))
def kind(request):
    return request.param


@pytest.fixture
def made(kind, tmp_path, monkeypatch):
    made = make_dataset(
        tmp_path / "p", [[100], [200, 5], [50], [], [3]], form_groups(range(5), 8), kind=kind
    )
    monkeypatch.chdir(made.hidden)
    return made


def names(made, set_name):
    found = [p.name for p in made.hidden.glob(f"{set_name}.er.*.redset")]
    typed = [name for name in found if redset_header.parse_name(name)]
    random.Random(1).shuffle(typed)  # any order will do
    return typed


def test_both_passes(kind, made, capfd):
    main = MAINS[kind]
    before = made.state()
    made.lose(1)
    assert main(["map", *names(made, "reddescmap")]) == 0
    assert main([kind, *names(made, "reddesc")]) == 0
    assert made.state() == before
    assert main(["any other word", *names(made, "reddesc")]) == 0
    assert made.state() == before
    assert said(capfd) == ([], "")


@pytest.mark.parametrize("words", [[], ["map"], ["--relocate", "/a=/b", "map"]])
def test_usage(kind, words, capfd):
    assert MAINS[kind](words) == 1
    lines, _ = said(capfd)
    assert lines == [
        f"Usage: scr_rebuild_{kind} [--relocate OLD=NEW] <map|{kind}> <redundancy file> ..."
    ]


def test_too_much_is_lost(kind, made, capfd):
    made.lose(0, 1, 2)
    left = sorted(p for p in made.prefix.rglob("*"))
    assert MAINS[kind](["map", *names(made, "reddescmap")]) == 1
    lines, err = said(capfd)
    assert lines == [INSUFFICIENT]
    assert err.startswith(f"scr_rebuild_{kind}: cannot rebuild group 1 of 1 (reddescmap) in ")
    assert sorted(p for p in made.prefix.rglob("*")) == left


def test_wrong_files(kind, made, capfd):
    other = "rs" if kind == "xor" else "xor"
    wrong = f"reddesc.er.0.{other}.grp_1_of_1.mem_1_of_4.redset"
    assert MAINS[kind](["map", *names(made, "reddesc")]) == 1
    assert MAINS[kind](["data", wrong]) == 1
    assert said(capfd)[1].count(f"not a {kind.upper()} file of set") == 2


def test_names_with_a_directory(kind, made, capfd):
    made.lose(1)
    found = names(made, "reddescmap")
    words = [f"./{found[0]}", str(made.hidden / found[1]), *found[2:]]
    assert MAINS[kind](["map", *words]) == 0
    assert (made.hidden / "filemap_1").exists()
    (made.hidden / "sub").mkdir()
    assert MAINS[kind](["map", f"sub/{found[0]}"]) == 1
    assert said(capfd)[1].count(f"expected a file in '{made.hidden}', where this was started") == 1


def test_a_build_at_work_is_not_disturbed(kind, made, capfd):
    made.lose(1)
    clock = FakeClock()
    with one_at_a_time(str(made.hidden), clock=clock, who="a build", say=str):
        assert MAINS[kind](["map", *names(made, "reddescmap")]) == 1
        assert not (made.hidden / "filemap_1").exists()
    lines, err = said(capfd)
    assert lines == []
    assert "is being written by a build: try again when that has ended" in err
    with one_at_a_time(str(made.hidden), clock=clock, who="other group", say=str, shared=True):
        assert MAINS[kind](["map", *names(made, "reddescmap")]) == 0
    assert (made.hidden / "filemap_1").exists()
    assert not (made.hidden / LOCK).exists()


def test_path_that_is_in_no_filemap(kind, made, capfd):
    path = made.hidden / "filemap_1"
    listed = filemap.parse(kvtree.read(str(path)))
    listed.popitem()
    kvtree.write(str(path), filemap.build(listed))
    made.parts[0][0].unlink()
    left = sorted(made.prefix.rglob("*"))
    assert MAINS[kind]([kind, *names(made, "reddesc")]) == 1
    lines, err = said(capfd)
    assert lines == []
    assert "does not tell where" in err
    assert sorted(made.prefix.rglob("*")) == left


GOLDEN = [
    (name, lost)
    for name, lost in datapath.GOOD_CASES
    if lost != "none" and not name.startswith(("single", "bypass"))
]
"""The bypassed dataset has a summary already, so the C tool rebuilt nothing."""


@pytest.mark.parametrize(("name", "lost"), GOLDEN)
def test_bytes_of_the_c_tools(name, lost, golden, tmp_path, monkeypatch, capfd):
    case = datapath.load(golden(name))
    prefix = case.unpack(f"prefix_1_copied_lost_{lost}", tmp_path / "prefix")
    expected = case.unpack(f"prefix_2_built_lost_{lost}", tmp_path / "expected")
    monkeypatch.chdir(prefix / f".scr/scr.dataset.{case.dataset}")
    groups = defaultdict(list)
    for file in sorted(os.listdir(".")):
        found = redset_header.parse_name(file)
        if found is not None:
            groups[found.set_name, found.type, found.group].append(file)
    move = ["--relocate", f"{case.recorded_prefix}={prefix}"]
    for set_name, word in (("reddescmap", "map"), ("reddesc", "data")):
        for key, files in groups.items():
            if key[0] == set_name:
                assert MAINS[key[1]]([*move, word, *files]) == 0
    assert said(capfd) == ([], "")
    assert datapath.tree(prefix, LISTS) == datapath.tree(expected, LISTS)
    assert datapath.times(prefix) == datapath.times(expected)
