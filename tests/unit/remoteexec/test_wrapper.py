# SPDX-License-Identifier: BSD-3-Clause
"""What is sent to a node and what comes back: texts only."""

from __future__ import annotations

import base64
import gzip
import re
import shlex
from typing import Callable

import pytest

from scrjob.errors import UsageError
from scrjob.remoteexec import RemoteExecResult
from scrjob.remoteexec._wrapper import (
    SCRIPT,
    Stream,
    enter,
    node_argv,
    node_text,
    one_line,
    parse_stream,
    passed_environ,
    refuse_duplicates,
)


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


def answer(text: str, end: str = "0", node: str = "") -> list[str]:
    return [f"scrjob:begin {node}", packed(text), f"scrjob:end:{end};", ""]


def decoded(text: str) -> str:
    """Return the part of a text that a login shell sees as one plain word, as printf %b shows it."""
    *_, word = shlex.split(text)
    return re.sub(r"\\0([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def test_a_transport_with_argument_lists_gets_one() -> None:
    assert node_argv(["a b", ""], 2.1) == ["sh", "-c", SCRIPT, "scrjob", "3", "a b", ""]


def test_a_limit_is_never_none() -> None:
    assert node_argv(["a"], 0.0)[4] == "1"  # for timeout(1) 0 is no limit


def test_a_login_shell_gets_only_what_every_shell_leaves_alone() -> None:
    text = node_text(["it's", "a\nb", "!x", '"$HOME`"', "\\0", "%h"], 2, {"A": "b c"}, "/a dir")
    assert re.fullmatch(r"""exec sh -c 'eval "\$\(printf %b "\$0"\)"' '[\w _./=:,+@\\-]*'""", text)
    assert decoded(text) == (
        "cd '/a dir' 2>/dev/null\nexport A='b c'\n"
        """set -- 2 'it'"'"'s' 'a\nb' '!x' '"$HOME`"' '\\0' %h\n"""
        f"{SCRIPT}"
    )


def test_bytes_that_are_no_text_are_sent_as_they_are() -> None:
    assert "\\0377" in node_text(["\udcff"], 1, {}, "/")


def test_without_variables_nothing_is_exported() -> None:
    assert "export" not in decoded(node_text(["true"], 1, {}, "/"))


def test_only_needed_variables_go_along_and_no_password() -> None:
    environ = {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/lib",
        "PYTHONPATH": "/py",
        "SCR_PREFIX": "/p",
        "SCR_LOG_DB_PASS": "secret",
        "SCR_BAD-NAME": "x",
        "HOME": "/root",
        "SSH_AUTH_SOCK": "/s",
    }
    assert set(passed_environ(environ)) == {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SCR_PREFIX"}


def test_what_stands_between_the_marks_is_the_answer() -> None:
    lines = ["motd", *answer("hello\n", node="n1"), "Connection closed"]
    assert parse_stream(lines) == Stream("n1", b"hello\n", True, "0", "Connection closed")


def test_a_login_script_may_leave_its_line_open() -> None:
    lines = answer("x")
    lines[0] = f"Welcome{lines[0]}"
    assert parse_stream(lines) == Stream("", b"x", True, "0", "Welcome")


def test_what_did_not_begin_is_noise() -> None:
    lines = ["ssh: connect to host n1 port 22: No route to host\r", ""]
    noise = "ssh: connect to host n1 port 22: No route to host"
    assert parse_stream(lines) == Stream(None, b"", False, None, noise)


def test_pieces_of_broken_lines_are_joined_wherever_they_broke() -> None:
    """As slurmstepd and srun break the end of long outputs, seen with 22.05."""
    text = f"{packed('hello' * 100)}scrjob:end:137;"
    for at in range(len(text) + 1):
        stream = parse_stream(["scrjob:begin", text[:at], text[at:], "Killed"])
        assert (stream.data, stream.whole, stream.end) == (b"hello" * 100, True, "137")


def test_an_answer_that_broke_off_is_kept_as_far_as_it_came() -> None:
    lines = ["scrjob:begin", packed("x" * 99)[:-6], "client_loop: send disconnect: Broken pipe"]
    stream = parse_stream(lines)
    assert (stream.data, stream.whole, stream.end) == (b"x" * 99, False, None)
    assert stream.noise == "client_loop: send disconnect: Broken pipe"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:20] + line[24:],
        lambda line: line[:-4],
        lambda _: "",
        lambda _: "Killed",
        lambda line: line[:-8] + "AAAAAAA=",
    ],
)
def test_what_was_damaged_on_its_way_is_no_answer(damage: Callable[[str], str]) -> None:
    lines = ["scrjob:begin", damage(packed("hello " * 9)), "scrjob:end:0;"]
    result = entered(lines, answer(""))
    assert (result.rc("n1"), result.failure("n1")) == (None, "its answer was damaged on the way")


def entered(out: list[str], err: list[str], said: str = "") -> RemoteExecResult:
    result = RemoteExecResult(["cmd"], ["n1"])
    enter(result, "n1", (out, err), 2.0, said)
    return result


def test_both_streams_and_the_code_are_entered() -> None:
    result = entered(answer("out", "137"), answer("err", "137"))
    assert (result.stdout("n1"), result.stderr("n1"), result.rc("n1")) == ("out", "err", 137)


@pytest.mark.parametrize(
    ("out", "err", "said", "why"),
    [
        (answer("x", "late"), answer("", "late"), "ssh said", "no answer within 2 s"),
        (answer("x"), ["scrjob:begin"], "", "no answer within 2 s"),
        (answer("x"), ["scrjob:begin", "lost it"], "", "its answer broke off: lost it"),
        (answer("x", "0"), answer("", "1"), "", "its answer was damaged on the way"),
        ([], ["Permission denied"], "exit code 255", "Permission denied"),
        ([], [], "ssh ended with exit code 255", "ssh ended with exit code 255"),
        ([], [], "", "no answer within 2 s"),
    ],
)
def test_without_an_end_on_both_streams_there_is_no_code(
    out: list[str], err: list[str], said: str, why: str
) -> None:
    result = entered(out, err, said)
    assert (result.rc("n1"), result.failure("n1")) == (None, why)


def test_a_reason_is_one_printable_line() -> None:
    assert one_line("a\tb\r\n\x1b[31mc") == "a b   [31mc"
    assert one_line("\n") == "no answer"
    assert len(one_line("x" * 10_000)) == 300


def test_the_same_node_twice_is_refused() -> None:
    refuse_duplicates(["n1", "n2"])
    with pytest.raises(UsageError, match="twice: n1, n1"):
        refuse_duplicates(["n1", "n1"])
