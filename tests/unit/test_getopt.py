# SPDX-License-Identifier: BSD-3-Clause
"""Options as glibc takes them: abbreviations, values, complaints."""

from __future__ import annotations

import pytest

from scrjob._getopt import UNKNOWN, Option, getopt_long

OPTIONS = (
    Option("prefix", "p", takes=True),
    Option("crc", "r"),
    Option("cntldir", "c", takes=True),
    Option("progress", whole=True),
)


def parse(*words: str) -> list[tuple[str, str]]:
    return list(getopt_long("prog", words, OPTIONS))


@pytest.mark.parametrize("word", ["--p=x", "--pre=x", "--prefix=x", "-px"])
def test_abbreviations(word: str) -> None:
    assert parse(word) == [("prefix", "x")]


def test_what_must_be_written_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """An option that SCR's program does not have leaves its abbreviations alone."""
    assert parse("--progress") == [("progress", "")]
    assert parse("--progres") == [(UNKNOWN, "--progres")]
    assert "unrecognized option '--progres'" in capsys.readouterr().err
    assert parse("--pr", "x") == [("prefix", "x")]


def test_ambiguous(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("--c") == [(UNKNOWN, "--c")]
    assert (
        "option '--c' is ambiguous; possibilities: '--crc' '--cntldir'" in capsys.readouterr().err
    )
