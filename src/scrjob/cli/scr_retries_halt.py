# SPDX-License-Identifier: BSD-3-Clause
"""``scr_retries_halt`` as a class: must the job stop, and why?"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional

from scrjob.cli import _tool
from scrjob.errors import FormatError
from scrjob.formats import halt, paths

if TYPE_CHECKING:
    from scrjob.protocols import Context

PROG = "scr_retries_halt"


class SCRRetriesHalt(_tool.Wrapper):
    """The question whether a condition in ``<prefix>/.scr/halt.scr`` forbids another run.

    Constructed as ``_tool.Wrapper``.
    """

    _executable = PROG

    def check(self) -> Optional[str]:
        """Return why the job must stop as one line, None if it may go on.

        A damaged file holds no conditions, as for SCR; that is logged. A file that cannot be opened
        stops the job.
        """
        lines = self._native() if self._tool is None else self._ask(self._tool)
        return "; ".join(lines) or None

    def _ask(self, tool: _tool.Tool) -> List[str]:
        result = tool.run("--dir", self.prefix)
        lines = result.stdout.splitlines()
        if result.returncode != 0:
            if _tool.ERROR_MARK in result.stdout:
                _tool.warn("no halt conditions: %s", lines[0])
            return []
        return lines or [f"{PROG}: HALT RUN"]

    def _native(self) -> List[str]:
        try:
            found = halt.conditions(halt.read(paths.halt_file(self.prefix)))
        except FileNotFoundError:
            return []
        except FormatError as error:
            _tool.warn("no halt conditions: %s", error)
            return []
        except OSError:
            return [f"{PROG}: HALT RUN: Failed to open existing halt file."]
        now = _tool.clock_of(self._context).now()
        return hit_lines(found, now=now, environ_of=self._context)


def hit_lines(
    found: halt.Conditions, *, now: float, environ_of: Optional[Context] = None
) -> List[str]:
    """Return the lines of scr_retries_halt for what a halt file says, [] if the job may go on."""
    seconds = 0
    if found.before is not None and found.seconds is None:
        seconds = _halt_seconds(environ_of)  # only now, because it reads configuration files
    hits = halt.retries_hits(found, now=now, halt_seconds=seconds)
    return [f"{PROG}: HALT RUN: {hit.text}" for hit in hits]


def _halt_seconds(context: Optional[Context]) -> int:
    """Return the setting SCR_HALT_SECONDS, 0 if unset; C's atoi as everywhere in SCR."""
    from scrjob.formats._numbers import atoi  # noqa: PLC0415 - see hit_lines
    from scrjob.param import Param  # noqa: PLC0415 - see hit_lines

    param = Param() if context is None else Param(environ=context.environ)
    return atoi((param.get("SCR_HALT_SECONDS") or "").encode("utf-8", "surrogateescape"))
