# SPDX-License-Identifier: BSD-3-Clause
"""The executable back end on recorded answers of the real tools; the choice between the back ends."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import pytest

import recordedcalls
from archives import unpack
from scrjob import cli
from scrjob._context import RealContext
from scrjob._process import CommandResult
from scrjob.errors import CommandError, CommandNotFoundError, ConfigError, FormatError
from scrjob.formats import kvtree
from scrjob.testing.fakes import FakeClock

CASES = ["meta_async", "meta_bypass", "meta_flush0", "meta_flush3", "meta_halt"]
PUBLISHED = {
    "SCRCopy": ["prefix", "verbose"],
    "SCRFlushFile": ["prefix", "verbose"],
    "SCRHaltFile": ["prefix", "verbose"],
    "SCRIndex": ["prefix", "verbose"],
    "SCRLog": ["prefix", "jobid", "jobname", "user", "jobstart", "verbose"],
    "SCRNodesFile": ["prefix", "verbose"],
    "SCRRetriesHalt": ["prefix", "verbose"],
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recordings were made in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Replay:
    """A runner that answers as the real tools did, and notes what it was asked."""

    def __init__(self, log: str) -> None:
        self._answers = {tuple(call.argv): call.answer for call in recordedcalls.parse(log)}
        self.asked: list[list[str]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[bytes] = None,
        cwd: Optional[str] = None,
    ) -> CommandResult:
        assert os.path.dirname(argv[0]) == "/opt/scr/bin"
        assert timeout_s > 0
        key = (os.path.basename(argv[0]), *argv[1:])
        self.asked.append(list(key))
        answer = self._answers[key]
        return CommandResult(argv, answer.code, answer.stdout, "", 0.0)

    def start(self, argv: Sequence[str], **_options: Any) -> Any:
        raise AssertionError(argv)


def context(runner: Any, **environ: str) -> RealContext:
    return RealContext(environ, runner, FakeClock(1795333800.0), "node1")


def answers(prefix: str, mark: str, **options: Any) -> dict[str, Any]:
    """Ask all questions that the recordings have; ``mark`` stands for the prefix in the answers."""
    flush = cli.SCRFlushFile(prefix, **options)
    found: dict[str, Any] = {
        "output": flush.list_dsets_output(),
        "ckpt": flush.list_dsets_ckpt(),
        "latest": flush.latest(),
        "nodes": cli.SCRNodesFile(prefix, **options).last_num_nodes(),
        "index": cli.SCRIndex(prefix, **options).list(),
        "retries": cli.SCRRetriesHalt(prefix, **options).check(),
    }
    for number in {*found["output"], *found["ckpt"]}:
        found[number] = (flush.name(number), flush.location(number), flush.need_flush(number))
    halt = cli.SCRHaltFile(prefix, **options)
    halt.set_list()
    found["halt"] = halt.execute().replace(prefix, mark)
    return found


@pytest.mark.parametrize("case", CASES)
def test_both_back_ends_agree_on_a_golden_prefix(
    case: str, golden: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = golden(case)
    with tarfile.open(directory / "prefix.tar") as archive:
        unpack(archive, tmp_path)
    recorded = f"/p/scr/alice/{case}"
    replay = Replay((directory / "tools.log").read_text())
    theirs = answers(recorded, "P", bin_dir="/opt/scr/bin", context=context(replay))
    assert len(replay.asked) > 8
    ours = answers(f"{tmp_path}{recorded}", "P", bin_dir="", context=context(None))
    assert ours == theirs


def test_the_environment_chooses_the_back_end(tmp_path: Path) -> None:
    class Runner:
        def run(self, argv: Sequence[str], **_options: Any) -> CommandResult:
            raise CommandNotFoundError(argv)

    asking = context(Runner(), SCR_BIN_DIR="/opt/scr/bin")
    with pytest.raises(ConfigError, match=r"/opt/scr/bin/scr_nodes_file cannot .* SCR_BIN_DIR"):
        cli.SCRNodesFile(str(tmp_path), context=asking).last_num_nodes()
    native = cli.SCRNodesFile(str(tmp_path), context=asking, bin_dir="")
    assert native.last_num_nodes() is None
    assert cli.SCRNodesFile(str(tmp_path), context=context(Runner())).last_num_nodes() is None


def test_environment_first_then_the_sites_constant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody hands in a context: that is how programs and most commands call."""

    def executable(**options: Any) -> str:
        words = cli.SCRCopy(str(tmp_path), **options).command("/c", 1)
        return words[0] if words[0].endswith("/scr_copy") else ""

    assert executable() == ""
    monkeypatch.setattr("scrjob.config.SCR_BIN_DIR", "/site/bin")
    assert executable() == executable(context=context(None)) == "/site/bin/scr_copy"
    monkeypatch.setenv("SCR_BIN_DIR", "/own/bin")
    assert executable() == "/own/bin/scr_copy"
    assert executable(context=context(None)) == "/site/bin/scr_copy"
    assert executable(context=context(None, SCR_BIN_DIR="/x")) == "/x/scr_copy"
    assert executable(bin_dir="/y") == "/y/scr_copy"
    monkeypatch.setenv("SCR_BIN_DIR", "")
    assert executable() == executable(bin_dir="") == ""


