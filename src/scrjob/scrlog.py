# SPDX-License-Identifier: BSD-3-Clause
"""The SCR log: what happened to a job and its datasets, one line a record, read and written here.

::

    <time>: host=<host>, jobid=<id>, event=<LABEL>[, note="<text>"][, dset=<n>][, name="<text>"][, secs=<f>]
    <time>: host=<host>, jobid=<id>, xfer=<LABEL>[, from=<path>][, to=<path>][, dset=<n>][, name="<text>"]
            [, secs=<f>][, bytes=<f>][, files=<n>]

The format has no escapes, so the writer keeps a value from being read as something else: a control
character becomes ``?``, a double quote inside quotes becomes ``'``, and the separator ``", "`` outside
of quotes becomes ``",_"``. docs/formats/log.md is the page with all labels.

Source: format, limits and mode of the C library 3.1; its syslog message goes out as data here, never as
a format string.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence, Union

if TYPE_CHECKING:
    from scrjob.param import Param
    from scrjob.protocols import Clock, Context

    StrPath = Union[str, "os.PathLike[str]"]

RECORD_LIMIT_BYTES = 1023  # a longer record is cut, its last byte is still the line end
LOG_MODE = 0o600
SYSLOG_IDENT = "SCR"

_LINE_LIMIT_CHARS = 4 * RECORD_LIMIT_BYTES  # a "line" beyond this is no record
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d):? ")
_QUOTED = re.compile(r', (note|name)="(.*?)"(?=, |$)')
_CUT_QUOTE = re.compile(r', (?:note|name)=".*', re.DOTALL)  # the end of a record that was too long
_FIELDS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "jobid": (re.compile(r".*"), str),
    "from": (re.compile(r".*"), str),
    "to": (re.compile(r".*"), str),
    "dset": (re.compile(r"\d{1,18}", re.ASCII), int),
    "secs": (re.compile(r"\d+\.\d+", re.ASCII), float),
    "bytes": (re.compile(r"\d+\.\d+", re.ASCII), float),
    "files": (re.compile(r"\d{1,18}", re.ASCII), float),
}


def parse_line(l: str) -> dict[str, Any]:  # noqa: E741 - the published name
    """Return the fields of one record, only those present; {} for a line that is no record.

    Keys: ``type`` (``event`` or ``xfer``), ``label``, ``jobid``, ``from``, ``to``, ``note``, ``name``: str;
    ``dset``: int; ``secs``, ``bytes``, ``files``: float; ``timestamp``: datetime without a zone, local time.
    Fields whose value is malformed are left out.
    """
    from datetime import datetime  # noqa: PLC0415 - writers do not need it

    line = l.rstrip("\n")
    found = _TIMESTAMP.match(line)
    if not found:
        return {}
    record: dict[str, Any] = {}
    try:
        record["timestamp"] = datetime.fromisoformat(found[1])
    except ValueError:
        return {}
    rest = line[found.end() :]
    for quoted in _QUOTED.finditer(rest):
        record.setdefault(quoted[1], quoted[2])
    for part in _CUT_QUOTE.sub("", _QUOTED.sub("", rest)).split(", "):
        key, sign, value = part.partition("=")
        if not sign:
            continue
        if key in ("event", "xfer"):
            record.setdefault("type", key)
            record.setdefault("label", value)
        elif key in _FIELDS:
            pattern, convert = _FIELDS[key]
            if pattern.fullmatch(value):
                record.setdefault(key, convert(value))
    return record if "type" in record else {}


def iter_file(filename: StrPath) -> Iterator[dict[str, Any]]:
    """Yield the records of a log one by one, skipping lines that are none.

    Raises:
        OSError: it cannot be read.
    """
    with open(filename, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        while True:
            line = file.readline(_LINE_LIMIT_CHARS)
            if not line:
                return
            record = parse_line(line)
            if record:
                yield record


def parse_file(filename: StrPath) -> list[dict[str, Any]]:
    """Return the records of a log, see ``parse_line``.

    Raises:
        OSError: it cannot be read.
    """
    return list(iter_file(filename))


class _Recorder(ABC):
    """Turns what happened into the text of a record; a subclass says where the text goes."""

    @abstractmethod
    def record(self, text: str, when: Optional[float]) -> bool:
        """Take one record, without its head; ``when`` in Unix seconds, None for now."""

    def event(
        self,
        label: str,
        dset: Optional[int] = None,
        name: Optional[str] = None,
        start: Optional[float] = None,
        secs: Optional[float] = None,
        note: Optional[str] = None,
    ) -> bool:
        """Record an event.

        Args:
            label: its kind, e.g. ``RUN_START``.
            dset: dataset id.
            name: dataset name.
            start: Unix seconds; default now.
            secs: how long it took.
            note: free text.
        """
        fields = [f"event={_plain(label)}"]
        if note is not None:
            fields.append(f'note="{_quotable(note)}"')
        fields += _dataset_fields(dset, name)
        if secs is not None:
            fields.append(f"secs={secs:f}")
        return self.record(", ".join(fields), start)

    def transfer(
        self,
        label: str,
        *,
        from_: Optional[str] = None,
        to: Optional[str] = None,
        dset: Optional[int] = None,
        name: Optional[str] = None,
        start: Optional[float] = None,
        secs: Optional[float] = None,
        nbytes: Optional[float] = None,
        files: Optional[int] = None,
    ) -> bool:
        """Record that ``files`` files of ``nbytes`` bytes were moved from ``start`` (Unix seconds) on."""
        fields = [f"xfer={_plain(label)}"]
        if from_ is not None:
            fields.append(f"from={_plain(from_)}")
        if to is not None:
            fields.append(f"to={_plain(to)}")
        fields += _dataset_fields(dset, name)
        if secs is not None:
            fields.append(f"secs={secs:f}")
        if nbytes is not None:
            fields.append(f"bytes={nbytes:f}")
        if files is not None:
            fields.append(f"files={files:d}")
        return self.record(", ".join(fields), start)

    def started(self, procs: int, nodes: int) -> bool:
        """Record that a program with so many processes on so many nodes began."""
        return self.record(f"event=START, procs={procs:d}, nodes={nodes:d}", None)

    def halted(self, reason: Optional[str] = None) -> bool:
        """Record that the program halts, and why."""
        return self.event("HALT", note=reason)


class LogWriter(_Recorder):
    """Appends records to a text file, each in one write, so that several writers do not mix.

    Args:
        path: the file; made with mode 0600 at the first record, its directory must exist.
        host: our host name.
        jobid: the job's id.
        clock: for records without a time of their own.

    Raises (in each method):
        OSError: the record could not be written whole.
    """

    def __init__(self, path: StrPath, *, host: str, jobid: str, clock: Clock) -> None:
        self._path = path
        self._head = f"host={_plain(host)}, jobid={_plain(jobid)}"
        self._clock = clock

    def record(self, text: str, when: Optional[float]) -> bool:
        """Append one record."""
        moment = time.localtime(int(self._clock.now() if when is None else when))
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}: {self._head}, {text}\n"
        data = line.encode("utf-8", "surrogateescape")
        if len(data) > RECORD_LIMIT_BYTES:
            data = data[: RECORD_LIMIT_BYTES - 1] + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._path, flags, LOG_MODE)
        try:
            written = os.write(fd, data)
        finally:
            os.close(fd)
        if written != len(data):
            raise OSError(f"{os.fspath(self._path)}: only {written} of {len(data)} bytes written")
        return True


class SyslogWriter(_Recorder):
    """Sends records to syslog.

    Args:
        user: name of the user.
        jobid: the job's id.
        prefix: the prefix directory.
        send: takes the text; default: the system's syslog, facility local7, level info.
    """

    def __init__(
        self, *, user: str, jobid: str, prefix: str, send: Optional[Callable[[str], None]] = None
    ) -> None:
        self._head = f"user={_plain(user)}, jobid={_plain(jobid)}, prefix={_plain(prefix)}"
        self._send = send or _send_to_syslog

    def record(self, text: str, when: Optional[float]) -> bool:  # noqa: ARG002 - syslog has its own
        """Send one record."""
        message = f"{self._head}, {text}\n".encode("utf-8", "surrogateescape")
        self._send(message.decode("utf-8", "replace"))
        return True


class EventLog(_Recorder):
    """A job's log in all places that are switched on; recording never stops the job.

    Args:
        writers: where records go; none if logging is off.
    """

    def __init__(self, writers: Sequence[_Recorder] = ()) -> None:
        self._writers = list(writers)

    def record(self, text: str, when: Optional[float]) -> bool:
        """Give the record to all writers; False, and a warning, if one of them failed."""
        good = True
        for writer in self._writers:
            good = _attempt(writer, text, when) and good
        return good


def _attempt(writer: _Recorder, text: str, when: Optional[float]) -> bool:
    try:
        return writer.record(text, when)
    except OSError as error:
        import logging  # noqa: PLC0415 - only when something is wrong

        logging.getLogger(__name__).warning("cannot write the SCR log: %s", error)
        return False


def log_path(prefix: str) -> str:
    """Return the text log's path in a prefix directory."""
    return os.path.join(prefix, ".scr", "log")


