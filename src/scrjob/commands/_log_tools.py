# SPDX-License-Identifier: BSD-3-Clause
"""What ``scr_log_event`` and ``scr_log_transfer`` share: options of one letter, each with a value.

A value stands in the same word or in the next one, whatever that looks like. Messages about wrong
arguments go to stdout and the exit code is 1, as scripts know it from SCR's tools; there is no help
option, ``-h`` is wrong too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional

from scrjob.errors import UsageError

if TYPE_CHECKING:
    from scrjob.scrlog import EventLog

SCR_VERSION = "3.1.0"  # whose tools these are, in their messages

COMMON = {
    "p": "<prefix>    Prefix directory, required",
    "u": "<username>  User of the job, default SCR_USER_NAME, then USER, then the uid's name",
    "j": "<jobname>   Name of the job, accepted for old scripts",
    "i": "<jobid>     Job id, default SCR_JOB_ID",
    "s": "<seconds>   Start of the job, accepted for old scripts",
    "T": "<type>      Label of the record",
}

_INTEGER = re.compile(r"\s*([+-]?\d{1,18})", re.ASCII)
_UNSIGNED = re.compile(r"\s*(0[xX][0-9a-fA-F]{1,15}|0[0-7]{0,20}|[1-9]\d{0,17})", re.ASCII)
_TIME_LIMIT = 1 << 40  # beyond it, no calendar has a date


class Call(NamedTuple):
    """The options as given, by letter, and the log that they are for."""

    values: Mapping[str, str]
    log: EventLog

    def number(self, letter: str) -> Optional[int]:
        """Return a value as C's atoi reads it, 0 for text; None if not given."""
        text = self.values.get(letter)
        return None if text is None else atoi(text)

    def start(self) -> Optional[float]:
        """Return the time of ``-S`` in Unix seconds, decimal, 0x or 0 octal; None if not given."""
        text = self.values.get("S")
        if text is None:
            return None
        found = _UNSIGNED.match(text)
        digits = found[1] if found else "0"
        octal = digits[0] == "0" and digits[1:2] not in ("x", "X")
        seconds = int(digits, 8 if octal else 0)
        if seconds >= _TIME_LIMIT:
            raise UsageError(f"-S {text}: no time in Unix seconds")
        return seconds


def atoi(text: str) -> int:
    """Return the whole number that a text begins with, 0 if none."""
    found = _INTEGER.match(text)
    return int(found[1]) if found else 0


def parse(argv: list[str], letters: Mapping[str, str]) -> dict[str, str]:
    """Return the values by option letter; of several the last.

    Raises:
        UsageError: another letter, a word that is no option, a value that is missing, or no ``-p``.
    """
    values: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if len(word) < 2 or word[0] != "-":  # noqa: PLR2004 - dash and letter
            raise UsageError(f"Unknown argument {word}")
        letter, value = word[1], word[2:]
        if letter not in letters:
            raise UsageError(f"Invalid flag -{letter}")
        following = value or next(words, None)
        if following is None:
            raise UsageError(f"No value for -{letter}")
        values[letter] = following
    if "p" not in values:
        raise UsageError("-p <prefix> required")
    return values


def usage(prog: str, title: str, letters: Mapping[str, str]) -> str:
    """Return the usage text."""
    lines = [f"  -{letter} {text}" for letter, text in letters.items()]
    return "\n".join(["", f"{prog} -- {title}", "", "Options:", *lines, ""])


def prepare(prog: str, title: str, argv: list[str], letters: Mapping[str, str]) -> Optional[Call]:
    """Return the call, or None after telling on stdout what is wrong with the arguments.

    Settings come from SCR_PREFIX or the current directory, not from ``-p``, as in SCR's tools.

    Raises:
        UsageError: logging is on and there is no job id.
    """
    from scrjob._context import system_context  # noqa: PLC0415 - not for wrong arguments
    from scrjob.jobenv import JobEnv  # noqa: PLC0415 - same
    from scrjob.scrlog import open_log  # noqa: PLC0415 - same

    context = system_context()
    try:
        values = parse(argv, letters)
    except UsageError as error:
        head = f"SCR v{SCR_VERSION} ERROR: {context.hostname}:"
        print(f"{head} {error}\n{usage(prog, title, letters)}")
        print(f"{head} {prog}: Failed to process args")
        return None
    env = JobEnv(context=context)
    jobid = values.get("i") or env.param.get("SCR_JOB_ID")
    if not jobid and env.param.get_bool("SCR_LOG_ENABLE"):
        raise UsageError("no job id: give it with -i or set SCR_JOB_ID")
    log = open_log(
        env.param,
        context,
        prefix=values["p"],
        jobid=jobid or "",
        user=values.get("u") or env.user(),
    )
    return Call(values, log)
