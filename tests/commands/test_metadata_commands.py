# SPDX-License-Identifier: BSD-3-Clause
"""The commands over SCR's metadata: options, messages, exit codes, as SCR's own tools have them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from recordedcalls import Answer, as_recorded, run
from scrjob.formats import kvtree
from scrjob.formats.index import Index
from scrjob.formats.kvtree import KVTree
from scrjob.testing.contracts.metadata import (
    DAMAGED,
    ODD_NAME,
    TABLE,
    descriptor,
    flush_content,
    index_content,
)

ERROR = "SCR v3.1.0 ERROR: vm: "
KVTREE = "KVTree 1.5.0 ERROR: vm: "


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / ".scr").mkdir()
    return str(tmp_path)


def put(prefix: str, name: str, content: dict[str, Any]) -> str:
    path = os.path.join(prefix, ".scr", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    kvtree.write(path, KVTree.of(content))
    return path


def call(*argv: str) -> Answer:
    answer = run(list(argv))
    return Answer(as_recorded(answer.stdout), answer.code)


# scr_halt_cntl


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-q"], "Invalid flag -q"),
        (["-h"], "Invalid flag -h"),
        (["-xq"], "Invalid flag -q"),
        (["foo"], "Unknown argument foo"),
        ([], "Must specify full path to haltfile via '-f <haltfile>'"),
        (["-c", "5"], "Must specify full path to haltfile via '-f <haltfile>'"),
        (["-f"], "Missing value after flag -f"),
        (["-f", "x", "-c"], "Missing value after flag -c"),
    ],
)
def test_halt_cntl_refuses(words: list[str], said: str) -> None:
    assert call("scr_halt_cntl", *words) == Answer(f"{ERROR}{said}\n", 1)


def test_halt_cntl_sets_and_unsets(prefix: str) -> None:
    path = f"{prefix}/.scr/halt.scr"
    heading = f"Halt file settings for {path}:\n"
    assert call("scr_halt_cntl", "-f", path) == Answer(f"\n{heading}  None\n", 0)
    words = ["-f" + path, "-c5", "-b", "1800000000", "-s", "600", "-r", "WHY NOT", "-a1800000001"]
    assert call("scr_halt_cntl", *words) == Answer(
        "Setting CheckpointsLeft\nSetting ExitAfter\nSetting ExitBefore\nSetting HaltSeconds\n"
        "Setting ExitReason\n\n"
        f"{heading}"
        "  ExitReason:      WHY NOT\n"
        "  CheckpointsLeft: 5\n"
        "  ExitAfter:       Fri Jan 15 08:00:01 2027\n"
        "  ExitBefore:      Fri Jan 15 08:00:00 2027\n"
        "  HaltSeconds:     600\n"
        "  ExitBefore - HaltSeconds: Fri Jan 15 07:50:00 2027\n",
        0,
    )
    keys = [b"HaltSeconds", b"ExitAfter", b"ExitBefore", b"CheckpointsLeft", b"ExitReason"]
    assert list(kvtree.read(path)) == keys
    words = ["-f", path, "-xc", "-xb", "-xa", "-xs", "-xr", "-x", "-", "-s", "-1"]
    answer = call("scr_halt_cntl", *words)
    assert "Setting HaltSeconds\nUnsetting ExitReason\n\n" in answer.stdout
    assert answer.stdout.endswith(f"{heading}  HaltSeconds:     -1\n")
    assert kvtree.read(path) == KVTree.of({"HaltSeconds": "4294967295"})


def test_halt_cntl_lists_only(prefix: str) -> None:
    path = f"{prefix}/.scr/halt.scr"
    none = Answer(f"Halt file settings for {path}:\n  None\n", 0)
    assert call("scr_halt_cntl", "-f", path, "-list", "-c", "5") == none
    assert not os.path.exists(path)
    Path(path).write_bytes(DAMAGED)
    answer = call("scr_halt_cntl", "-l", "-f", path)
    assert answer.code == 0
    assert answer.stdout.startswith(
        f"{KVTREE}File header does not match expected values in {path}\n"
    )
    assert answer.stdout.endswith(none.stdout)


def test_halt_cntl_replaces_a_damaged_file(prefix: str) -> None:
    path = f"{prefix}/.scr/halt.scr"
    Path(path).write_bytes(DAMAGED)
    answer = call("scr_halt_cntl", "-f", path, "-c", "abc")
    assert answer.code == 0
    assert KVTREE in answer.stdout
    assert kvtree.read(path) == KVTree.of({"CheckpointsLeft": 0})


@pytest.mark.parametrize("words", [["-l"], ["-c", "1"]])
def test_halt_cntl_without_the_directory(prefix: str, words: list[str]) -> None:
    path = f"{prefix}/.scr/halt.scr/impossible"
    put(prefix, "halt.scr", {})
    answer = call("scr_halt_cntl", "-f", path, *words)
    assert answer.code == 1
    assert f"{ERROR}Opening file for lock: {path}: Not a directory\n" in answer.stdout
    assert answer.stdout.endswith("  None\n")


# scr_retries_halt


def test_retries_halt(prefix: str) -> None:
    prog = "scr_retries_halt"
    usage = Answer("\n  Usage:  scr_retries_halt --dir <dir>\n\n", 1)
    must = f"{ERROR}{prog}: Must specify directory containing halt file via '--dir <dir>'\n"
    assert call(prog, "--help") == call(prog, "-h") == usage
    assert call(prog) == Answer(must, 0)
    assert call(prog, "--dri", prefix) == Answer(must, 0)
    none = Answer("scr_retries_halt: CONTINUE RUN: No halt file found.\n", 1)
    assert call(prog, "--dir", prefix) == none
    put(
        prefix,
        "halt.scr",
        {"ExitReason": "R", "CheckpointsLeft": 0, "ExitAfter": 5, "ExitBefore": 70},
    )
    said = call(prog, f"-d{prefix}")
    assert said.code == 0
    first, second, third, fourth = said.stdout.splitlines()
    assert first == "scr_retries_halt: HALT RUN: Reason: R."
    assert second == "scr_retries_halt: HALT RUN: No checkpoints remaining."
    assert third.endswith(") is past ExitBefore-HaltSeconds time (Thu Jan  1 00:01:10 1970).")
    assert fourth.endswith(") is past ExitAfter time (Thu Jan  1 00:00:05 1970).")
    put(prefix, "halt.scr", {"HaltSeconds": 5})
    assert call(prog, f"--dir={prefix}") == Answer("", 1)


def test_retries_halt_with_a_useless_file(prefix: str) -> None:
    path = Path(prefix, ".scr", "halt.scr")
    path.write_bytes(b"")
    assert call("scr_retries_halt", "--dir", prefix) == Answer("", 1)
    path.write_bytes(kvtree.encode(KVTree.of({"ExitReason": "R"}))[:-1])
    text = f"Failed to read file {path} (read 28 bytes but expected 29: filesize 49)"
    assert call("scr_retries_halt", "--dir", prefix) == Answer(f"{KVTREE}{text}\n", 1)
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    halted = "scr_retries_halt: HALT RUN: Failed to open existing halt file.\n"
    assert call("scr_retries_halt", "--dir", prefix) == Answer(halted, 0)


# scr_nodes_file


def test_nodes_file(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    prog = "scr_nodes_file"
    assert call(prog, "--help") == Answer("\n  Usage:  scr_nodes_file --dir <dir>\n\n", 1)
    must = f"{ERROR}{prog}: Must specify directory containing nodes file via '--dir <dir>'\n"
    assert call(prog) == Answer(must, 1)
    assert call(prog, "--dir", prefix) == Answer("", 1)
    put(prefix, "nodes.scr", {"NODES": "007"})
    assert call(prog, "--what", "-q", "--d", prefix, "more") == Answer("007\n", 0)
    assert capsys.readouterr().err == (
        "scr_nodes_file: unrecognized option '--what'\nscr_nodes_file: invalid option -- 'q'\n"
    )
    put(prefix, "nodes.scr", {"NODES": {"1": {}, "2": {}}})
    assert call(prog, "--dir", prefix) == Answer("0\n", 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0\n"),
        (b"abc", "{error}Invalid header: read 3 bytes but expected 20 in {path}\n"),
        (DAMAGED, "{error}File header does not match expected values in {path}\n"),
        (bytes.fromhex("951fc3f50001000100000000000000130000000100000000"),
         "{error}Invalid file size stored in {path}\n"),
        (bytes.fromhex("951fc3f5000100010000000000000100000000010000"),
         "{error}Failed to read file {path} (read 2 bytes but expected 236: filesize 256)\n"),
        (kvtree.encode(KVTree())[:-1] + b"x", "{error}CRC32 mismatch detected in {path}\n"),
    ],
)  # fmt: skip
def test_nodes_file_with_damage(prefix: str, data: bytes, said: str) -> None:
    path = os.path.join(prefix, ".scr", "nodes.scr")
    Path(path).write_bytes(data)
    expected = said.format(error=KVTREE, path=path)
    assert call("scr_nodes_file", "--dir", prefix) == Answer(expected, 1)


# scr_flush_file


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--list-output"], Answer("9\n", 0)),
        (["-o"], Answer("9\n", 0)),
        (["--list-ckpt"], Answer("10 9\n", 0)),
        (["--list-c", "--before=10"], Answer("9\n", 0)),
        (["--list-ckpt", "--before", "9"], Answer("", 1)),
        (["--list-ckpt", "--before", "x"], Answer("10 9\n", 0)),
        (["--list-ckpt", "--before", "-4"], Answer("", 1)),
        (["--need-flush", "10"], Answer("", 0)),
        (["-n", "9"], Answer("", 1)),
        (["-n", "99"], Answer("", 1)),
        (["-n", "0"], Answer("", 1)),
        (["--loc", "9"], Answer("PFS\n", 0)),
        (["-L12"], Answer("CACHE\n", 0)),
        (["-L", "99"], Answer("", 1)),
        (["--name", "10"], Answer(f"{ODD_NAME}\n", 0)),
        (["-s", "12"], Answer("", 1)),
        (["--latest"], Answer("12\n", 0)),
        (["-l", "ignored"], Answer("12\n", 0)),
        (["--latest", "-o"], Answer("9\n", 0)),
        ([], Answer("", 1)),
        (["--before", "3"], Answer("", 1)),
        (["--bogus", "--latest"], Answer("12\n", 0)),
        (["--", "--latest"], Answer("", 1)),
        (["--summary"], Answer(f"{ERROR}-S requires you to specify dataset ID with '-s <id>'.\n", 1)),
        (["-r"], Answer(f"{ERROR}-r requires you to specify dataset ID with '-s <id>'.\n", 1)),
    ],
)  # fmt: skip
def test_flush_file(prefix: str, words: list[str], answer: Answer) -> None:
    put(prefix, "flush.scr", flush_content())
    assert call("scr_flush_file", "--dir", prefix, *words) == answer


def test_flush_file_wrong_calls(prefix: str) -> None:
    prog = "scr_flush_file"
    must = f"{ERROR}{prog}: Must specify directory containing flush file via '--dir <dir>'\n"
    assert call(prog, "--latest") == Answer(must, 1)
    many = "Must specify only a single operation per invocation, e.g. not both --location and --needflush'"
    three = call(prog, "-d", prefix, "--resume", "--summary", "--name", "3")
    assert three == Answer(f"{ERROR}{prog}: {many}\n", 1)
    gone = f"{ERROR}{prog}: Failed to read flush file '{prefix}/.scr/flush.scr'\n"
    assert call(prog, "-d", f"{prefix}/x/..//", "-l") == Answer(gone, 1)
    Path(prefix, ".scr", "flush.scr").write_bytes(DAMAGED)
    answer = call(prog, "-d", prefix, "-l")
    assert answer.stdout.startswith(KVTREE)
    assert answer == Answer(answer.stdout.split("\n")[0] + "\n" + gone, 1)
    usage = call(prog, "--help")
    assert usage.code == 1
    assert usage.stdout.startswith("\n  Usage:  scr_flush_file --dir <dir> OPTIONS\n\n")
    assert usage.stdout.endswith(" generate summary.scr\n\n")


def test_flush_file_empty(prefix: str) -> None:
    Path(prefix, ".scr", "flush.scr").touch()
    assert call("scr_flush_file", "-d", prefix, "--list-ckpt") == Answer("", 1)
    put(prefix, "flush.scr", {"DATASET": {"3": {"LOCATION": {}}}})
    assert call("scr_flush_file", "-d", prefix, "-L", "3") == Answer("NONE\n", 0)


def test_flush_file_summary(prefix: str) -> None:
    path = put(prefix, "flush.scr", flush_content())
    words = ["scr_flush_file", "-d", prefix, "-S", "-s"]
    failed = f"{ERROR}scr_flush_file: Couldn't write summary file, rc = 1\n"
    none = f"{ERROR}scr_flush_file: No flush file entry for dataset 99\n"
    assert call(*words, "99") == Answer(none + failed, 1)
    answer = call(*words, "9")
    assert answer.code == 1
    assert answer.stdout.endswith(failed)
    # Unlike SCR's own: a dataset whose summary could not be written must not be forgotten.
    assert kvtree.read(path) == KVTree.of(flush_content())
    Path(prefix, ".scr", "scr.dataset.9").mkdir()
    assert call(*words, "9") == Answer("both\n", 0)
    assert kvtree.read(path).child("DATASET", 9) is None
    refused = call("scr_flush_file", "-d", prefix, "-r", "-s", "10")
    assert refused.code == 1
    assert refused.stdout.startswith(f"{ERROR}scr_flush_file: Resuming a transfer needs")


# scr_index


def failure(prefix: str) -> str:
    return f"{ERROR}Failed to read index file in {prefix}\n"


def test_index_list(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("scr_index", "-p", prefix) == Answer(failure(prefix), 1)
    put(prefix, "index.scr", index_content())
    for words in (["-l"], ["--list"], [], ["extra"], ["-p", f"{prefix}/./x/.."]):
        assert call("scr_index", "--prefix", prefix, *words) == Answer(TABLE, 0)
    monkeypatch.chdir(prefix)
    for words in ([], ["-p", "."], ["-p", "./"], ["--pre", ".scr/.."], ["-p", ""]):
        assert call("scr_index", *words) == Answer(TABLE, 0), words


def test_index_that_cannot_be_read(prefix: str) -> None:
    path = os.path.join(prefix, ".scr", "index.scr")
    Path(path).touch()
    none = f"{ERROR}Failed to find file format version in index file: {path}\n"
    assert call("scr_index", "-p", prefix) == Answer(none + failure(prefix), 1)
    put(prefix, "index.scr", {"VERSION": 3})
    wrong = f"{ERROR}Found file format version 3 but expected 2 in index file: {path}\n"
    assert call("scr_index", "-p", prefix, "--current", "x") == Answer(wrong + failure(prefix), 1)
    Path(path).write_bytes(DAMAGED)
    line = f"{KVTREE}File header does not match expected values in {path}\n"
    assert call("scr_index", "-p", prefix, "-d", "x") == Answer(line + failure(prefix), 1)
    assert call("scr_index", "-p", path) == Answer(failure(path), 1)
    os.unlink(path)
    os.symlink("index.scr", path)  # a reason of another kind, as a lack of rights is
    assert call("scr_index", "-p", prefix) == Answer(failure(prefix), 1)


def test_index_json(prefix: str) -> None:
    """Lesson B15: the index as JSON, output datasets included."""
    put(prefix, "index.scr", index_content())
    answer = call("scr_index", "-p", prefix, "--json")
    assert answer.code == 0
    found = json.loads(answer.stdout)
    assert (found["prefix"], found["current"]) == (prefix, "d.8")
    assert [(d["id"], d["valid"], d["current"], d["output"]) for d in found["datasets"]] == [
        (10, False, False, False),
        (9, False, False, False),
        (8, True, True, False),
        (7, True, False, True),
    ]
    assert found["datasets"][0]["failed"] == "2026-01-02T03:04:05"
    assert found["datasets"][0]["created"] == 1e-06


def test_lesson_b15_a_program_gets_the_names_of_valid_datasets(prefix: str) -> None:
    """Those that failed, or lack files, are not among them; checkpoints can be told from output."""
    path = put(prefix, "index.scr", index_content())
    found = json.loads(call("scr_index", "-p", prefix, "--json").stdout)["datasets"]
    assert [d["name"] for d in found if d["valid"]] == ["d.8", "d.7"]
    entries = Index.read(path).entries()
    assert [entry.descriptor.name for entry in entries if entry.is_valid] == ["d.8", "d.7"]
    assert [entry.descriptor.name for entry in entries if entry.is_usable] == ["d.8"]


def test_index_current(prefix: str) -> None:
    path = put(prefix, "index.scr", index_content())
    for word in ("--current=d.9", "-cd.8"):
        assert call("scr_index", "-p", prefix, word) == Answer("", 0)
    assert kvtree.read(path).text("CURRENT") == "d.8"
    before = Path(path).read_bytes()
    for name in ("d.7", "none"):
        said = f"{ERROR}Named dataset is not a checkpoint in index file: {name}\n"
        assert call("scr_index", "-p", prefix, "--current", name) == Answer(said, 1)
    assert Path(path).read_bytes() == before


def test_index_drop_several(prefix: str) -> None:
    """Lesson B15: several datasets are dropped at once, all or none."""
    path = put(prefix, "index.scr", index_content())
    before = Path(path).read_bytes()
    said = f"{ERROR}Named dataset was not found in index file: "
    answer = call("scr_index", "-p", prefix, "--drop", "d.9", "--drop=no", "-d", "nope")
    assert answer == Answer(f"{said}no\n{said}nope\n", 1)
    assert Path(path).read_bytes() == before
    assert call("scr_index", "-p", prefix, "--drop", "d.8", "--drop", "d.10") == Answer("", 0)
    tree = kvtree.read(path)
    assert (tree.child("DSET") or KVTree()).ints() == [7, 9]
    assert "CURRENT" not in tree


def test_index_drop_after(prefix: str) -> None:
    path = put(prefix, "index.scr", index_content("d.9"))
    assert call("scr_index", "-p", prefix, "--drop-after", "d.8") == Answer("", 0)
    tree = kvtree.read(path)
    assert (tree.child("DSET") or KVTree()).ints() == [7, 8]
    assert tree.text("CURRENT") == "d.8"
    said = f"{ERROR}Named dataset was not found in index file: none\n"
    assert call("scr_index", "-p", prefix, "--drop-after", "none") == Answer(said, 1)


def test_index_order_of_actions(prefix: str) -> None:
    """The first of the actions in SCR's order is done, with the name that was given last."""
    path = put(prefix, "index.scr", index_content())
    words = ["--drop", "d.10", "--list", "--current", "d.9"]
    assert call("scr_index", "-p", prefix, *words) == Answer("", 0)
    tree = kvtree.read(path)
    assert (tree.child("DSET") or KVTree()).ints() == [7, 8, 10]


