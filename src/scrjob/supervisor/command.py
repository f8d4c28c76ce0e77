# SPDX-License-Identifier: BSD-3-Clause
"""What to launch: the launcher's arguments, and the run or restart command in them."""

from __future__ import annotations

import shlex
from typing import NamedTuple, Optional, Sequence

from scrjob.errors import UsageError

NAME_SLOT = "SCR_CKPT_NAME"


class RunCommand(NamedTuple):
    """The command line of one job, words as the launcher gets them.

    Attributes:
        launcher_args: everything after the launcher's name; without ``run_cmd`` the program is in it.
        run_cmd: appended to them, split as a shell would; "" for none.
        restart_cmd: used in place of ``run_cmd`` when there is a checkpoint; SCR_CKPT_NAME in it
            becomes the checkpoint's name.
        restart_args: launcher arguments for the restart command; empty: ``launcher_args``.
    """

    launcher_args: Sequence[str]
    run_cmd: str = ""
    restart_cmd: str = ""
    restart_args: Sequence[str] = ()

    def check(self) -> None:
        """Raise UsageError unless there is something to launch and all of it can be split."""
        if not self.launcher_args and not self.run_cmd:
            raise UsageError("nothing to run: name a program, or give --run-cmd")
        self.words(None)
        self.words("name")

    def words(self, checkpoint: Optional[str]) -> list[str]:
        """Return the launcher's arguments for a start from ``checkpoint``, None for the beginning.

        Raises:
            UsageError: a command has an open quotation.
        """
        if checkpoint is not None and self.restart_cmd:
            words = [word.replace(NAME_SLOT, checkpoint) for word in _split(self.restart_cmd)]
            return [*(self.restart_args or self.launcher_args), *words]
        return [*self.launcher_args, *_split(self.run_cmd)]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot split {text!r} into words: {error}") from error
