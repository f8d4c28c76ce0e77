# SPDX-License-Identifier: BSD-3-Clause
"""Every exception that scrjob raises on purpose.

::

    ScrError (1)
     ├── UsageError (64)                 the command line or an argument is wrong
     ├── ConfigError (78)                a setting is wrong; names its source
     │    └── UnsafePathError            a directory in a shared place is a link or not ours
     ├── NotInAllocationError (78)       no allocation, or its nodes cannot be known
     ├── SupervisorActiveError (78)      another live scr_run holds this job's state
     ├── CommandError                    an external command failed
     │    ├── CommandNotFoundError
     │    └── CommandTimeoutError
     ├── OutputParseError                a tool answered something that we do not understand
     ├── PluginError (78)                a plugin name is unknown or ambiguous
     │    └── PluginLoadError            a known plugin does not import
     ├── NotSupportedError               the plugin says that it cannot do this
     ├── RemoteExecError                 some nodes could not be reached; per node
     ├── FormatError                     a file of SCR is damaged: path, offset, expected, got
     │    ├── TruncatedError
     │    ├── ChecksumError
     │    └── UnsupportedVersionError
     ├── DatasetError                    a named dataset is not there, or not of the kind needed
     ├── UnrecoverableError (73)         more is lost than redundancy covers
     └── ScavengeError (73)              a dataset could not be made safe

The number is the process exit code that a command gives for it unless the command's own contract
says otherwise; the table is explained in docs/exit-codes.md. ``ScrError`` is also a
``RuntimeError``, because the published functions promise that type.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

__all__ = [
    "ChecksumError",
    "CommandError",
    "CommandNotFoundError",
    "CommandTimeoutError",
    "ConfigError",
    "DatasetError",
    "FormatError",
    "NotInAllocationError",
    "NotSupportedError",
    "OutputParseError",
    "PluginError",
    "PluginLoadError",
    "RemoteExecError",
    "ScavengeError",
    "ScrError",
    "SupervisorActiveError",
    "TruncatedError",
    "UnrecoverableError",
    "UnsafePathError",
    "UnsupportedVersionError",
    "UsageError",
]

_TAIL_CHARS = 400  # of a failed command's output in its message


class ScrError(RuntimeError):
    """Root of the tree: ``str()`` of it is one line for a user: what, where, what to do."""

    exit_code = 1


class UsageError(ScrError):
    """The call is wrong: an option, an argument, or their combination."""

    exit_code = 64


class ConfigError(ScrError):
    """A setting is wrong; the message names the setting and where it came from."""

    exit_code = 78


class UnsafePathError(ConfigError):
    """A directory in a shared place is a symbolic link or belongs to somebody else."""


class NotInAllocationError(ScrError):
    """There is no allocation here, or its nodes cannot be known."""

    exit_code = 78


class SupervisorActiveError(ScrError):
    """Another live supervisor works on the same job."""

    exit_code = 78


class _KeywordError(ScrError):
    """Errors made of named parts pickle through their keyword arguments."""

    def __init__(self, message: str, **parts: Any) -> None:
        super().__init__(message)
        self._parts = parts
        for name, value in parts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self._parts))


def _rebuild(kind: type[_KeywordError], message: str, parts: dict[str, Any]) -> _KeywordError:
    error = kind.__new__(kind)
    _KeywordError.__init__(error, message, **parts)
    return error


def _tail(text: str) -> str:
    text = text.strip().replace("\n", " | ")
    return text if len(text) <= _TAIL_CHARS else "..." + text[-_TAIL_CHARS:]


class CommandError(_KeywordError):
    """An external command failed.

    Attributes: ``argv``, ``returncode`` (None if it never ended by itself), ``stdout``, ``stderr``,
    ``seconds`` it took.
    """

    argv: Sequence[str]
    returncode: Optional[int]
    stdout: str
    stderr: str
    seconds: float

    def __init__(
        self,
        argv: Sequence[str],
        *,
        returncode: Optional[int] = None,
        stdout: str = "",
        stderr: str = "",
        seconds: float = 0.0,
        why: str = "",
    ) -> None:
        why = why or f"exit code {returncode}"
        said = _tail(stderr) or _tail(stdout)
        message = f"command failed: {' '.join(argv)}: {why}" + (f": {said}" if said else "")
        super().__init__(
            message,
            argv=list(argv),
            returncode=returncode,
            stdout=stdout,
            stderr=stderr,
            seconds=seconds,
        )


class CommandNotFoundError(CommandError):
    """The command does not exist or may not be executed."""


class CommandTimeoutError(CommandError):
    """The command did not end within its deadline and was killed."""


class OutputParseError(_KeywordError):
    """A tool's output is not what its format promises. Attributes: ``tool``, ``text``."""

    tool: str
    text: str

    def __init__(self, tool: str, text: str, why: str) -> None:
        super().__init__(f"cannot understand the output of {tool}: {why}", tool=tool, text=text)


class PluginError(ScrError):
    """A plugin name is unknown, ambiguous, or its class does not fit."""

    exit_code = 78


class PluginLoadError(PluginError):
    """A known plugin cannot be imported; the message says what to install."""


class NotSupportedError(ScrError):
    """This plugin cannot do what was asked, and says so."""


class RemoteExecError(_KeywordError):
    """Nodes on which a command did not run or not succeed. ``failures``: node -> reason."""

    failures: Mapping[str, str]

    def __init__(self, what: str, failures: Mapping[str, str]) -> None:
        first = "; ".join(f"{node}: {reason}" for node, reason in list(failures.items())[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""  # noqa: PLR2004
        super().__init__(f"{what}: {first}{more}", failures=dict(failures))


class FormatError(_KeywordError):
    """A file is not what its format demands.

    Attributes: ``path`` (str, "" if the bytes came from memory), ``offset`` (bytes, None unknown).
    """

    path: str
    offset: Optional[int]

    def __init__(self, why: str, *, path: str = "", offset: Optional[int] = None) -> None:
        where = f"{path}: " if path else ""
        at = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{where}{why}{at}", why=why, path=path, offset=offset)


class TruncatedError(FormatError):
    """The bytes end before the structure does."""


class ChecksumError(FormatError):
    """The recorded checksum is not that of the bytes."""


class UnsupportedVersionError(FormatError):
    """The file says that it is of another kind or version."""


class DatasetError(ScrError):
    """A named dataset does not exist or is not of the kind needed."""


class UnrecoverableError(ScrError):
    """More is lost than the redundancy covers; the message says what and how much."""

    exit_code = 73


class ScavengeError(ScrError):
    """A dataset could not be brought to the prefix directory."""

    exit_code = 73
