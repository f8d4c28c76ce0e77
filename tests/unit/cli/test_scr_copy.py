# SPDX-License-Identifier: BSD-3-Clause
"""What a node is told to copy, and what its answer means, with SCR's own scr_copy and with ours."""

from __future__ import annotations

import json
import sys
from typing import Optional

import pytest

from scrjob.cli import SCRCopy
from scrjob.cli.scr_copy import CopyReport, without_report
from scrjob.errors import NotSupportedError, UsageError
from scrjob.remoteexec.remoteexec import RemoteExecResult

ERROR = "SCR v3.1.0 ERROR: node2: scr_copy: "
TOLD = {"rc": 1, "files": 2, "bytes": 30, "skipped": 1, "errors": ["bad"], "crc": {"a/b": 7}}


def report(
    stdout: str, rc: Optional[int] = 1, stderr: str = "", *, bin_dir: str = "/scr/bin"
) -> CopyReport:
    result = RemoteExecResult(["scr_copy"], ["node2"])
    result.append_stdout("node2", stdout)
    result.append_stderr("node2", stderr)
    if rc is None:
        result.set_failure("node2", "no answer within 5 s")
    else:
        result.set_rc("node2", rc)
    return SCRCopy("/p", bin_dir=bin_dir).report(result, "node2")


def test_the_sites_executable_is_called_as_scrs_scripts_do() -> None:
    copy = SCRCopy("/p q", bin_dir="/scr/bin")
    assert not copy.is_native
    argv = ["/scr/bin/scr_copy", "--cntldir", "/c", "--id", "7", "--prefix", "/p q"]
    argv += ["--buf", "1048576", "--crc"]
    assert copy.command("/c", "7", hints=["--resume"]) == argv
    assert copy.command("/c", 7, checksum=False) == argv[:-1]


def test_the_sites_executable_cannot_relocate() -> None:
    with pytest.raises(NotSupportedError, match=r"/scr/bin/scr_copy cannot relocate paths"):
        SCRCopy("/p", bin_dir="/scr/bin").command("/c", 7, relocations=["/a=/b"])


def test_our_own_program() -> None:
    copy = SCRCopy("/p/./q", bin_dir="")
    assert copy.is_native
    argv = copy.command("/c", 7, checksum=False, relocations=["/a=/b"], hints=["--resume"])
    assert argv[0] == sys.executable
    words = ["copy", "--cntldir", "/c", "--id", "7", "--prefix", "/p/q", "--json", "--nocrc"]
    assert argv[-12:] == [*words, "--relocate", "/a=/b", "--resume"]


@pytest.mark.parametrize("bin_dir", ["", "/scr/bin"])
def test_an_id_that_is_no_number_is_refused(bin_dir: str) -> None:
    with pytest.raises(UsageError):
        SCRCopy("/p", bin_dir=bin_dir).command("/c", "seven")


def test_all_well() -> None:
    assert report("scr_copy: node2: Return code: 0\n", 0) == CopyReport(0)


def test_a_spare() -> None:
    said = "scr_copy: node2: Failed to find cache directory for dataset id 7\n"
    found = report(said)
    assert found.errors == ("Failed to find cache directory for dataset id 7",)
    assert found.is_spare
    assert not report(f"{ERROR}no space @ a.c:1\n{said}").is_spare
    assert not report("scr_copy: node2: Return code: 0\n", 0).is_spare


def test_errors_lose_host_and_place_in_the_source() -> None:
    said = (
        f"{ERROR}Filesize is incorrect, currently 3 for /c/f @ src/scr_copy.c:112\n"
        "KVTree 1.5.0 ERROR: node2: CRC32 mismatch detected in /c/filemap_1 @ x/kvtree.c:9\n"
        "SCR v3.1.0: node2: Opening file: open(/c/g) errno=2 @ src/scr_io.c:80\n"
        "scr_copy: node2: Failed to open directory /c/.scr in dataset id 7\n"
        "scr_copy: node2: Return code: 1\n"
    )
    assert report(said) == CopyReport(
        1,
        errors=(
            "Filesize is incorrect, currently 3 for /c/f",
            "CRC32 mismatch detected in /c/filemap_1",
            "Failed to open directory /c/.scr in dataset id 7",
        ),
    )


@pytest.mark.parametrize("name", ["f", "go to x", " to ", "two\nlines", "a @ b.c:7 to c"])
def test_the_copy_of_other_bytes_is_found(name: str) -> None:
    said = f"{ERROR}CRC32 mismatch detected when flushing file /c/{name} to /p/d to e/{name}"
    found = report(f"{said} @ src/scr_copy.c:9\nscr_copy: node2: Return code: 1\n")
    assert found.damaged == (f"/p/d to e/{name}",)
    assert len(found.errors) == 1
    assert "\n" not in found.errors[0]


def test_what_is_no_answer_of_a_copy_is_no_success() -> None:
    """Whoever put something else under the name of scr_copy has copied nothing."""
    assert report("hello\n", 0).errors == ("exit code 0 and no report; it said: hello",)
    assert report("", 0).errors == ("exit code 0 and no report; it said: nothing",)
    said = report("", 127, "sh: 1: scr_copy: not found\n")
    assert said.errors == ("exit code 127 and no report; it said: sh: 1: scr_copy: not found",)
    said = report("scr_copy: node2: Return code: 0\n", 139, "Segmentation fault\n")
    assert said.errors == ("exit code 139 and no report; it said: Segmentation fault",)


@pytest.mark.parametrize("bin_dir", ["", "/scr/bin"])
def test_no_answer(bin_dir: str) -> None:
    found = report("half", None, bin_dir=bin_dir)
    assert found == CopyReport(None, errors=("no answer within 5 s",))


def test_our_own_program_tells_more() -> None:
    said = f"scr_copy: node2: Return code: 1\n{json.dumps(TOLD)}\n"
    assert report(said, bin_dir="") == CopyReport(1, 2, 30, 1, ("bad",), {"a/b": 7})
    assert without_report(said) == "scr_copy: node2: Return code: 1\n"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{}",
        "[1]",
        '{"rc": "x"}',
        json.dumps({**TOLD, "crc": []}),
        json.dumps({**TOLD, "bytes": float("inf")}),
        '{"rc":' * 100_000,
    ],
)
def test_our_own_program_without_its_report(said: str) -> None:
    found = report(said, 0, bin_dir="")
    assert found.files is None
    assert found.errors == (f"exit code 0 and no report; it said: {said[:200] or 'nothing'}",)
