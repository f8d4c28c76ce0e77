# SPDX-License-Identifier: BSD-3-Clause
"""The programs of the nodes in one file: all that they need is in it; where it is not, the package does."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

import datapath
from scrjob._crc import crc32
from scrjob.node.command import node_command

ROOT = Path(__file__).parents[3]
HOST = os.uname().nodename
pytestmark = pytest.mark.unmeasured

OF_A_COPY = """
scrjob scrjob._clock scrjob._crc scrjob._fsio scrjob._getopt scrjob.errors scrjob.formats
scrjob.formats._cursor scrjob.formats._numbers scrjob.formats._patterns scrjob.formats._stat
scrjob.formats.cindex scrjob.formats.dataset scrjob.formats.filemap scrjob.formats.kvtree
scrjob.formats.paths scrjob.formats.places scrjob.node scrjob.node.__main__ scrjob.node._batch
scrjob.node._cached_files scrjob.node._crew scrjob.node._lock scrjob.node._meter scrjob.node._transfer
scrjob.node.copy scrjob.node.copy_main scrjob.node.journal scrjob.redundancy scrjob.redundancy.attributes
scrjob.redundancy.logical scrjob.redundancy.openfiles scrjob.redundancy.paths
"""
TOO_COSTLY = {
    "numpy",
    "psutil",
    "argparse",
    "logging",
    "subprocess",
    "socket",
    "tempfile",
    "site",
    "runpy",
}


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(hook: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('it\'s a "place"') / "node.pyz"
    hook.pack_node(ROOT / "src", path)
    return path


def run(argv: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        argv,
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_it_copies_what_the_c_tool_copies(
    packed: Path, golden: Callable[[str], Path], tmp_path: Path
) -> None:
    case = datapath.load(golden("xor_4"))
    prefix = case.unpack("prefix_0_before", tmp_path / "prefix")
    expected = case.unpack("prefix_1_copied_lost_none", tmp_path / "expected")
    (tmp_path / "copy.py").write_text("raise SystemExit('a file of the user was imported')")
    for node in datapath.NODES:
        root, cntldir = case.node(node, tmp_path)
        words = ["--cntldir", str(cntldir), "--id", "1", "--prefix", str(prefix)]
        for move in case.moves(prefix, root):
            words += ["--relocate", f"{move.old}={move.new}"]
        done = run(node_command("copy", *words, packed=str(packed)), tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"scr_copy: {HOST}: Return code: 0\n"
    assert datapath.tree(prefix) == datapath.tree(expected)


def test_it_inspects_as_the_package_does(
    packed: Path, golden: Callable[[str], Path], tmp_path: Path
) -> None:
    case = datapath.load(golden("rs_4"))
    root, cntldir = case.node("node2", tmp_path)
    words = [f"--relocate={move.old}={move.new}" for move in case.moves(tmp_path / "p", root)]
    done = run(node_command("inspect", *words, str(cntldir), packed=str(packed)), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "DSET=1 RANK=1 TYPE=RS GROUPS=1 GROUP_ID=0 GROUP_SIZE=4 GROUP_RANK=1 FILES=1\n"
    )
    argv = node_command("inspect", "--json", *words, str(cntldir), packed=str(packed))
    (row,) = json.loads(run(argv, tmp_path).stdout)["datasets"]
    assert [rank["whole"] for rank in row["ranks"]] == [True]
    argv[argv.index("-c") + 1] = argv[argv.index("-c") + 1].replace(
        "sys.exit(main())",
        "main(); sys.stderr.write(chr(10).join("
        "f'{n} {getattr(m, \"__file__\", None)}' for n, m in sys.modules.items()))",
    )
    loaded = dict(line.split(" ", 1) for line in run(argv, tmp_path).stderr.splitlines())
    ours = {name for name in loaded if name.startswith("scrjob")}
    assert "scrjob.node.inspect" in ours
    assert all(loaded[name].startswith(str(packed)) for name in ours)
    assert not TOO_COSTLY & set(loaded)


def test_what_a_copy_loads(packed: Path, tmp_path: Path) -> None:
    argv = node_command("copy", "--help", packed=str(packed))
    argv[argv.index("-c") + 1] = argv[argv.index("-c") + 1].replace(
        "sys.exit(main())",
        "main(); sys.stdout.write(chr(10).join("
        "f'{n} {getattr(m, \"__file__\", None)}' for n, m in sys.modules.items()))",
    )
    done = run(argv, tmp_path)
    loaded = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    ours = {name for name in loaded if name.startswith("scrjob")}
    assert ours == set(OF_A_COPY.split())
    assert all(loaded[name].startswith(str(packed)) for name in ours)
    assert not TOO_COSTLY & set(loaded)


def test_it_finds_the_quick_checksum(packed: Path, tmp_path: Path) -> None:
    """isal lies where packages are installed, not beside the sources of an editable install."""
    argv = node_command("copy", packed=str(packed))
    argv[argv.index("-c") + 1] = argv[argv.index("-c") + 1].replace(
        "sys.exit(main())", "from scrjob._crc import crc32; sys.stdout.write(crc32.__module__)"
    )
    assert run(argv, tmp_path).stdout == crc32.__module__


@pytest.mark.parametrize(
    "program", ["cached", "check", "condition", "growth", "stacks", "nonsense"]
)
def test_every_program_starts(packed: Path, tmp_path: Path, program: str) -> None:
    done = run(node_command(program, packed=str(packed)), tmp_path)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    assert (done.returncode == 64) == (program == "nonsense")


def test_it_is_a_zipapp(packed: Path, tmp_path: Path) -> None:
    done = run([sys.executable, str(packed), "copy", "--id", "0"], tmp_path)
    assert done.stdout.count("Must specify") == 2


def test_all_modules_of_node_are_in_it_and_only_light_ones(hook: Any) -> None:
    found = set(hook.node_modules(ROOT / "src"))
    assert found >= set(OF_A_COPY.split())
    assert not [name for name in found if name.split(".")[1:2] in (["client"], ["cli"], ["jobenv"])]


@pytest.mark.parametrize("why", ["absent", "another Python", "empty"])
def test_without_it_the_package_does(packed: Path, tmp_path: Path, why: str) -> None:
    path = tmp_path / "other.pyz"
    if why == "another Python":
        tag = str(sys.implementation.cache_tag).encode()
        path.write_bytes(packed.read_bytes().replace(tag, b"x" * len(tag)))
    elif why == "empty":
        path.touch()
    argv = node_command("copy", "--id", "0", packed=str(path))
    assert str(path) not in " ".join(argv)
    assert run(argv, tmp_path).stdout.count("Must specify") == 2
