# SPDX-License-Identifier: BSD-3-Clause
"""Settings: from the environment, three files and built-in defaults, each with its source.

The first source that has a name wins, for names with several values too::

    environment > user file > app.conf (what the program set) > system file > built-in default

Reading never creates, and never fails for a fault in a file: such a line is logged with file and line,
kept in ``Param.problems``, and skipped. docs/configuration.md is the page for users.

Source: look-up and value rules of the C library 3.1, so that it and we read the same from one file.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Union

from scrjob import config
from scrjob._configfile import expand_variables, parse_bytes, parse_config
from scrjob._parameters import PARAMETERS
from scrjob.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from scrjob._configfile import Line

    StrPath = Union[str, "os.PathLike[str]"]

Tree = Dict[str, Any]  # {value: {subkey: {subvalue: {}}}}, as the published functions return it

CONFIG_LIMIT_BYTES = 1 << 20  # of one configuration file

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


class _Source(NamedTuple):
    """One configuration file as read: values in the order in which later ones win."""

    path: str
    tree: Tree
    lines: dict[tuple[str, str], int]


class Param:
    """The settings of one job.

    Args:
        environ: the environment; default: the process's own.
        prefix: where ``.scrconf`` and ``.scr/app.conf`` are; default: SCR_PREFIX, else ``cwd``.
        cwd: what relative names start from; default: the current directory.
        system_file: default: the one chosen when scrjob was built.

    Attributes:
        problems: one text for each line or file that could not be used, ``PATH:LINE: why``.
    """

    def __init__(
        self,
        *,
        environ: Optional[Mapping[str, str]] = None,
        prefix: Optional[str] = None,
        cwd: str = "",
        system_file: Optional[str] = None,
    ) -> None:
        if environ is None:
            from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

            environ = system_context().environ
        self._environ = environ
        self._cwd = cwd
        prefix = prefix or expand_variables(environ.get("SCR_PREFIX", ""), environ)
        self._prefix = os.path.join(cwd, self._home(prefix))
        self._system_file = config.SCR_SYSTEM_CONFIG_FILE if system_file is None else system_file
        self._sources: Optional[list[_Source]] = None
        self._problems: list[str] = []

    @property
    def problems(self) -> list[str]:
        """Return what could not be used in the configuration files."""
        self._files()
        return self._problems

    @property
    def user_file(self) -> str:
        """Return the path of the user's configuration file, whether it is there or not."""
        named = expand_variables(self._environ.get("SCR_CONF_FILE", ""), self._environ)
        return os.path.join(self._cwd, self._home(named) or os.path.join(self._prefix, ".scrconf"))

    def get(self, name: str) -> Optional[str]:
        """Return the value, variables expanded, None if unset; of several the last written."""
        return self._look_up(name)[0]

    def source(self, name: str) -> str:
        """Return where the value is from: environment, ``PATH:LINE``, built-in default, not set."""
        return self._look_up(name)[1]

    def get_hash(self, name: str) -> Optional[Tree]:
        """Return all values with their children, ``{value: {subkey: {subvalue: {}}}}``, None if unset.

        Values are in the order written. ``CACHE`` unset is made of SCR_CACHE_BASE and SCR_CACHE_SIZE.
        """
        if name in self._environ:
            return {self._expanded(name, self._environ[name]): {}}
        for file in self._files():
            values = file.tree.get(name)
            if values:
                return {self._expanded(name, v): children for v, children in values.items()}
        if name == "CACHE":
            size = self.get("SCR_CACHE_SIZE") or ""
            return {self.get("SCR_CACHE_BASE") or "": {"SIZE": {size: {}}}}
        default = self._default(name)
        return None if default is None else {default: {}}

    def get_int(self, name: str, default: int = 0) -> int:
        """Return a whole number; ``default`` if unset or blank.

        Raises:
            ConfigError: it is something else; names the source.
        """
        text = self.get(name)
        if text is None or not text.strip():
            return default
        if not _INTEGER.fullmatch(text):
            raise self._error(name, "a whole number")
        return int(text)

    def get_bool(self, name: str, default: bool = False) -> bool:
        """Return whether a switch is on: any number but 0; ``default`` if unset or blank.

        Raises:
            ConfigError: it is no number; the C library would take ``yes`` and ``true`` for 0.
        """
        text = self.get(name)
        if text is not None and text.strip() and not _INTEGER.fullmatch(text):
            raise self._error(name, "1 (on) or 0 (off)")
        return bool(self.get_int(name, int(default)))

    def get_bytes(self, name: str, default: int = 0) -> int:
        """Return a size in bytes, see ``abtoull``; ``default`` if unset or blank.

        Raises:
            ConfigError: it is no size; names the source.
        """
        text = self.get(name)
        if text is None or not text.strip():
            return default
        try:
            return self.abtoull(text)
        except ConfigError as error:
            raise self._error(name, "a size such as 100 or 1.5GB") from error

    def get_seconds(self, name: str, default: float = 0.0) -> float:
        """Return a time span in seconds, >= 0; ``default`` if unset or blank.

        Raises:
            ConfigError: it is no such number; names the source.
        """
        text = self.get(name)
        if text is None or not text.strip():
            return default
        try:
            seconds = float(text)
        except ValueError as error:
            raise self._error(name, "a number of seconds") from error
        if not (math.isfinite(seconds) and seconds >= 0):
            raise self._error(name, "a number of seconds, 0 or more")
        return seconds

    def read_config_file(self, filename: StrPath) -> Tree:
        """Return the tree ``{KEY: {value: {subkey: {subvalue: {}}}}}`` of a file; {} if there is none.

        Faulty lines go to the log and to ``problems``.
        """
        return self._read(os.fspath(filename)).tree

    @staticmethod
    def abtoull(stringval: str) -> int:
        """Return the bytes that a size stands for, fractions cut: ``1.5kb`` gives 1536.

        A number as C's strtod reads it, directly followed by nothing, or k m g t p e (any case, powers
        of 1024) and an optional b.

        Raises:
            ConfigError: anything else, negative, or 2**64 and more.
        """
        try:
            return parse_bytes(stringval)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _look_up(self, name: str) -> tuple[Optional[str], str]:
        if name in self._environ:
            return self._expanded(name, self._environ[name]), "environment"
        for file in self._files():
            values = file.tree.get(name)
            if values:
                value = list(values)[-1]
                return self._expanded(name, value), f"{file.path}:{file.lines[name, value]}"
        default = self._default(name)
        return default, "not set" if default is None else "built-in default"

    @staticmethod
    def _default(name: str) -> Optional[str]:
        known = PARAMETERS.get(name)
        return known.default if known else None

    def _expanded(self, name: str, value: str) -> str:
        if "$" in value:
            value = expand_variables(value, self._environ)
        known = PARAMETERS.get(name)
        # The C library knows no "~": expanding it in names of its own would make us disagree with it.
        return self._home(value) if known and "S" in known.readers else value

    def _home(self, path: str) -> str:
        """Expand a leading ``~`` (by HOME) and ``~user``; what cannot be told stays."""
        if path == "~" or path.startswith("~/"):
            home = self._environ.get("HOME")
            return home + path[1:] if home else path
        return os.path.expanduser(path) if path.startswith("~") else path

    def _error(self, name: str, expected: str) -> ConfigError:
        value, source = self._look_up(name)
        return ConfigError(f"{name}={value!r} ({source}): expected {expected}")

    def _files(self) -> list[_Source]:
        """Return user file, app.conf and system file, read once."""
        if self._sources is None:
            app = os.path.join(self._prefix, ".scr", "app.conf")
            self._sources = [
                self._read(self.user_file),
                self._read(app, raw=True, newest_first=True),
                self._read(self._system_file),
            ]
        return self._sources

    def _read(self, path: str, *, raw: bool = False, newest_first: bool = False) -> _Source:
        from scrjob._fsio import read_bounded  # noqa: PLC0415 - not if the environment has it all

        source = _Source(path, {}, {})
        try:
            text = read_bounded(path, limit=CONFIG_LIMIT_BYTES).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return source
        except FormatError as error:
            self._report(str(error))
            return source
        except (OSError, ValueError) as error:
            self._report(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
            return source
        lines, problems = parse_config(text, self._environ, raw=raw)
        for problem in problems:
            self._report(f"{path}:{problem.number}: {problem.why}; line skipped")
        for line in reversed(lines) if newest_first else lines:
            _add(source, line)
        return source

    def _report(self, problem: str) -> None:
        import logging  # noqa: PLC0415 - only when something is wrong

        if problem not in self._problems:
            self._problems.append(problem)
            logging.getLogger(__name__).warning("%s", problem)


def _add(source: _Source, line: Line) -> None:
    (key, value), *children = line.pairs
    node = source.tree.setdefault(key, {}).setdefault(value, {})
    source.lines.setdefault((key, value), line.number)
    for child_key, child_value in children:
        node.setdefault(child_key, {}).setdefault(child_value, {})
