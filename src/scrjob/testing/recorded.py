# SPDX-License-Identifier: BSD-3-Clause
"""Recorded answers of real tools, and a strict stand-in that replays them.

A case is a directory ``<tool>/<version>/<case>/`` with these files::

    argv     the arguments after the tool's name, as a JSON list
    env      variables that must be set so ("" also means unset), as a JSON object; absent means none
    stdout   what it said; absent means nothing
    stderr   same
    rc       its exit code as a decimal number
    seconds  how long to wait before the answer; absent means 0
    NOTE     where and when it was recorded

The stand-in answers only calls that were recorded, argument for argument. Any other call ends with
exit code 97 and the nearest recorded call on stderr.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Optional, Sequence

EXIT_UNKNOWN_CALL = 97
CASES_VARIABLE = "SCRJOB_RECORDED_CASES"
LOG_VARIABLE = "SCRJOB_RECORDED_LOG"


class Case(NamedTuple):
    """One recorded call and its answer."""

    tool: str
    path: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    stdout: bytes
    stderr: bytes
    rc: int
    seconds: float


def load_cases(directories: Iterable[Path]) -> list[Case]:
    """Return the cases below directories of the shape ``<tool>/<version>``.

    Raises:
        OSError, ValueError: a case is incomplete.
    """
    cases = []
    for directory in directories:
        for argv in sorted(directory.glob("*/argv")):
            path = argv.parent
            cases.append(
                Case(
                    tool=directory.parent.name,
                    path=path,
                    argv=json.loads(argv.read_text("utf-8")),
                    env=json.loads(_optional(path / "env") or b"{}"),
                    stdout=_optional(path / "stdout"),
                    stderr=_optional(path / "stderr"),
                    rc=int((path / "rc").read_text("ascii")),
                    seconds=float(_optional(path / "seconds") or b"0"),
                )
            )
    return cases


def _optional(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def find(
    cases: Iterable[Case], tool: str, argv: Sequence[str], environ: Mapping[str, str]
) -> Optional[Case]:
    """Return the case of exactly this call in such an environment, None if it was not recorded."""
    for case in cases:
        fits = all(environ.get(name, "") == value for name, value in case.env.items())
        if fits and case.tool == tool and list(case.argv) == list(argv):
            return case
    return None


def nearest(cases: Iterable[Case], tool: str, argv: Sequence[str]) -> Optional[Case]:
    """Return the case of the same tool whose call looks most like this one."""
    import difflib  # noqa: PLC0415 - only for calls that fail anyway

    def likeness(case: Case) -> float:
        return difflib.SequenceMatcher(None, list(case.argv), list(argv)).ratio()

    return max((c for c in cases if c.tool == tool), key=likeness, default=None)


def install(
    bin_dir: Path, directories: Sequence[Path], *, tools: Sequence[str] = ()
) -> dict[str, str]:
    """Put the stand-in into ``bin_dir`` under the name of every recorded tool.

    Args:
        bin_dir: created if it does not exist.
        directories: ``<tool>/<version>`` directories of cases.
        tools: further names that answer no call at all.

    Returns:
        Variables for the environment; PATH has only ``bin_dir`` in front of the system's directories.
    """
    bin_dir.mkdir(parents=True, exist_ok=True)
    stand_in = bin_dir / ".recorded"
    stand_in.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {__name__} "${{0##*/}}" "$@"\n',
        "utf-8",
    )
    stand_in.chmod(0o755)
    for tool in {*tools, *(directory.parent.name for directory in directories)}:
        (bin_dir / tool).symlink_to(stand_in.name)
    return {
        "PATH": f"{bin_dir}:/usr/bin:/bin",
        CASES_VARIABLE: json.dumps([str(directory) for directory in directories]),
        LOG_VARIABLE: str(bin_dir / "calls.log"),
    }


def calls(bin_dir: Path) -> list[list[str]]:
    """Return the calls that the stand-in got so far, each with the tool's name first."""
    log = bin_dir / "calls.log"
    return (
        [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    )


def main(argv: Sequence[str]) -> int:
    """Be the tool named first: note the call, replay its answer, return its exit code."""
    tool, *arguments = argv
    environ = dict(os.environ)
    with open(environ[LOG_VARIABLE], "a", encoding="utf-8") as log:
        log.write(json.dumps([tool, *arguments]) + "\n")
    cases = load_cases(Path(name) for name in json.loads(environ[CASES_VARIABLE]))
    case = find(cases, tool, arguments, environ)
    if case is None:
        close = nearest(cases, tool, arguments)
        known = (
            f"nearest is {shlex.join([tool, *close.argv])} ({close.path})" if close else "none is"
        )
        sys.stderr.write(f"not recorded: {shlex.join([tool, *arguments])}; {known}\n")
        return EXIT_UNKNOWN_CALL
    time.sleep(case.seconds)
    sys.stdout.buffer.write(case.stdout)
    sys.stderr.buffer.write(case.stderr)
    return case.rc


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