def scripted(code: int, stdout: str) -> tuple[Any, list[list[str]]]:
    asked: list[list[str]] = []

    class Runner:
        def run(self, argv: Sequence[str], **_options: Any) -> CommandResult:
            asked.append(list(argv[1:]))
            return CommandResult(argv, code, stdout, "", 0.0)

    return context(Runner()), asked


def test_answer_without_its_line_end_is_not_taken(tmp_path: Path) -> None:
    world, _ = scripted(0, "half a na")
    with pytest.raises(FormatError, match="unfinished line"):
        cli.SCRFlushFile(str(tmp_path), context=world, bin_dir="/b").name(3)


def test_names_are_passed_as_one_word() -> None:
    world, asked = scripted(0, "")
    index = cli.SCRIndex("/p", context=world, bin_dir="/b")
    assert index.current("--list")
    assert index.add("a b")
    assert index.build(7)
    assert asked == [
        ["--prefix", "/p", "--current=--list"],
        ["--prefix", "/p", "--add=a b"],
        ["--prefix", "/p", "--build=7"],
    ]


def test_failed_halt_tool_is_an_error_with_its_words(tmp_path: Path) -> None:
    world, _ = scripted(1, "SCR v3.1.0 ERROR: vm: no lock\n")
    with pytest.raises(CommandError, match="no lock"):
        cli.SCRHaltFile(str(tmp_path), context=world, bin_dir="/b").execute()


def test_halt_tool_gets_all_that_was_collected() -> None:
    world, asked = scripted(0, "said\n")
    halt = cli.SCRHaltFile("/p", context=world, bin_dir="/b")
    halt.set_checkpoints(0)
    halt.unset_after()
    halt.set_before(5)
    halt.unset_before()
    assert halt.execute() == "said\n"
    assert asked == [["-f", "/p/.scr/halt.scr", "-c", "0", "-xa", "-b", "5"]]


def test_stop_without_a_word_still_stops() -> None:
    world, _ = scripted(0, "")
    found = cli.SCRRetriesHalt("/p", context=world, bin_dir="/b").check()
    assert found == "scr_retries_halt: HALT RUN"


def test_log_tool_gets_whole_seconds() -> None:
    world, asked = scripted(0, "")
    log = cli.SCRLog("/p", "42", "name", "alice", 100, context=world, bin_dir="/b")
    assert log.event("E", dset=3, secs=1.7, start=5.5)
    assert " ".join(asked[0]) == "-p /p -u alice -j name -i 42 -s 100 -T E -D 3 -S 5 -L 1"
    world, _ = scripted(1, "")
    assert not cli.SCRLog("/p", "42", context=world, bin_dir="/b").event("E")


