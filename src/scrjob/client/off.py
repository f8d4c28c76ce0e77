# SPDX-License-Identifier: BSD-3-Clause
"""The client with SCR_ENABLE=0: programs run unchanged, files are where their names say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from scrjob.client.settings import ProgramConfig
    from scrjob.client.team import Communicator


class Off:
    """Answers as ``Session`` does, touches no file and asks for no checkpoint."""

    def __init__(self, comm: Communicator, program: ProgramConfig) -> None:
        self._comm = comm
        self._values = program.scalars()

    def config(self, name: str) -> Optional[str]:
        """Return what the program itself has set."""
        return self._values.get(name)

    def have_restart(self) -> Optional[str]:
        """Return None."""
        return None

    def start_restart(self) -> str:
        """Return ""."""
        return ""

    def complete_restart(self, valid: bool = True) -> bool:
        """Tell whether all ranks say so."""
        return self._comm.allreduce(int(not valid)) == 0

    def need_checkpoint(self) -> bool:
        """Return False."""
        return False

    def start_output(self, name: Optional[str], *, is_ckpt: bool, is_output: bool) -> str:
        """Return the name."""
        del is_ckpt, is_output
        return name or ""

    def complete_output(self, valid: bool = True) -> bool:
        """Tell whether all ranks say so."""
        return self._comm.allreduce(int(not valid)) == 0

    def route_file(self, path: str) -> str:
        """Return the path as it is."""
        return path

    def should_exit(self) -> bool:
        """Return False."""
        return False

    def current(self, name: str) -> None:
        """Do nothing."""

    def drop(self, name: str) -> None:
        """Do nothing."""

    def finalize(self) -> None:
        """Do nothing."""
