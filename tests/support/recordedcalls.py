# SPDX-License-Identifier: BSD-3-Clause
"""Calls of the real tools with their answers, and running ours in this process."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
from typing import Iterator, NamedTuple

MISSING = object()


class Answer(NamedTuple):
    """What a command wrote to stdout, and its exit code."""

    stdout: str
    code: int


class Call(NamedTuple):
    argv: list[str]
    answer: Answer


def parse(text: str) -> Iterator[Call]:
    """Yield the calls of a log: ``$ command``, what it said, ``[exit N]``."""
    line, said = "", []
    for row in text.splitlines(keepends=True):
        end = re.search(r"\[exit (\d+)\]\n$", row)
        if row.startswith("$ "):
            line, said = row[2:], []
        elif end and line:
            said.append(row[: end.start()])
            stdout = re.sub(r" @ \S+:\d+$", "", "".join(said), flags=re.MULTILINE)
            yield Call(shlex.split(line), Answer(stdout, int(end[1])))
            line = ""
        else:
            said.append(row)


def run(argv: list[str]) -> Answer:
    """Run one of our commands in this process."""
    main = importlib.import_module(f"scrjob.commands.{argv[0]}").main
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(argv[1:])
    return Answer(out.getvalue(), code)


def as_recorded(text: str) -> str:
    """Return our output with this host's name replaced by that of the recording."""
    return text.replace(f" {os.uname().nodename}: ", " vm: ")