def test_index_add(prefix: str) -> None:
    summary = {"VERSION": 6, "COMPLETE": 1, "DSET": descriptor(3, "c")}
    put(prefix, "scr.dataset.3/summary.scr", summary)
    put(prefix, "scr.dataset.4/other", {})
    Path(prefix, ".scr", "scr.dataset.x").symlink_to(f"{prefix}/.scr/scr.dataset.3")
    said = f"Found `c' as dataset 3 at {prefix}/.scr/scr.dataset.3\n"
    assert call("scr_index", "-p", prefix, "--add", "c") == Answer(
        f"{said}Adding `c' to index\n", 0
    )
    assert "   3 YES   " in call("scr_index", "-p", prefix).stdout
    none = f"{ERROR}No dataset found for `d'\n"
    assert call("scr_index", "-p", prefix, "-a", "d") == Answer(none, 1)
    put(prefix, "scr.dataset.5/summary.scr", summary)
    answer = call("scr_index", "-p", prefix, "-a", "c")
    assert answer.code == 1
    assert answer.stdout.endswith(
        f"{ERROR}More than one dataset found for `c', use --build <id> to select one\n"
    )


def test_index_add_does_not_overwrite_an_index_that_it_cannot_read(prefix: str) -> None:
    """SCR's tool takes a damaged index for an empty one, and all other datasets are lost."""
    put(prefix, "scr.dataset.3/summary.scr", {"VERSION": 6, "DSET": descriptor(3, "c")})
    path = Path(prefix, ".scr", "index.scr")
    path.write_bytes(DAMAGED)
    assert call("scr_index", "-p", prefix, "--add", "c").code == 1
    assert path.read_bytes() == DAMAGED


