# SPDX-License-Identifier: BSD-3-Clause
"""``scr_halt_cntl`` as a class: set, unset and list the conditions that stop a job."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, List, Union

from scrjob.cli import _tool
from scrjob.errors import CommandError, FormatError, UsageError
from scrjob.formats import halt, paths

_SECONDS_LIMIT = 1 << 31  # SCR keeps times and counters in 32-bit ints
_LETTERS = {
    halt.CHECKPOINTS: "c",
    halt.BEFORE: "b",
    halt.AFTER: "a",
    halt.SECONDS: "s",
    halt.REASON: "r",
}


class SCRHaltFile(_tool.Wrapper):
    """Changes to ``<prefix>/.scr/halt.scr``: collected first, done together by ``execute``.

    Constructed as ``_tool.Wrapper``.
    """

    _executable = "scr_halt_cntl"

    def _prepare(self) -> None:
        self.path = paths.halt_file(self.prefix)
        self._change: Dict[str, Union[int, str, None]] = {}
        self._list = False

    def remove(self) -> None:
        """Delete the halt file; absent is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def set_checkpoints(self, checkpoints: Union[int, str]) -> None:
        """Stop after so many more checkpoints."""
        self._change[halt.CHECKPOINTS] = _number(checkpoints, "number of checkpoints")

    def set_before(self, secs: Union[int, str]) -> None:
        """Stop before this time, Unix seconds."""
        self._change[halt.BEFORE] = _number(secs, "time")

    def set_after(self, secs: Union[int, str]) -> None:
        """Stop at the first chance after this time, Unix seconds."""
        self._change[halt.AFTER] = _number(secs, "time")

    def set_seconds(self, secs: Union[int, str]) -> None:
        """Stop so many seconds before the end of the allocation."""
        self._change[halt.SECONDS] = _number(secs, "number of seconds")

    def set_halted(self) -> None:
        """Stop at the first chance."""
        self._change[halt.REASON] = halt.JOB_HALTED

    def set_list(self) -> None:
        """Only list the conditions, whatever else was collected."""
        self._list = True

    def unset_checkpoints(self) -> None:
        """Drop the limit on checkpoints, if none was set here."""
        self._change.setdefault(halt.CHECKPOINTS, None)

    def unset_before(self) -> None:
        """Drop the time to stop before, if none was set here."""
        self._change.setdefault(halt.BEFORE, None)

    def unset_after(self) -> None:
        """Drop the time to stop after, if none was set here."""
        self._change.setdefault(halt.AFTER, None)

    def unset_seconds(self) -> None:
        """Drop the number of seconds, if none was set here."""
        self._change.setdefault(halt.SECONDS, None)

    def unset_reason(self) -> None:
        """Drop the reason to stop, if none was set here."""
        self._change.setdefault(halt.REASON, None)

    def execute(self) -> str:
        """Do what was collected, or ``set_halted`` if nothing was; returns what scr_halt_cntl prints.

        Raises:
            CommandError: the executable failed.
            OSError: the file cannot be read or written.
            FormatError: the file to list is damaged.
        """
        if not self._change and not self._list:
            self.set_halted()
        if self._tool is not None:
            return self._ask(self._tool)
        if self._list:
            return listing(self.path)
        said = halt.changes_text(self._change)
        tree = halt.update(
            self.path,
            lambda found: halt.apply(found, self._change),
            on_damage=lambda error: _tool.warn("replacing a damaged halt file: %s", error),
        )
        return f"{said}\n\n{halt.settings_text(self.path, halt.conditions(tree))}\n"

    def _ask(self, tool: _tool.Tool) -> str:
        args = ["-f", self.path]
        if self._list:
            args.append("-l")
        else:
            args += _words(self._change)
        result = tool.run(*args)
        if result.returncode != 0:
            raise CommandError(
                [tool.name, *args], returncode=result.returncode, stdout=result.stdout
            )
        lines = result.stdout.splitlines(keepends=True)
        damage = [line for line in lines if _tool.ERROR_MARK in line]
        if damage and self._list:
            raise FormatError(damage[0].strip(), path=self.path)
        return "".join(line for line in lines if line not in damage)


def listing(path: str) -> str:
    """Return the block of settings of a halt file that may be absent, with a final newline.

    Raises:
        FormatError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        tree = halt.read(path)
    except FileNotFoundError:
        return halt.settings_text(path, halt.Conditions()) + "\n"
    return halt.settings_text(path, halt.conditions(tree)) + "\n"


def _words(change: halt.Change) -> List[str]:
    words = []
    for key, value in change.items():
        letter = _LETTERS[key]
        words += [f"-x{letter}"] if value is None else [f"-{letter}", str(value)]
    return words


def _number(value: Union[int, str], what: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise UsageError(f"{what} {value!r} is no number") from None
    if not -_SECONDS_LIMIT <= number < _SECONDS_LIMIT:
        raise UsageError(f"{what} {number} does not fit SCR's 32 bits")
    return number