def open_log(param: Param, context: Context, *, prefix: str, jobid: str, user: str) -> EventLog:
    """Return the log as the SCR_LOG_* settings want it; one that does nothing if logging is off.

    Raises:
        ConfigError: a switch is no number.
    """
    writers: list[_Recorder] = []
    if param.get_bool("SCR_LOG_ENABLE"):
        if param.get_bool("SCR_LOG_TXT_ENABLE"):
            path = log_path(prefix)
            writers.append(LogWriter(path, host=context.hostname, jobid=jobid, clock=context.clock))
        if param.get_bool("SCR_LOG_SYSLOG_ENABLE"):
            writers.append(SyslogWriter(user=user, jobid=jobid, prefix=prefix))
    return EventLog(writers)


def _send_to_syslog(text: str) -> None:
    import syslog  # noqa: PLC0415 - only if switched on

    syslog.openlog(SYSLOG_IDENT, 0, syslog.LOG_LOCAL7)  # opened late, which is LOG_ODELAY
    syslog.syslog(syslog.LOG_INFO, text)


def _dataset_fields(dset: Optional[int], name: Optional[str]) -> list[str]:
    fields = []
    if dset is not None:
        fields.append(f"dset={int(dset)}")
    if name is not None:
        fields.append(f'name="{_quotable(name)}"')
    return fields


def _printable(text: str) -> str:
    # Surrogates are bytes that are no UTF-8: they pass, they cannot end a line.
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else "?" for c in text)


def _quotable(text: str) -> str:
    return _printable(text).replace('"', "'")


def _plain(text: str) -> str:
    return _printable(text).replace(", ", ",_")
