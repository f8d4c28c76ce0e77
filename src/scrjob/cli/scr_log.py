# SPDX-License-Identifier: BSD-3-Clause
"""``scr_log_event`` and ``scr_log_transfer`` as a class: records in the SCR log, where it is switched on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Union

from scrjob.cli import _tool
from scrjob.errors import ScrError

if TYPE_CHECKING:
    from scrjob.param import Param
    from scrjob.protocols import Context
    from scrjob.scrlog import EventLog

LARGEST_SIZE = (1 << 31) - 1  # SCR's scr_log_transfer reads bytes as a C int


class SCRLog:
    """Records events of one job; whether and where, the SCR_LOG_* settings say.

    Args:
        prefix: the prefix directory.
        jobid: the job's id.
        jobname: a label that ties runs together.
        user: name of the user; default: USER in the environment.
        jobstart: Unix seconds, for the executable only.
        verbose: log what is done.
        context: the outside world.
        bin_dir: directory of SCR's own executables, "" to work without them; default: the site's.
        param: the settings; default: as the context has them.
    """

    def __init__(
        self,
        prefix: str,
        jobid: str,
        jobname: Optional[str] = None,
        user: Optional[str] = None,
        jobstart: Optional[int] = None,
        verbose: bool = False,
        *,
        context: Optional[Context] = None,
        bin_dir: Optional[str] = None,
        param: Optional[Param] = None,
    ) -> None:
        self.prefix = os.fspath(prefix)
        self.jobid = str(jobid)
        self.jobname = jobname
        self.user = user
        self.jobstart = jobstart
        self._context = context
        self._param = param
        self._log: Optional[EventLog] = None
        self._tool = _tool.choose("scr_log_event", bin_dir, context, verbose=verbose)
        self._transfers = _tool.choose("scr_log_transfer", bin_dir, context, verbose=verbose)

    def event(
        self,
        event_type: str,
        dset: Optional[Union[int, str]] = None,
        name: Optional[str] = None,
        start: Optional[float] = None,
        secs: Optional[float] = None,
        note: Optional[str] = None,
    ) -> bool:
        """Record an event and tell whether that worked; true also where logging is off.

        Args:
            event_type: its kind, e.g. ``RUN_START``.
            dset: dataset id.
            name: dataset name.
            start: Unix seconds; default now.
            secs: how long it took.
            note: free text.
        """
        number = None if dset is None else _tool.dataset_id(dset)
        if self._tool is not None:
            return self._ask(
                self._tool, event_type, number, name, _whole(start), secs, {"-N": note}
            )
        when = None if start is None else float(start)
        took = None if secs is None else float(secs)
        return self._native().event(event_type, number, name, when, took, note)

    def transfer(
        self,
        label: str,
        *,
        from_: Optional[str] = None,
        to: Optional[str] = None,
        dset: Optional[Union[int, str]] = None,
        name: Optional[str] = None,
        start: Optional[float] = None,
        secs: Optional[float] = None,
        nbytes: Optional[float] = None,
        files: Optional[int] = None,
    ) -> bool:
        """Record a transfer of files and tell whether that worked; true also where logging is off.

        Args:
            label: its kind, e.g. ``SCAVENGE``.
            from_: directory that files were read from.
            to: directory that they were written to.
            dset: dataset id.
            name: dataset name.
            start: Unix seconds; default now.
            secs: how long it took.
            nbytes: how much; not recorded if SCR's executable would record another number.
            files: how many.
        """
        number = None if dset is None else _tool.dataset_id(dset)
        if self._transfers is not None:
            size = None if nbytes is not None and nbytes > LARGEST_SIZE else nbytes
            extra = {"-X": from_, "-Y": to, "-B": _whole(size), "-F": _whole(files)}
            when = _tool.clock_of(self._context).now() if start is None else start  # or it crashes
            return self._ask(self._transfers, label, number, name, _whole(when), secs, extra)
        return self._native().transfer(
            label,
            from_=from_,
            to=to,
            dset=number,
            name=name,
            start=start,
            secs=secs,
            nbytes=nbytes,
            files=files,
        )

    def _native(self) -> EventLog:
        if self._log is None:
            from scrjob._context import system_context  # noqa: PLC0415 - only without a given one
            from scrjob.param import Param  # noqa: PLC0415 - only for the first record
            from scrjob.scrlog import open_log  # noqa: PLC0415 - only for the first record

            context = self._context or system_context()
            param = self._param or Param(environ=context.environ)
            user = self.user or context.environ.get("USER") or ""
            self._log = open_log(param, context, prefix=self.prefix, jobid=self.jobid, user=user)
        return self._log

    def _ask(
        self,
        tool: _tool.Tool,
        event_type: str,
        dset: Optional[int],
        name: Optional[str],
        start: Optional[str],
        secs: Optional[float],
        extra: dict[str, Optional[str]],
    ) -> bool:
        given = {
            "-p": self.prefix,
            "-u": self.user,
            "-j": self.jobname,
            "-i": self.jobid,
            "-s": _whole(self.jobstart),
            "-T": event_type,
            "-D": None if dset is None else str(dset),
            "-n": name,
            "-S": start,
            "-L": _whole(secs),
            **extra,
        }
        args = [word for key, value in given.items() if value is not None for word in (key, value)]
        try:
            return tool.run(*args).returncode == 0
        except ScrError as error:  # as a log that cannot be written: no reason to end anything
            _tool.warn("%s", error)
            return False


def _whole(number: Optional[float]) -> Optional[str]:
    """Return seconds and counts as SCR's executables take them: whole."""
    return None if number is None else str(int(number))