def test_a_log_tool_that_cannot_be_run_is_no_reason_to_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Runner:
        def run(self, argv: Sequence[str], **_options: Any) -> CommandResult:
            raise CommandNotFoundError(argv)

    log = cli.SCRLog("/p", "42", context=context(Runner()), bin_dir="/b")
    assert log.event("E") is False
    assert log.transfer("X") is False
    assert "/b/scr_log_event cannot be run" in caplog.text


@pytest.mark.parametrize(("nbytes", "words"), [(2147483647, " -B 2147483647"), (2147483648, "")])
def test_a_size_that_scrs_tool_would_falsify_is_left_out(nbytes: int, words: str) -> None:
    """It keeps 32 bits: 5000000000 becomes 705032704."""
    world, asked = scripted(0, "")
    log = cli.SCRLog("/p", "42", context=world, bin_dir="/b")
    assert log.transfer("X", to="/t", nbytes=nbytes, files=1, start=5)
    assert " ".join(asked[0]) == f"-p /p -i 42 -T X -S 5 -Y /t{words} -F 1"


def test_resume_waits_for_the_executable() -> None:
    world, asked = scripted(0, "name\n")
    assert cli.SCRFlushFile("/p", context=world, bin_dir="/b").resume(4)
    assert asked == [["--dir", "/p", "--resume", "--name", "4"]]


def test_halt_file_that_cannot_be_opened_stops_the_job(tmp_path: Path) -> None:
    (tmp_path / ".scr").write_text("a file where the directory should be")
    assert cli.SCRRetriesHalt(str(tmp_path)).check() == (
        "scr_retries_halt: HALT RUN: Failed to open existing halt file."
    )


@pytest.mark.parametrize(("seconds", "stops"), [("100", True), ("", False), ("nonsense", False)])
def test_setting_of_halt_seconds(tmp_path: Path, seconds: str, stops: bool) -> None:

    (tmp_path / ".scr").mkdir()
    content = {"ExitBefore": 1795333900}
    kvtree.write(str(tmp_path / ".scr" / "halt.scr"), kvtree.KVTree.of(content))
    world = context(None, SCR_HALT_SECONDS=seconds, SCR_PREFIX=str(tmp_path))
    assert (cli.SCRRetriesHalt(str(tmp_path), context=world).check() is not None) == stops


def test_torn_flush_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / ".scr").mkdir()
    (tmp_path / ".scr" / "flush.scr").touch()
    world = context(None)
    assert cli.SCRFlushFile(str(tmp_path), context=world).latest() is None
    assert isinstance(world.clock, FakeClock)
    assert len(world.clock.naps) == 9


def test_verbose_says_what_is_run(caplog: pytest.LogCaptureFixture) -> None:
    world, _ = scripted(0, "")
    caplog.set_level(logging.INFO)
    cli.SCRIndex("/p", True, context=world, bin_dir="/b").current("c")
    assert "running /b/scr_index --prefix /p --current=c" in caplog.text


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_signatures(name: str) -> None:
    parameters = inspect.signature(getattr(cli, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == PUBLISHED[name]


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SCRNothing'"):
        _ = cli.SCRNothing


@pytest.mark.parametrize(
    "module", ["scr_flush_file", "scr_nodes_file", "scr_halt_cntl", "scr_index", "scr_retries_halt"]
)
def test_commands_start_light(module: str) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"  # a tracer of the tests may have brought its own
        f"import scrjob.commands.{module}; print(*set(sys.modules) - before)"
    )
    heavy = {
        "subprocess",
        "argparse",
        "dataclasses",
        "logging",
        "numpy",
        "json",
        "tempfile",
        "socket",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert f"scrjob.commands.{module}" in loaded
    assert not heavy & loaded


def test_an_executable_needs_no_context(tmp_path: Path) -> None:
    tools = sysconfig.get_path("scripts")
    assert cli.SCRNodesFile(str(tmp_path), bin_dir=tools).last_num_nodes() is None
    (tmp_path / ".scr").mkdir()
    kvtree.write(str(tmp_path / ".scr" / "nodes.scr"), kvtree.KVTree.of({"NODES": 3}))
    assert cli.SCRNodesFile(str(tmp_path), bin_dir=tools).last_num_nodes() == 3