@pytest.mark.parametrize("number", ["x", "", "0", "-3", "ckpt.7"])
def test_index_build_of_what_is_no_number(number: str, tmp_path: Path) -> None:
    said = call("scr_index", "-p", str(tmp_path), f"--build={number}")
    assert said == Answer(f"{ERROR}Invalid dataset id: --build {number!r}\n", 1)


def test_index_build_from_a_relative_prefix(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(
        prefix,
        "scr.dataset.3/summary.scr",
        {"VERSION": 6, "COMPLETE": 1, "DSET": descriptor(3, "c")},
    )
    monkeypatch.chdir(prefix)
    assert call("scr_index", "-p", ".", "--build", "3") == Answer("", 0)
    assert call("scr_index", "--build=4").code == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-h"], ""),
        (["--help"], ""),
        (["--bogus"], "scr_index: unrecognized option '--bogus'\n"),
        (["-q"], "scr_index: invalid option -- 'q'\n"),
        (["--add"], "scr_index: option '--add' requires an argument\n"),
        (["-p"], "scr_index: option requires an argument -- 'p'\n"),
        (["--list=3"], "scr_index: option '--list' doesn't allow an argument\n"),
        (
            ["--d=3"],
            "scr_index: option '--d=3' is ambiguous; possibilities: '--drop' '--drop-after'\n",
        ),
    ],
)
def test_index_usage(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call("scr_index", *words)
    assert answer.code == 1
    assert answer.stdout.startswith("\n  Usage: scr_index [options]\n")
    assert capsys.readouterr().err == complaint


def test_index_lists_ten_thousand_datasets(prefix: str) -> None:
    datasets = {
        str(number): {"COMPLETE": 1, "FLUSHED": "t", "DSET": descriptor(number, f"d.{number}")}
        for number in range(1, 10_001)
    }
    put(prefix, "index.scr", {"VERSION": 2, "DSET": datasets})
    began = time.process_time()
    answer = call("scr_index", "-p", prefix)
    assert len(answer.stdout.splitlines()) == 10_001
    assert time.process_time() - began < 2.0  # the benchmark has the tight limit


# scr_print, kvtree_print

CONTENT = {"B": {"10": {}, "2": {"x": {}}}, "A": "v", "C": {}}


def test_print_modes(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    kvtree.write(path, KVTree.of(CONTENT))
    keyval = "  A = v\n  B\n    10\n    2 = x\n  C\n"
    tree = "  B\n    10\n    2\n      x\n  A\n    v\n  C\n"
    assert call("scr_print", path) == Answer(keyval, 0)
    assert call("kvtree_print", path) == Answer(tree, 0)
    unsorted = "  B\n    10\n    2 = x\n  A = v\n  C\n"
    assert call("kvtree_print", "-m", "keyval", path) == Answer(unsorted, 0)
    assert call("scr_print", path, "--mode=tree").stdout.startswith("  A\n    v\n  B\n")
    Path(path).write_bytes(b"")
    assert call("scr_print", path) == Answer("", 0)


@pytest.mark.parametrize(("prog", "mode"), [("scr_print", "keyval"), ("kvtree_print", "tree")])
def test_print_wrong_calls(tmp_path: Path, prog: str, mode: str) -> None:
    usage = call(prog, "-h")
    assert usage.code == 0
    assert usage.stdout.startswith(f"\nUsage: {prog} [options] <file>\n\n  Options:\n")
    assert f'"tree" or "keyval" (default {mode})' in usage.stdout
    many = f"ERROR: Missing file name or too many files\n{usage.stdout}"
    assert call(prog) == call(prog, "a", "b") == Answer(many, 1)
    bad = f"ERROR: Invalid mode name: `x'\n{usage.stdout}"
    assert call(prog, "-m", "x", "f") == Answer(bad, 1)
    unknown = f"ERROR: Unknown option: `--bogus'\n{usage.stdout}"
    assert call(prog, "--bogus", "f") == Answer(unknown, 1)
    path = tmp_path / "file"
    failed = f"ERROR: Failed to read file: `{path}'\n"
    assert call(prog, str(path)) == Answer(failed, 1)
    path.write_bytes(DAMAGED)
    line = f"{KVTREE}File header does not match expected values in {path}\n"
    assert call(prog, str(path)) == Answer(line + failed, 1)


# What lies in the way


def test_something_else_in_the_place_of_a_file(prefix: str) -> None:
    path = Path(prefix, ".scr", "nodes.scr")
    path.mkdir()
    answer = call("scr_nodes_file", "--dir", prefix)
    assert answer == Answer(f"{KVTREE}{path}: not a regular file\n", 1)


def test_damage_that_kvtree_has_no_words_for(prefix: str) -> None:
    path = Path(prefix, ".scr", "nodes.scr")
    body = bytes.fromhex("951fc3f500010001000000000000001d000000000000000041")
    path.write_bytes(body + b"\0\0\0\0")
    answer = call("scr_nodes_file", "--dir", prefix)
    assert answer.code == 1
    assert answer.stdout.startswith(f"{KVTREE}{path}: the tree does not end")


def test_halt_cntl_forgets_its_file() -> None:
    """SCR's odd ``-xf`` makes the file name empty."""
    answer = call("scr_halt_cntl", "-f", "name", "-xf", "-l")
    assert answer == Answer("Halt file settings for :\n  None\n", 0)


def test_index_add_passes_over_what_it_cannot_read(tmp_path: Path) -> None:
    prefix = str(tmp_path)
    none = Answer(f"{ERROR}No dataset found for `c'\n", 1)
    assert call("scr_index", "-p", prefix, "--add", "c") == none
    put(prefix, "scr.dataset.1/summary.scr", {"VERSION": 6})
    damaged = Path(put(prefix, "scr.dataset.2/summary.scr", {}))
    damaged.write_bytes(DAMAGED)
    Path(prefix, ".scr", "scr.dataset.4").touch()
    assert call("scr_index", "-p", prefix, "--add", "c") == none
    put(prefix, "scr.dataset.3/summary.scr", {"VERSION": 6, "DSET": descriptor(3, "c")})
    assert call("scr_index", "-p", prefix, "--add", "c").code == 0
